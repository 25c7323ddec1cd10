#include "sdk/retries.hpp"

#include <algorithm>
#include <random>

namespace farmesh::sdk {
namespace {

using std::chrono::milliseconds;

bool is_passing(const MeshError& error) {
  switch (error.kind) {
    case MeshFailure::rate_limited:
    case MeshFailure::unavailable: return true;
    case MeshFailure::connection:
      // A wrong name, certificate or protocol is as wrong the next time.
      return error.code == name(Errc::connection_refused) ||
             error.code == name(Errc::connection_lost) || error.code == name(Errc::io_error);
    default: return false;
  }
}

/// A part of `wait` between its half and the whole, so that those who failed together come back
/// apart.
milliseconds spread(milliseconds wait) {
  thread_local std::minstd_rand random{std::random_device{}()};
  std::uniform_int_distribution<milliseconds::rep> part(wait.count() / 2, wait.count());
  return milliseconds(part(random));
}

}  // namespace

std::optional<milliseconds> Retries::after(const MeshError& error) {
  if (failures_ >= options_.max_retries || !is_passing(error)) return std::nullopt;
  if (error.retry_after && *error.retry_after > options_.max_retry_wait) return std::nullopt;
  const milliseconds doubled = options_.retry_wait * (1LL << std::min(failures_, 20));
  ++failures_;
  const milliseconds own = spread(std::clamp(doubled, milliseconds(0), options_.max_retry_wait));
  return error.retry_after ? std::max<milliseconds>(own, *error.retry_after) : own;
}

}  // namespace farmesh::sdk
