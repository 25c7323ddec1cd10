// The C++ calls that the bindings are measured against; prints nanoseconds for each piece.
//   reader text URL      what this thread computed, for pieces that were there already
//   reader tokens MODEL  the same for the tokens of a Session here, all made before
//   reader late URL      the median from the server's send to the reader, who waits for each piece
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <farmesh/farmesh.hpp>

namespace {

std::int64_t now_ns(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return std::int64_t(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

template <class Stream>
std::optional<std::int64_t> computed(Stream stream) {
  std::int64_t pieces = 0;
  const std::int64_t began = now_ns(CLOCK_THREAD_CPUTIME_ID);
  for (auto piece = stream.begin(); piece != stream.end(); ++piece) ++pieces;
  const std::int64_t took = now_ns(CLOCK_THREAD_CPUTIME_ID) - began;
  if (stream.error() || pieces == 0) return std::nullopt;
  return took / pieces;
}

std::optional<std::int64_t> late(farmesh::MeshStream stream) {
  std::vector<std::int64_t> times;
  for (const std::string& text : stream) {
    times.push_back(now_ns(CLOCK_MONOTONIC) - std::stoll(text));
  }
  if (stream.error() || times.empty()) return std::nullopt;
  const auto middle = times.begin() + std::ptrdiff_t(times.size() / 2);
  std::nth_element(times.begin(), middle, times.end());
  return *middle;
}

std::optional<farmesh::MeshStream> ask(const char* url, const char* model) {
  const auto mesh = farmesh::FarMesh::connect({.base_url = url, .model = model});
  if (!mesh) return std::nullopt;
  return mesh->generate("x");
}

std::optional<farmesh::TokenStream> made_before(const char* folder) {
  const auto model = farmesh::DistributedModel::open({.folder = folder, .local = true});
  if (!model) return std::nullopt;
  auto session = model->open_session({.buffer_tokens = 500});
  auto stream = session->generate("Once", {.max_tokens = 400, .ignore_eos = true});
  while (stream.usage().finish == farmesh::FinishReason::none && !stream.error()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return stream;
}

std::optional<std::int64_t> measure(std::string_view what, const char* where) {
  if (what == "tokens") {
    auto stream = made_before(where);
    return stream ? computed(*std::move(stream)) : std::nullopt;
  }
  auto stream = ask(where, what == "late" ? "paced" : "m");
  if (!stream) return std::nullopt;
  return what == "late" ? late(*std::move(stream)) : computed(*std::move(stream));
}

}  // namespace

int main(int argc, char** argv) {
  const auto ns = argc == 3 ? measure(argv[1], argv[2]) : std::nullopt;
  if (ns) std::printf("%lld\n", static_cast<long long>(*ns));
  return ns ? 0 : 1;
}
