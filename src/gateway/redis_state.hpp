// What several coordinators share through Redis: turns to resume, and rate limits.
//
// Redis sees no prompt, token, name or address: values are sealed and names are keyed hashes, both
// with a key that the coordinators share. Everything there expires by itself.
#pragma once

#include <memory>
#include <string>

#include "base/sealed_box.hpp"
#include "gateway/rate_limiter.hpp"
#include "gateway/redis.hpp"
#include "gateway/request_board.hpp"
#include "gateway/session_cache.hpp"

namespace farmesh::gateway {

/// A key for the below out of a secret text of 16 bytes or more. Fails with config_invalid.
Result<SealedBox::Key> shared_key(const std::string& secret);

class RedisSessionCache final : public SessionCache {
 public:
  RedisSessionCache(std::shared_ptr<Redis> redis, const SealedBox::Key& key);

  Result<void> open(const CachedTurn& turn) override;
  Result<bool> append(const std::string& request_id, const std::string& writer, std::size_t from,
                      std::span<const CachedItem> items) override;
  Result<std::optional<CachedTurn>> find(const std::string& request_id) override;

 private:
  std::string name_of(const std::string& request_id, const char* part) const;

  const std::shared_ptr<Redis> redis_;
  const SealedBox::Key key_;
  const SealedBox box_;
};

class RedisRequestBoard final : public RequestBoard {
 public:
  RedisRequestBoard(std::shared_ptr<Redis> redis, const SealedBox::Key& key);

  Result<bool> tell(const RequestRecord& record, std::uint64_t revision, bool first) override;
  Result<bool> tell_alive(const std::string& request_id, std::uint64_t stream) override;
  Result<std::optional<RequestRecord>> find(const std::string& request_id) override;
  Result<bool> ask_cancel(const std::string& request_id) override;

 private:
  std::string name_of(const std::string& request_id) const;

  const std::shared_ptr<Redis> redis_;
  const SealedBox::Key key_;
  const SealedBox box_;
};

/// Falls back on buckets of this process's own while Redis is away.
class RedisRateLimits final : public RateLimits {
 public:
  RedisRateLimits(std::shared_ptr<Redis> redis, const SealedBox::Key& key);

  RateVerdict take(const std::string& name, const RateLimit& limit, double amount) override;
  void charge(const std::string& name, const RateLimit& limit, double amount) override;

 private:
  std::optional<RateVerdict> ask(const std::string& name, const RateLimit& limit, double amount,
                                 bool force);

  const std::shared_ptr<Redis> redis_;
  const SealedBox::Key key_;
  RateLimiter own_;
};

}  // namespace farmesh::gateway
