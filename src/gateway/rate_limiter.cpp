#include "gateway/rate_limiter.hpp"

#include <algorithm>
#include <cmath>

namespace farmesh::gateway {
namespace {

using Seconds = std::chrono::duration<double>;

std::chrono::seconds rounded_up(double seconds) {
  return std::chrono::seconds(std::int64_t(std::ceil(std::max(0.0, seconds))));
}

}  // namespace

RateVerdict verdict_of(const RateLimit& limit, double level, double amount, bool allowed) {
  const double per_second = limit.limit / double(limit.window.count());
  RateVerdict verdict;
  verdict.limit = std::uint64_t(limit.limit);
  verdict.allowed = allowed;
  if (!allowed) verdict.retry_after = rounded_up((amount - level) / per_second);
  verdict.remaining = std::uint64_t(std::max(0.0, std::floor(level)));
  verdict.reset = rounded_up((limit.limit - level) / per_second);
  return verdict;
}

RateLimiter::Bucket& RateLimiter::fill(const std::string& name, const RateLimit& limit,
                                       Clock::time_point now) {
  if (buckets_.size() >= max_buckets_ && !buckets_.contains(name)) forget(now);
  const auto [at, is_new] = buckets_.try_emplace(name, Bucket{limit.limit, now, now});
  Bucket& bucket = at->second;
  const double per_second = limit.limit / double(limit.window.count());
  bucket.level =
      std::min(limit.limit, bucket.level + per_second * Seconds(now - bucket.at).count());
  bucket.at = now;
  return bucket;
}

RateVerdict RateLimiter::take(const std::string& name, const RateLimit& limit, double amount,
                              Clock::time_point now) {
  if (limit.limit <= 0) return {};
  const std::lock_guard lock(mutex_);
  Bucket& bucket = fill(name, limit, now);
  const bool allowed = bucket.level >= amount;
  if (allowed) bucket.level -= amount;
  const RateVerdict verdict = verdict_of(limit, bucket.level, amount, allowed);
  bucket.full = now + verdict.reset;
  return verdict;
}

void RateLimiter::charge(const std::string& name, const RateLimit& limit, double amount,
                         Clock::time_point now) {
  if (limit.limit <= 0) return;
  const std::lock_guard lock(mutex_);
  Bucket& bucket = fill(name, limit, now);
  bucket.level -= amount;
  const double per_second = limit.limit / double(limit.window.count());
  bucket.full = now + rounded_up((limit.limit - bucket.level) / per_second);
}

void RateLimiter::forget(Clock::time_point now) {
  std::erase_if(buckets_, [now](const auto& item) { return item.second.full <= now; });
  // All in use by as many names at once: starting afresh forgives some, and keeps the bound.
  if (buckets_.size() >= max_buckets_) buckets_.clear();
}

}  // namespace farmesh::gateway
