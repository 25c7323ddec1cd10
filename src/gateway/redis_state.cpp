#include "gateway/redis_state.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <span>
#include <utility>

#include "base/digest.hpp"

namespace farmesh::gateway {
namespace {

constexpr std::size_t kMinSecretBytes = 16;

std::string hashed(const SealedBox::Key& key, const std::string& text) {
  const Sha256Digest digest =
      hmac_sha256(std::as_bytes(std::span(key)), std::as_bytes(std::span(text)));
  return to_hex(std::span(digest).first(16));
}

std::string kept_seconds() {
  return std::to_string(std::chrono::seconds(SessionCache::kKept).count());
}

// KEYS: items, writer. ARGV: writer, seconds, sealed items. 0 when another stream writes.
constexpr const char* kAppend = R"(
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('RPUSH', KEYS[1], ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('EXPIRE', KEYS[2], ARGV[2])
return 1)";

// KEYS: items, writer. ARGV: writer, seconds, sealed turn, sealed items.
constexpr const char* kOpen = R"(
redis.call('DEL', KEYS[1])
redis.call('RPUSH', KEYS[1], ARGV[3], ARGV[4])
redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[2])
return 1)";

// KEYS: bucket. ARGV: limit, window in seconds, amount, force. By Redis's own clock, so that the
// coordinators' need not agree. Gives whether it was taken, and the level then.
constexpr const char* kTake = R"(
local limit, per = tonumber(ARGV[1]), tonumber(ARGV[1]) / tonumber(ARGV[2])
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
local kept = redis.call('HMGET', KEYS[1], 'level', 'at')
local level = tonumber(kept[1]) or limit
level = math.min(limit, level + per * math.max(0, now - (tonumber(kept[2]) or now)))
local amount = tonumber(ARGV[3])
local taken = 0
if level >= amount or ARGV[4] == '1' then
  level = level - amount
  taken = 1
end
redis.call('HSET', KEYS[1], 'level', string.format('%.6f', level), 'at', string.format('%.6f', now))
redis.call('EXPIRE', KEYS[1], math.ceil((limit - level) / per) + 1)
return {taken, string.format('%.6f', level)})";

// KEYS: request. ARGV: stream, revision, seconds, first, sealed record or nothing. What was told
// counts when this stream takes the request over, or has it and tells something newer.
constexpr const char* kTell = R"(
local time = redis.call('TIME')[1]
if ARGV[4] == '1' then
  redis.call('DEL', KEYS[1])
else
  local kept = redis.call('HMGET', KEYS[1], 'stream', 'revision', 'cancel')
  if kept[1] and kept[1] ~= ARGV[1] then return 0 end
  if kept[1] and tonumber(kept[2]) >= tonumber(ARGV[2]) then return kept[3] and 1 or 0 end
end
redis.call('HSET', KEYS[1], 'stream', ARGV[1], 'revision', ARGV[2], 'record', ARGV[5], 'at', time)
redis.call('EXPIRE', KEYS[1], ARGV[3])
return redis.call('HEXISTS', KEYS[1], 'cancel'))";

// KEYS: request. ARGV: stream, seconds.
constexpr const char* kAlive = R"(
if redis.call('HGET', KEYS[1], 'stream') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'at', redis.call('TIME')[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
return redis.call('HEXISTS', KEYS[1], 'cancel'))";

// KEYS: request. Gives the record and how many seconds ago it was told of.
constexpr const char* kFind = R"(
local kept = redis.call('HMGET', KEYS[1], 'record', 'at')
if not kept[1] then return {} end
return {kept[1], tonumber(redis.call('TIME')[1]) - tonumber(kept[2])})";

constexpr const char* kCancel = R"(
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'cancel', '1')
return 1)";

}  // namespace

Result<SealedBox::Key> shared_key(const std::string& secret) {
  const std::size_t end = secret.find_last_not_of(" \t\r\n");
  const std::string text = secret.substr(0, end == std::string::npos ? 0 : end + 1);
  if (text.size() < kMinSecretBytes) {
    return {Errc::config_invalid, "the coordinators' shared key has less than 16 bytes"};
  }
  const std::string about = "farmesh coordinators v1";
  return hmac_sha256(std::as_bytes(std::span(text)), std::as_bytes(std::span(about)));
}

// --- turns ---------------------------------------------------------------------------------------

RedisSessionCache::RedisSessionCache(std::shared_ptr<Redis> redis, const SealedBox::Key& key)
    : redis_(std::move(redis)), key_(key), box_(key) {}

std::string RedisSessionCache::name_of(const std::string& request_id, const char* part) const {
  // In braces: what a Redis cluster keeps on one node.
  return "farmesh:turn:{" + hashed(key_, "turn " + request_id) + "}:" + part;
}

Result<void> RedisSessionCache::open(const CachedTurn& turn) {
  const std::string& id = turn.request_id;
  const auto done = redis_->command({"EVAL", kOpen, "2", name_of(id, "items"),
                                     name_of(id, "writer"), hashed(key_, turn.writer),
                                     kept_seconds(), box_.seal(encode_turn(turn), "turn " + id),
                                     box_.seal(encode_items(0, turn.items), "items " + id)});
  return done ? Result<void>() : done.error();
}

Result<bool> RedisSessionCache::append(const std::string& request_id, const std::string& writer,
                                       std::size_t from, std::span<const CachedItem> items) {
  const auto done =
      redis_->command({"EVAL", kAppend, "2", name_of(request_id, "items"),
                       name_of(request_id, "writer"), hashed(key_, writer), kept_seconds(),
                       box_.seal(encode_items(from, items), "items " + request_id)});
  if (!done) return done.error();
  return done->number == 1;
}

Result<std::optional<CachedTurn>> RedisSessionCache::find(const std::string& request_id) {
  const auto kept = redis_->command({"LRANGE", name_of(request_id, "items"), "0", "-1"});
  if (!kept) return kept.error();
  if (kept->parts.empty()) return std::optional<CachedTurn>();
  const std::string head = kept->parts.front().text.value_or("");
  const Result<std::string> plain = box_.open(head, "turn " + request_id);
  if (!plain) return plain.error();
  Result<CachedTurn> turn = decode_turn(*plain);
  if (!turn) return turn.error();
  for (std::size_t i = 1; i < kept->parts.size(); ++i) {
    const Result<std::string> run =
        box_.open(kept->parts[i].text.value_or(""), "items " + request_id);
    if (!run) return run.error();
    if (const Result<void> placed = decode_items(*run, turn->items); !placed) return placed.error();
  }
  return std::optional<CachedTurn>(*std::move(turn));
}

// --- requests ------------------------------------------------------------------------------------

RedisRequestBoard::RedisRequestBoard(std::shared_ptr<Redis> redis, const SealedBox::Key& key)
    : redis_(std::move(redis)), key_(key), box_(key) {}

std::string RedisRequestBoard::name_of(const std::string& request_id) const {
  return "farmesh:request:" + hashed(key_, "request " + request_id);
}

Result<bool> RedisRequestBoard::tell(const RequestRecord& record, std::uint64_t revision,
                                     bool first) {
  const std::string& id = record.answer.request_id;
  const auto done = redis_->command({"EVAL", kTell, "1", name_of(id), std::to_string(record.stream),
                                     std::to_string(revision), kept_seconds(), first ? "1" : "0",
                                     box_.seal(encode_record(record), "request " + id)});
  if (!done) return done.error();
  return done->number == 1;
}

Result<bool> RedisRequestBoard::tell_alive(const std::string& request_id, std::uint64_t stream) {
  const auto done = redis_->command(
      {"EVAL", kAlive, "1", name_of(request_id), std::to_string(stream), kept_seconds()});
  if (!done) return done.error();
  return done->number == 1;
}

Result<std::optional<RequestRecord>> RedisRequestBoard::find(const std::string& request_id) {
  const auto kept = redis_->command({"EVAL", kFind, "1", name_of(request_id)});
  if (!kept) return kept.error();
  if (kept->parts.size() != 2) return std::optional<RequestRecord>();
  const Result<std::string> plain =
      box_.open(kept->parts[0].text.value_or(""), "request " + request_id);
  if (!plain) return plain.error();
  Result<RequestRecord> record = decode_record(*plain);
  if (!record) return record.error();
  const bool silent = std::chrono::seconds(kept->parts[1].number.value_or(0)) > kSilence;
  if (record->status == RequestStatus::active && silent) {
    record->status = RequestStatus::failed;
    record->problem = Problem{503, "coordinator_lost", "Its coordinator is gone.", {}};
  }
  return std::optional<RequestRecord>(*std::move(record));
}

Result<bool> RedisRequestBoard::ask_cancel(const std::string& request_id) {
  const auto known = find(request_id);
  if (!known) return known.error();
  if (!*known || (*known)->status != RequestStatus::active) return false;
  const auto done = redis_->command({"EVAL", kCancel, "1", name_of(request_id)});
  if (!done) return done.error();
  return done->number == 1;
}

// --- rate limits ---------------------------------------------------------------------------------

RedisRateLimits::RedisRateLimits(std::shared_ptr<Redis> redis, const SealedBox::Key& key)
    : redis_(std::move(redis)), key_(key) {}

std::optional<RateVerdict> RedisRateLimits::ask(const std::string& name, const RateLimit& limit,
                                                double amount, bool force) {
  const auto reply =
      redis_->command({"EVAL", kTake, "1", "farmesh:rate:" + hashed(key_, "rate " + name),
                       std::to_string(limit.limit), std::to_string(limit.window.count()),
                       std::to_string(amount), force ? "1" : "0"});
  if (!reply || reply->parts.size() != 2 || !reply->parts[1].text) return std::nullopt;
  const double level = std::strtod(reply->parts[1].text->c_str(), nullptr);
  return verdict_of(limit, level, amount, reply->parts[0].number == 1);
}

RateVerdict RedisRateLimits::take(const std::string& name, const RateLimit& limit, double amount) {
  if (limit.limit <= 0) return {};
  if (const auto verdict = ask(name, limit, amount, false)) return *verdict;
  return own_.take(name, limit, amount);
}

void RedisRateLimits::charge(const std::string& name, const RateLimit& limit, double amount) {
  if (limit.limit <= 0) return;
  if (!ask(name, limit, amount, true)) own_.charge(name, limit, amount);
}

}  // namespace farmesh::gateway
