#include "node/bandwidth.hpp"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <limits>
#include <utility>

#include "base/bytes.hpp"
#include "wire/messages.hpp"

namespace farmesh::node {
namespace {

constexpr std::size_t kSizes[] = {64u << 10, 512u << 10, 4u << 20};
constexpr std::chrono::milliseconds kTelling{50};  // beyond the round trip
constexpr std::chrono::hours kRemembered{24};

std::uint32_t kbps_of(std::size_t bytes, Duration time) {
  const double ms = std::max(std::chrono::duration<double, std::milli>(time).count(), 1e-3);
  const double most = std::numeric_limits<std::uint32_t>::max();
  return static_cast<std::uint32_t>(std::clamp(static_cast<double>(bytes) * 8 / ms, 1.0, most));
}

}  // namespace

net::Task<std::uint32_t> measure_bandwidth(std::shared_ptr<net::Connection> peer,
                                           TimePoint deadline) {
  Duration round_trip = peer->round_trip();
  std::uint32_t kbps = 0;
  for (const std::size_t size : kSizes) {
    AlignedBuffer zeros(size);
    std::memset(zeros.data(), 0, size);
    const TimePoint began = peer->clock().now();
    auto asking = peer->call(wire::Verb::ping, wire::encode(wire::Ping{}),
                             Payload(std::move(zeros)), deadline);
    const Result<wire::Frame> answer = co_await std::move(asking);
    if (!answer) co_return kbps;
    const Duration took = peer->clock().now() - began;
    kbps = kbps_of(size, took - std::min(round_trip, took / 2));
    if (took - round_trip >= kTelling) break;
    round_trip = std::min(round_trip, took);
  }
  co_return kbps;
}

std::uint32_t remembered_bandwidth(const std::filesystem::path& file,
                                   std::chrono::system_clock::time_point now) {
  std::ifstream in(file);
  std::uint32_t kbps = 0;
  std::int64_t seconds = 0;
  if (!(in >> kbps >> seconds)) return 0;
  const auto age = now - std::chrono::system_clock::from_time_t(seconds);
  return age >= std::chrono::seconds(-60) && age < kRemembered ? kbps : 0;
}

void remember_bandwidth(const std::filesystem::path& file, std::uint32_t kbps,
                        std::chrono::system_clock::time_point now) {
  if (file.empty()) return;
  std::error_code ignored;
  std::filesystem::create_directories(file.parent_path(), ignored);
  std::ofstream(file, std::ios::trunc)
      << kbps << ' ' << std::chrono::system_clock::to_time_t(now) << '\n';
}

}  // namespace farmesh::node
