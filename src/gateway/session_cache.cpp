#include "gateway/session_cache.hpp"

#include <algorithm>
#include <utility>

#include <nlohmann/json.hpp>

namespace farmesh::gateway {
namespace {

using nlohmann::json;

constexpr int kVersion = 1;

std::size_t size_of(const CachedTurn& turn) {
  return sizeof turn + turn.body.size() + turn.items.size() * sizeof(CachedItem) +
         turn.max_tokens.size() * sizeof(std::uint32_t);
}

Result<void> put_in_place(std::vector<CachedItem>& items, std::size_t from,
                          std::span<const CachedItem> more) {
  if (from > items.size()) return {Errc::config_invalid, "a turn's items have a gap"};
  items.resize(from);
  items.insert(items.end(), more.begin(), more.end());
  return {};
}

Error malformed() { return {Errc::config_invalid, "a cached turn of another version"}; }

std::string to_text(const json& object) {
  const std::vector<std::uint8_t> bytes = json::to_cbor(object);
  return {bytes.begin(), bytes.end()};
}

}  // namespace

std::string encode_turn(const CachedTurn& turn) {
  return to_text({{"v", kVersion},
                  {"request_id", turn.request_id},
                  {"writer", turn.writer},
                  {"account", turn.account},
                  {"path", turn.path},
                  {"body", json::binary({turn.body.begin(), turn.body.end()})},
                  {"body_digest", turn.body_digest},
                  {"model_id", turn.model_id},
                  {"fingerprint", turn.fingerprint},
                  {"created", turn.created},
                  {"seed", turn.seed},
                  {"price", turn.price_per_token.units()},
                  {"prompt_price", turn.price_per_prompt_token.units()},
                  {"max_tokens", turn.max_tokens},
                  {"resumable", turn.resumable}});
}

Result<CachedTurn> decode_turn(std::string_view bytes) {
  const json object = json::from_cbor(bytes.begin(), bytes.end(), true, false);
  if (!object.is_object() || object.value("v", 0) != kVersion) return malformed();
  CachedTurn turn;
  try {  // sealed bytes are our own: only another version's can be of another shape
    const auto& body = object.at("body").get_binary();
    turn.body.assign(body.begin(), body.end());
    object.at("request_id").get_to(turn.request_id);
    object.at("writer").get_to(turn.writer);
    object.at("account").get_to(turn.account);
    object.at("path").get_to(turn.path);
    object.at("body_digest").get_to(turn.body_digest);
    object.at("model_id").get_to(turn.model_id);
    object.at("fingerprint").get_to(turn.fingerprint);
    object.at("created").get_to(turn.created);
    object.at("seed").get_to(turn.seed);
    turn.price_per_token = Far::from_units(object.at("price").get<std::int64_t>());
    turn.price_per_prompt_token = Far::from_units(object.at("prompt_price").get<std::int64_t>());
    object.at("max_tokens").get_to(turn.max_tokens);
    object.at("resumable").get_to(turn.resumable);
  } catch (const json::exception&) {
    return malformed();
  }
  return turn;
}

std::string encode_items(std::size_t from, std::span<const CachedItem> items) {
  json flat = json::array({kVersion, from});
  for (const CachedItem& item : items) {
    flat.push_back(item.sequence);
    flat.push_back(item.token);
  }
  return to_text(flat);
}

Result<void> decode_items(std::string_view bytes, std::vector<CachedItem>& items) {
  const json flat = json::from_cbor(bytes.begin(), bytes.end(), true, false);
  if (!flat.is_array() || flat.size() < 2 || flat.size() % 2 != 0 || flat[0] != kVersion ||
      !std::all_of(flat.begin(), flat.end(),
                   [](const json& number) { return number.is_number_unsigned(); })) {
    return malformed();
  }
  std::vector<CachedItem> more;
  for (std::size_t i = 2; i < flat.size(); i += 2) {
    more.push_back({flat[i].get<std::uint32_t>(), flat[i + 1].get<TokenId>()});
  }
  return put_in_place(items, flat[1].get<std::size_t>(), more);
}

// --- in memory -----------------------------------------------------------------------------------

Result<void> MemorySessionCache::open(const CachedTurn& turn) {
  const std::lock_guard lock(mutex_);
  if (const auto known = turns_.find(turn.request_id); known != turns_.end()) erase(known->second);
  const Clock::time_point now = Clock::now();
  forget(now, 1);
  order_.push_back({turn, now});
  turns_[turn.request_id] = std::prev(order_.end());
  bytes_ += size_of(turn);
  return {};
}

Result<bool> MemorySessionCache::append(const std::string& request_id, const std::string& writer,
                                        std::size_t from, std::span<const CachedItem> items) {
  const std::lock_guard lock(mutex_);
  const auto known = turns_.find(request_id);
  if (known == turns_.end() || known->second->turn.writer != writer) return false;
  CachedTurn& turn = known->second->turn;
  bytes_ -= size_of(turn);
  const Result<void> placed = put_in_place(turn.items, from, items);
  bytes_ += size_of(turn);
  if (!placed) return placed.error();
  touch(known->second, Clock::now());
  return true;
}

Result<std::optional<CachedTurn>> MemorySessionCache::find(const std::string& request_id) {
  const std::lock_guard lock(mutex_);
  forget(Clock::now());
  const auto known = turns_.find(request_id);
  if (known == turns_.end()) return std::optional<CachedTurn>();
  return std::optional<CachedTurn>(known->second->turn);
}

std::size_t MemorySessionCache::bytes() const {
  const std::lock_guard lock(mutex_);
  return bytes_;
}

void MemorySessionCache::erase(Order::iterator at) {
  bytes_ -= size_of(at->turn);
  turns_.erase(at->turn.request_id);
  order_.erase(at);
}

void MemorySessionCache::touch(Order::iterator at, Clock::time_point now) {
  at->last = now;
  order_.splice(order_.end(), order_, at);
}

void MemorySessionCache::forget(Clock::time_point now, std::size_t coming) {
  while (!order_.empty() &&
         (order_.front().last + kKept <= now || order_.size() + coming > options_.max_turns ||
          bytes_ > options_.max_bytes)) {
    erase(order_.begin());
  }
}

}  // namespace farmesh::gateway
