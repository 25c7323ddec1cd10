#include "discovery/record_table.hpp"

#include <algorithm>
#include <utility>

namespace farmesh::discovery {

RecordTable::Outcome RecordTable::take(std::string_view bytes, std::int64_t now_ms, TimePoint now,
                                       const NodeId* must_be) {
  RecordExpectation expected;
  expected.mesh = options_.mesh;
  expected.now_ms = now_ms;
  expected.model_hash = options_.model_hash;
  expected.num_layers = options_.num_layers;
  if (must_be != nullptr) expected.id = *must_be;
  std::variant<SignedRecord, RecordFault> checked = check_record(bytes, expected);
  if (const auto* fault = std::get_if<RecordFault>(&checked)) {
    count(*fault);
    return Outcome::dropped;
  }
  auto& signed_record = std::get<SignedRecord>(checked);
  const NodeRecord& record = signed_record.record;

  const auto held = entries_.find(record.id);
  if (held != entries_.end()) {
    const NodeRecord& old = held->second.signed_record->record;
    // The same one may come again with the statement that the DHT had no room for.
    const bool adds_statement = record.sequence == old.sequence && old.wallet_statement.empty() &&
                                !record.wallet_statement.empty();
    if (record.sequence < old.sequence || (record.sequence == old.sequence && !adds_statement)) {
      ++counts_.known;
      return Outcome::known;
    }
  } else if (entries_.size() >= options_.max_records) {
    ++counts_.full;
    return Outcome::known;
  }
  Entry& entry = entries_[record.id];
  const std::int64_t left =
      std::min(record.expires_ms - now_ms, record.expires_ms - record.not_before_ms);
  entry.until = now + std::chrono::milliseconds(left);
  if (!tells_of(record, entry.hidden_at)) entry.hidden_before = -1;  // it has moved
  entry.signed_record = std::make_shared<const SignedRecord>(std::move(signed_record));
  ++counts_.taken;
  return Outcome::taken;
}

bool RecordTable::expire(std::int64_t now_ms, TimePoint now) {
  bool lost = false;
  std::erase_if(entries_, [&](const auto& pair) {
    const Entry& entry = pair.second;
    const bool over = entry.until <= now || entry.signed_record->record.expires_ms <= now_ms;
    lost = lost || (over && entry.usable());
    return over;
  });
  return lost;
}

bool RecordTable::hide(const NodeId& id, const std::string& address, std::int64_t now_ms) {
  const auto found = entries_.find(id);
  if (found == entries_.end()) return false;
  Entry& entry = found->second;
  // A contact where it was before proves nothing.
  if (!tells_of(entry.signed_record->record, address)) return false;
  const bool was_usable = entry.usable();
  // Its clock may be ahead of ours; what it signed until now does not prove that it lives.
  entry.hidden_before = std::max(now_ms, entry.signed_record->record.not_before_ms);
  entry.hidden_at = address;
  return was_usable;
}

bool RecordTable::is_usable(const NodeId& id) const {
  const auto found = entries_.find(id);
  return found != entries_.end() && found->second.usable();
}

std::vector<RecordPtr> RecordTable::usable() const {
  std::vector<RecordPtr> records;
  for (const auto& [id, entry] : entries_) {
    const NodeRecord& record = entry.signed_record->record;
    const bool of_model =
        options_.model_hash == ModelHash{} || record.model_hash == options_.model_hash;
    if (entry.usable() && of_model) records.push_back(entry.signed_record);
  }
  return records;
}

RecordPtr RecordTable::find(const NodeId& id) const {
  const auto found = entries_.find(id);
  return found == entries_.end() ? nullptr : found->second.signed_record;
}

std::vector<NodeId> RecordTable::ending(std::int64_t when_ms, std::size_t max) const {
  std::vector<std::pair<std::int64_t, NodeId>> ends;
  for (const auto& [id, entry] : entries_) {
    const NodeRecord& record = entry.signed_record->record;
    if (!record.leaving && record.expires_ms < when_ms) ends.emplace_back(record.expires_ms, id);
  }
  std::sort(ends.begin(), ends.end());
  std::vector<NodeId> ids;
  for (const auto& [expires, id] : ends) {
    if (ids.size() == max) break;
    ids.push_back(id);
  }
  return ids;
}

RecordTable::Page RecordTable::page(const Query& query, std::size_t max_records,
                                    std::size_t max_bytes) const {
  Page page;
  std::size_t bytes = 0;
  for (auto at = entries_.upper_bound(query.after); at != entries_.end(); ++at) {
    const Entry& entry = at->second;
    const NodeRecord& record = entry.signed_record->record;
    if (record.not_before_ms <= entry.hidden_before) continue;
    if (query.model_hash != ModelHash{} && record.model_hash != query.model_hash) continue;
    const bool overlaps =
        record.span.begin < query.layers.end && query.layers.begin < record.span.end;
    if (!query.layers.empty() && !overlaps && !record.head && !record.leaving) continue;
    bytes += entry.signed_record->bytes.size();
    if (page.records.size() == max_records || bytes > max_bytes) {
      page.more = true;
      break;
    }
    page.records.push_back(entry.signed_record);
  }
  return page;
}

}  // namespace farmesh::discovery
