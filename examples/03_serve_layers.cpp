// A peer: holds a run of a model's layers and serves them until it is told to stop.
//
//   03_serve_layers models/demo 0 3 127.0.0.1:31330 &
//   03_serve_layers models/demo 3 6 127.0.0.1:31331 &
//   07_over_peers models/demo "Once upon a time" 127.0.0.1:31330 127.0.0.1:31331
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

#include <farmesh/farmesh.hpp>

int main(int argc, char** argv) {
  if (argc != 5) {
    std::fprintf(stderr, "usage: 03_serve_layers MODEL_FOLDER FIRST END HOST:PORT\n");
    return 2;
  }
  // Before the peer's threads begin, so that all of them leave the signals to us.
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGINT);
  sigaddset(&ends, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &ends, nullptr);

  farmesh::PeerOptions options;
  options.folder = argv[1];
  options.layers = {std::uint32_t(std::atoi(argv[2])), std::uint32_t(std::atoi(argv[3]))};
  options.listen = argv[4];
  farmesh::Result<farmesh::Peer> peer = farmesh::Peer::start(options);
  if (!peer) {
    std::fprintf(stderr, "%s\n", peer.error().to_string().c_str());
    return 1;
  }
  std::printf("listening on %s as %.12s\n", peer->address().c_str(), peer->node_id().c_str());
  std::fflush(stdout);

  int signal = 0;
  sigwait(&ends, &signal);
  peer->stop(std::chrono::seconds(10));  // sessions that are open may end
  const farmesh::PeerStats stats = peer->stats();
  std::printf("%llu rows in %llu steps\n", static_cast<unsigned long long>(stats.rows),
              static_cast<unsigned long long>(stats.steps));
  return 0;
}
