// Turns under way as another stream needs them to go on: what was asked, the seed, the prices, and
// the tokens so far. Kept for an hour after the last word, by this process or, for several
// coordinators, by Redis (redis_state.hpp).
//
// Takes a turn's beginning and its items as they come, gives them to whoever resumes it.
// Thread-safe.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <farmesh/money.hpp>
#include <farmesh/result.hpp>
#include <farmesh/types.hpp>

namespace farmesh::gateway {

/// A token of one of the turn's sequences, in the order in which the stream tells them, or the end
/// of that sequence.
struct CachedItem {
  static constexpr TokenId kEnd = UINT32_MAX;

  std::uint32_t sequence = 0;
  TokenId token = kEnd;

  bool is_end() const noexcept { return token == kEnd; }
  friend bool operator==(const CachedItem&, const CachedItem&) = default;
};

struct CachedTurn {
  std::string request_id;
  std::string writer;   // the stream that adds items: random, another for each resumption
  std::string account;  // whose request it is
  std::string path;     // the route that it came by
  std::string body;     // as it came
  std::string body_digest;
  std::string model_id;
  std::string fingerprint;   // of weights and numerics: equal ones give equal tokens
  std::int64_t created = 0;  // Unix seconds
  std::uint64_t seed = 0;
  Far price_per_token;
  Far price_per_prompt_token;
  std::vector<std::uint32_t> max_tokens;  // of each sequence, as it was admitted
  std::vector<CachedItem> items;
  bool resumable = true;  // false: a fallback without token ids made it

  friend bool operator==(const CachedTurn&, const CachedTurn&) = default;
};

class SessionCache {
 public:
  static constexpr std::chrono::hours kKept{1};

  virtual ~SessionCache() = default;

  /// Keeps the turn, in place of what was kept under its request id. Fails with busy or
  /// ledger_unavailable when it cannot.
  virtual Result<void> open(const CachedTurn& turn) = 0;
  /// Adds the items from number `from` on. False: another stream writes this turn now, or nobody
  /// knows it any more. Fails as open() does.
  virtual Result<bool> append(const std::string& request_id, const std::string& writer,
                              std::size_t from, std::span<const CachedItem> items) = 0;
  /// Nothing when it is not known.
  virtual Result<std::optional<CachedTurn>> find(const std::string& request_id) = 0;
};

/// A turn without its items, and a run of items from number `from` on, as bytes. decode_ fail with
/// config_invalid: bytes of another version.
std::string encode_turn(const CachedTurn& turn);
Result<CachedTurn> decode_turn(std::string_view bytes);
std::string encode_items(std::size_t from, std::span<const CachedItem> items);
/// Puts the run in its place behind what `items` begins with.
Result<void> decode_items(std::string_view bytes, std::vector<CachedItem>& items);

/// This process's own. Bounded: the oldest turns are forgotten first.
class MemorySessionCache final : public SessionCache {
 public:
  using Clock = std::chrono::steady_clock;
  struct Options {
    std::size_t max_turns = 4'096;
    std::size_t max_bytes = std::size_t(64) << 20;  // of bodies and items
  };

  MemorySessionCache() = default;
  explicit MemorySessionCache(Options options) : options_(options) {}

  Result<void> open(const CachedTurn& turn) override;
  Result<bool> append(const std::string& request_id, const std::string& writer, std::size_t from,
                      std::span<const CachedItem> items) override;
  Result<std::optional<CachedTurn>> find(const std::string& request_id) override;

  std::size_t bytes() const;

 private:
  struct Entry {
    CachedTurn turn;
    Clock::time_point last;
  };
  using Order = std::list<Entry>;  // the one with the oldest last word first
  void erase(Order::iterator at);
  void touch(Order::iterator at, Clock::time_point now);
  void forget(Clock::time_point now, std::size_t coming = 0);

  const Options options_;
  mutable std::mutex mutex_;
  Order order_;
  std::map<std::string, Order::iterator> turns_;
  std::size_t bytes_ = 0;
};

}  // namespace farmesh::gateway
