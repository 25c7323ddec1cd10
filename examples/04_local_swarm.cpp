// Peers and their user in one program: three peers share a model's layers, a fourth is spare;
// one of the three leaves in mid-text, and the text is the one that nothing interrupted.
//
//   04_local_swarm models/demo
#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include <farmesh/farmesh.hpp>

namespace {

using farmesh::Result;

// The text after "Once upon a time". After `leave_after` tokens, `leaver` stops serving.
Result<std::string> tell(const std::string& folder, const std::vector<std::string>& peers,
                         farmesh::Peer* leaver, std::uint32_t leave_after) {
  const auto model = farmesh::DistributedModel::open({.folder = folder, .peers = peers});
  if (!model) return model.error();
  auto session = model->open_session({.buffer_tokens = 1});
  if (!session) return session.error();

  farmesh::GenerateOptions options;
  options.max_tokens = 60;
  options.sampling.temperature = 0;
  farmesh::TokenStream stream = session->generate("Once upon a time", options);
  std::string text;
  for (const farmesh::Token& token : stream) {
    text += token.text;
    if (leaver != nullptr && stream.usage().tokens == leave_after) leaver->stop();
  }
  if (const std::optional<farmesh::Error> error = stream.error()) return *error;
  std::printf("%u peers replaced:%s\n\n", stream.usage().recoveries, text.c_str());
  return text;
}

int fail(const farmesh::Error& error) {
  std::fprintf(stderr, "%s\n", error.to_string().c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: 04_local_swarm MODEL_FOLDER\n");
    return 2;
  }
  const std::string folder = argv[1];
  const auto model = farmesh::DistributedModel::open({.folder = folder, .local = true});
  if (!model) return fail(model.error());
  const std::uint32_t layers = model->info().num_layers;
  const std::uint32_t a = layers / 3;
  const std::uint32_t b = 2 * layers / 3;

  std::vector<farmesh::Peer> peers;
  std::vector<std::string> addresses;
  for (const farmesh::Span span : {farmesh::Span{0, a}, {a, b}, {b, layers}, {a, b}}) {
    Result<farmesh::Peer> peer =
        farmesh::Peer::start({.folder = folder, .layers = span, .threads = 1});
    if (!peer) return fail(peer.error());
    addresses.push_back(peer->address());
    peers.push_back(*std::move(peer));
  }

  const Result<std::string> whole = tell(folder, addresses, nullptr, 0);
  if (!whole) return fail(whole.error());
  const Result<std::string> rescued = tell(folder, addresses, &peers[1], 20);
  if (!rescued) return fail(rescued.error());
  std::printf("%s\n", *whole == *rescued ? "the same text" : "another text");
  return *whole == *rescued ? 0 : 1;
}
