#include "gateway/redis.hpp"

#include <charconv>
#include <utility>

#include <hiredis/hiredis.h>
#include <sys/time.h>

#include "base/log.hpp"
#include "http/url.hpp"

namespace farmesh::gateway {
namespace {

constexpr timeval kPatience{1, 0};
constexpr std::chrono::seconds kRest{1};
constexpr std::size_t kMaxIdle = 16;
constexpr int kMaxDepth = 4;

template <class Number>
bool read_number(std::string_view text, Number& number) {
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), number);
  return failure == std::errc() && end == text.data() + text.size();
}

RedisReply reply_of(const redisReply& raw, int depth = 0) {
  RedisReply reply;
  switch (raw.type) {
    case REDIS_REPLY_INTEGER: reply.number = raw.integer; break;
    case REDIS_REPLY_STRING:
    case REDIS_REPLY_STATUS: reply.text = std::string(raw.str, std::size_t(raw.len)); break;
    case REDIS_REPLY_ARRAY:
      for (std::size_t i = 0; i < raw.elements && depth < kMaxDepth; ++i) {
        reply.parts.push_back(reply_of(*raw.element[i], depth + 1));
      }
      break;
    default: break;  // nil
  }
  return reply;
}

}  // namespace

Result<RedisAddress> RedisAddress::parse(const std::string& url) {
  const Error wrong{Errc::config_invalid,
                    "the Redis address is not redis://[:PASSWORD@]HOST[:PORT][/DATABASE]"};
  constexpr std::string_view kScheme = "redis://";
  if (!url.starts_with(kScheme)) return wrong;
  std::string_view rest = std::string_view(url).substr(kScheme.size());
  RedisAddress address;
  if (const std::size_t at = rest.rfind('@'); at != std::string_view::npos) {
    const std::string_view who = rest.substr(0, at);
    rest.remove_prefix(at + 1);
    const std::size_t colon = who.find(':');
    if (colon == std::string_view::npos) return wrong;
    const auto user = http::percent_decode(who.substr(0, colon));
    const auto password = http::percent_decode(who.substr(colon + 1));
    if (!user || !password) return wrong;
    address.user = *user;
    address.password = *password;
  }
  if (const std::size_t slash = rest.find('/'); slash != std::string_view::npos) {
    const std::string_view database = rest.substr(slash + 1);
    rest = rest.substr(0, slash);
    if (!database.empty() && (!read_number(database, address.database) || address.database < 0)) {
      return wrong;
    }
  }
  if (const std::size_t colon = rest.rfind(':');
      colon != std::string_view::npos && rest.back() != ']') {
    if (!read_number(rest.substr(colon + 1), address.port) || address.port == 0) return wrong;
    rest = rest.substr(0, colon);
  }
  if (rest.size() > 2 && rest.front() == '[' && rest.back() == ']') {
    rest = rest.substr(1, rest.size() - 2);
  }
  if (rest.empty()) return wrong;
  address.host = rest;
  return address;
}

// One connection. Not thread-safe.
class Redis::Link {
 public:
  explicit Link(const RedisAddress& address)
      : context_(redisConnectWithTimeout(address.host.c_str(), address.port, kPatience)) {
    if (!good()) return;
    redisSetTimeout(context_, kPatience);
    redisEnableKeepAlive(context_);
    if (!address.password.empty()) {
      std::vector<std::string> words{"AUTH"};
      if (!address.user.empty()) words.push_back(address.user);
      words.push_back(address.password);
      refused_ = !run(words);
    }
    if (!refused_ && address.database != 0) {
      refused_ = !run({"SELECT", std::to_string(address.database)});
    }
  }
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;
  ~Link() {
    if (context_ != nullptr) redisFree(context_);
  }

  bool good() const noexcept { return context_ != nullptr && context_->err == 0 && !refused_; }
  std::string why() const {
    if (refused_) return "the password or the database is refused";
    return context_ == nullptr ? "out of memory" : context_->errstr;
  }

  Result<RedisReply> run(const std::vector<std::string>& words) {
    std::vector<const char*> texts;
    std::vector<std::size_t> sizes;
    for (const std::string& word : words) {
      texts.push_back(word.data());
      sizes.push_back(word.size());
    }
    const std::unique_ptr<void, decltype(&freeReplyObject)> raw(
        redisCommandArgv(context_, int(words.size()), texts.data(), sizes.data()), freeReplyObject);
    if (raw == nullptr) return {Errc::ledger_unavailable, why()};
    const auto& reply = *static_cast<const redisReply*>(raw.get());
    if (reply.type != REDIS_REPLY_ERROR) return reply_of(reply);
    // The server's words may quote what it was sent.
    const std::string_view said(reply.str, std::size_t(reply.len));
    return {Errc::ledger_unavailable, std::string(said.substr(0, said.find(' ')))};
  }

 private:
  redisContext* context_;
  bool refused_ = false;
};

Redis::Redis(RedisAddress address) : address_(std::move(address)) {}
Redis::~Redis() = default;

Result<std::unique_ptr<Redis::Link>> Redis::take() {
  {
    const std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      std::unique_ptr<Link> link = std::move(idle_.back());
      idle_.pop_back();
      return link;
    }
    if (std::chrono::steady_clock::now() < again_at_) {
      return {Errc::ledger_unavailable, "Redis was not reached a moment ago"};
    }
  }
  auto link = std::make_unique<Link>(address_);
  if (!link->good()) return failed(link->why());
  return link;
}

void Redis::give_back(std::unique_ptr<Link> link) {
  const std::lock_guard lock(mutex_);
  if (idle_.size() < kMaxIdle) idle_.push_back(std::move(link));
}

Error Redis::failed(const std::string& why) {
  {
    const std::lock_guard lock(mutex_);
    again_at_ = std::chrono::steady_clock::now() + kRest;
    idle_.clear();  // they lead to the same server
  }
  log(LogLevel::warning, "gateway", "Redis: " + why);
  return {Errc::ledger_unavailable, "Redis: " + why};
}

Result<RedisReply> Redis::command(const std::vector<std::string>& words) {
  // A connection that lay idle may have been closed by the server: that one is tried again.
  for (bool again : {true, false}) {
    Result<std::unique_ptr<Link>> link = take();
    if (!link) return link.error();
    Result<RedisReply> reply = (*link)->run(words);
    if (reply) {
      give_back(std::move(*link));
      return reply;
    }
    if ((*link)->good()) {  // an answer, and the answer is no
      give_back(std::move(*link));
      return {Errc::ledger_unavailable, "Redis refused: " + reply.error().detail};
    }
    if (!again) return failed(reply.error().detail);
    const std::lock_guard lock(mutex_);
    idle_.clear();
  }
  return Error{Errc::ledger_unavailable, "Redis"};
}

}  // namespace farmesh::gateway
