// A model whose layers are on other machines; here are only its head and the tokens.
//
//   farmesh node --model models/demo --layers 0:4 --listen 127.0.0.1:31330 &
//   farmesh node --model models/demo --layers 4:8 --listen 127.0.0.1:31331 &
//   07_over_peers models/demo "Once upon a time" 127.0.0.1:31330 127.0.0.1:31331
//
// More peers than needed are spare ones: when one is lost, the text goes on without a gap.
#include <cstdio>

#include <farmesh/farmesh.hpp>

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: 07_over_peers MODEL_FOLDER PROMPT HOST:PORT…\n");
    return 2;
  }
  farmesh::ModelOptions options;
  options.folder = argv[1];
  options.peers.assign(argv + 3, argv + argc);
  const auto model = farmesh::DistributedModel::open(options);
  if (!model) {
    std::fprintf(stderr, "%s\n", model.error().to_string().c_str());
    return 1;
  }
  for (const farmesh::PeerStatus& peer : model->info().peers) {
    if (peer.refused) {
      std::fprintf(stderr, "not used: %s: %s\n", peer.address.c_str(),
                   peer.refused->to_string().c_str());
    }
  }
  auto session = model->open_session();
  if (!session) {
    std::fprintf(stderr, "%s\n", session.error().to_string().c_str());
    return 1;
  }

  farmesh::TokenStream stream = session->generate(argv[2], {.max_tokens = 100});
  for (const farmesh::Token& token : stream) {
    std::printf("%s", token.text.c_str());
    std::fflush(stdout);
  }
  std::printf("\n\n");
  if (const auto error = stream.error()) {
    std::fprintf(stderr, "%s\n", error->to_string().c_str());
    return 1;
  }

  const farmesh::Usage usage = stream.usage();
  std::printf("%u tokens, %.1f a second, %u peers replaced\n", usage.tokens,
              usage.tokens_per_second, usage.recoveries);
  for (const farmesh::HopUsage& hop : usage.hops) {
    std::printf("layers %u:%u at %s: %.2f ms a token\n", hop.span.begin, hop.span.end,
                hop.peer.c_str(), hop.ms);
  }
  return 0;
}
