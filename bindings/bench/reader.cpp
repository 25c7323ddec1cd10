// The C++ call that the bindings are measured against: reads one stream to its end, and prints how
// long this thread computed for each piece, in nanoseconds.
#include <cstdint>
#include <cstdio>
#include <ctime>

#include <farmesh/far_mesh.hpp>

namespace {

std::int64_t thread_ns() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return std::int64_t(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const auto mesh = farmesh::FarMesh::connect({.base_url = argv[1], .model = "m"});
  if (!mesh) return 1;
  farmesh::MeshStream stream = mesh->generate("x");
  std::size_t bytes = 0;
  std::int64_t pieces = 0;
  const std::int64_t began = thread_ns();
  for (const std::string& text : stream) {
    bytes += text.size();
    ++pieces;
  }
  const std::int64_t took = thread_ns() - began;
  if (stream.error() || pieces == 0 || bytes == 0) return 1;
  std::printf("%lld\n", static_cast<long long>(took / pieces));
  return 0;
}
