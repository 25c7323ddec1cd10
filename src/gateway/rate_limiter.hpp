// Token buckets by name: how much an account or address may ask for in a while.
//
// A bucket holds `limit` and refills evenly over `window`, so a burst may spend it whole and a
// steady client never waits. Thread-safe. Bounded: full buckets are forgotten, since a new one is
// full as well.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <unordered_map>

namespace farmesh::gateway {

struct RateLimit {
  double limit = 100;  // 0: no limit
  std::chrono::seconds window{3'600};
};

struct RateVerdict {
  bool allowed = true;
  std::uint64_t limit = 0;  // 0: none
  std::uint64_t remaining = 0;
  std::chrono::seconds reset{0};        // until the bucket is full again
  std::chrono::seconds retry_after{0};  // until this would have been allowed; 0 when it was
};

/// What a bucket with `level` left says of `amount`.
RateVerdict verdict_of(const RateLimit& limit, double level, double amount, bool allowed);

class RateLimits {
 public:
  virtual ~RateLimits() = default;

  /// Takes `amount` out of the bucket, if it is there.
  virtual RateVerdict take(const std::string& name, const RateLimit& limit, double amount) = 0;
  RateVerdict take(const std::string& name, const RateLimit& limit) { return take(name, limit, 1); }
  /// Takes it even if that leaves less than nothing: for what is known only afterwards.
  virtual void charge(const std::string& name, const RateLimit& limit, double amount) = 0;
};

/// This process's own buckets.
class RateLimiter final : public RateLimits {
 public:
  using Clock = std::chrono::steady_clock;

  explicit RateLimiter(std::size_t max_buckets = 100'000) : max_buckets_(max_buckets) {}

  using RateLimits::take;
  RateVerdict take(const std::string& name, const RateLimit& limit, double amount) override {
    return take(name, limit, amount, Clock::now());
  }
  void charge(const std::string& name, const RateLimit& limit, double amount) override {
    charge(name, limit, amount, Clock::now());
  }
  RateVerdict take(const std::string& name, const RateLimit& limit, double amount,
                   Clock::time_point now);
  void charge(const std::string& name, const RateLimit& limit, double amount,
              Clock::time_point now);

 private:
  struct Bucket {
    double level = 0;
    Clock::time_point at;
    Clock::time_point full;  // when it will be
  };
  Bucket& fill(const std::string& name, const RateLimit& limit, Clock::time_point now);
  void forget(Clock::time_point now);

  const std::size_t max_buckets_;
  std::mutex mutex_;
  std::unordered_map<std::string, Bucket> buckets_;
};

}  // namespace farmesh::gateway
