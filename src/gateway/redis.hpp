// A few connections to one Redis server (hiredis inside): commands go in, replies come out.
//
// Blocking, each command within a second. After a failure the server is left alone for a moment,
// so that a dead one delays nobody: calls fail at once then. Thread-safe.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <farmesh/result.hpp>

namespace farmesh::gateway {

/// "redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE]". Fails with config_invalid; the password is
/// in no message.
struct RedisAddress {
  std::string host;
  std::uint16_t port = 6'379;
  std::string user, password;
  int database = 0;

  static Result<RedisAddress> parse(const std::string& url);
};

/// What a command gave: nothing, a number, a text, or several of these.
struct RedisReply {
  std::optional<std::int64_t> number;
  std::optional<std::string> text;
  std::vector<RedisReply> parts;
};

class Redis {
 public:
  explicit Redis(RedisAddress address);
  ~Redis();

  /// Fails with ledger_unavailable: not reached, no answer in time, or refused by the server.
  Result<RedisReply> command(const std::vector<std::string>& words);

 private:
  class Link;
  Result<std::unique_ptr<Link>> take();
  void give_back(std::unique_ptr<Link> link);
  Error failed(const std::string& why);

  const RedisAddress address_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Link>> idle_;
  std::chrono::steady_clock::time_point again_at_;  // not tried before
};

}  // namespace farmesh::gateway
