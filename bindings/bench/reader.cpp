// The C++ calls that the bindings are measured against: reads a stream to its end, and prints how
// long this thread computed for each piece, in nanoseconds. reader URL: of a coordinator's text;
// reader URL MODEL: of the tokens of a Session here, all made before.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <thread>

#include <farmesh/farmesh.hpp>

namespace {

std::int64_t thread_ns() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return std::int64_t(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

template <class Stream>
int read(Stream stream) {
  std::int64_t pieces = 0;
  const std::int64_t began = thread_ns();
  for (auto piece = stream.begin(); piece != stream.end(); ++piece) ++pieces;
  const std::int64_t took = thread_ns() - began;
  if (stream.error() || pieces == 0) return 1;
  std::printf("%lld\n", static_cast<long long>(took / pieces));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2) {
    const auto mesh = farmesh::FarMesh::connect({.base_url = argv[1], .model = "m"});
    return mesh ? read(mesh->generate("x")) : 1;
  }
  if (argc != 3) return 2;
  const auto model = farmesh::DistributedModel::open({.folder = argv[2], .local = true});
  if (!model) return 1;
  auto session = model->open_session({.buffer_tokens = 500});
  auto stream = session->generate("Once", {.max_tokens = 400, .ignore_eos = true});
  while (stream.usage().finish == farmesh::FinishReason::none && !stream.error()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return read(std::move(stream));
}
