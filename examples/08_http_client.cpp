// Asks a coordinator over HTTP, as the Python and TypeScript packages do.
//
//   farmesh coordinator --model models/demo --public-budget 100 --no-ledger &
//   08_http_client http://localhost:8100 "Tell me a story."
//
// A key comes from FARLABS_API_KEY. A stream that breaks goes on where it broke.
#include <cstdio>

#include <farmesh/far_mesh.hpp>

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: 08_http_client URL MESSAGE\n");
    return 2;
  }
  farmesh::ConnectOptions options;
  options.base_url = argv[1];
  const auto mesh = farmesh::FarMesh::connect(options);
  if (!mesh) {
    std::fprintf(stderr, "%s\n", mesh.error().to_string().c_str());
    return 1;
  }

  farmesh::MeshStream answer = mesh->chat(argv[2], {.max_tokens = 100});
  for (const std::string& text : answer) {
    std::printf("%s", text.c_str());
    std::fflush(stdout);
  }
  std::printf("\n\n");
  if (const auto error = answer.error()) {
    std::fprintf(stderr, "%s\n", error->to_string().c_str());
    return 1;
  }

  const farmesh::MeshUsage usage = answer.usage();
  std::printf("%llu tokens", static_cast<unsigned long long>(usage.tokens));
  if (usage.cost) std::printf(" for %s $FAR", usage.cost->to_string().c_str());
  std::printf(", the first after %.0f ms\n", usage.ttft_ms);
  for (const farmesh::NodeUse& node : usage.nodes_used) {
    std::printf("layers %u:%u by %.12s\n", node.layers.begin, node.layers.end,
                node.node_id.c_str());
  }
  return 0;
}
