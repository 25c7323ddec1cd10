#include "serve/history.hpp"

#include <algorithm>
#include <utility>

#include "base/assert.hpp"

namespace farmesh::serve {
namespace {

constexpr std::uint64_t kPartOverhead = 160;  // bookkeeping of a part, which short rows outweigh

}  // namespace

void History::append(const SessionId& session, Part part) {
  const auto [entry, is_new] = records_.try_emplace(session);
  Record& record = entry->second;
  if (is_new) record.age = next_age_++;
  cut(record, part.position);
  if (record.range.end != part.position) {
    while (!record.parts.empty()) drop_back(record);
    record.range = {part.position, part.position};
  }
  if (record.parts.empty()) by_age_[record.age] = &record;
  record.range.end = part.end();
  const std::uint64_t charged = part.rows.size() + kPartOverhead;
  bytes_ += charged;
  record.parts.push_back({std::move(part), charged});
  while (bytes_ > budget_bytes_) drop_front(*by_age_.begin()->second);
}

void History::truncate(const SessionId& session, std::uint32_t position) {
  const auto entry = records_.find(session);
  if (entry != records_.end()) cut(entry->second, position);
}

void History::forget(const SessionId& session) {
  const auto entry = records_.find(session);
  if (entry == records_.end()) return;
  while (!entry->second.parts.empty()) drop_back(entry->second);
  records_.erase(entry);
}

History::Range History::stored(const SessionId& session) const {
  const auto entry = records_.find(session);
  return entry == records_.end() ? Range{} : entry->second.range;
}

std::vector<History::Part> History::parts(const SessionId& session, std::uint32_t from,
                                          std::uint32_t to) const {
  std::vector<Part> out;
  if (from == to) return out;
  const Record& record = records_.at(session);
  FARMESH_ASSERT(record.range.begin <= from && from < to && to <= record.range.end);
  auto stored = std::upper_bound(
      record.parts.begin(), record.parts.end(), from,
      [](std::uint32_t position, const Stored& s) { return position < s.part.end(); });
  for (; from < to; ++stored) {
    const Part& part = stored->part;
    const std::size_t row_bytes = part.rows.size() / part.count;
    const std::uint32_t count = std::min(part.end(), to) - from;
    out.push_back(
        {from, count, part.rows.slice((from - part.position) * row_bytes, count * row_bytes)});
    from += count;
  }
  return out;
}

void History::drop_front(Record& record) {
  bytes_ -= record.parts.front().charged;
  record.range.begin = record.parts.front().part.end();
  record.parts.pop_front();
  if (record.parts.empty()) by_age_.erase(record.age);
}

void History::drop_back(Record& record) {
  bytes_ -= record.parts.back().charged;
  record.range.end = record.parts.back().part.position;
  record.parts.pop_back();
  if (record.parts.empty()) by_age_.erase(record.age);
}

void History::cut(Record& record, std::uint32_t position) {
  if (position >= record.range.end) return;
  while (!record.parts.empty() && record.parts.back().part.position >= position) {
    drop_back(record);
  }
  if (!record.parts.empty()) {
    Part& last = record.parts.back().part;
    const std::size_t row_bytes = last.rows.size() / last.count;
    last.count = std::min(last.end(), position) - last.position;
    last.rows = last.rows.slice(0, last.count * row_bytes);
  }
  record.range.begin = std::min(record.range.begin, position);
  record.range.end = position;
}

}  // namespace farmesh::serve
