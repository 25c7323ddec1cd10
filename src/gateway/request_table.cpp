#include "gateway/request_table.hpp"

#include <utility>

namespace farmesh::gateway {

std::string_view name(RequestStatus status) noexcept {
  switch (status) {
    case RequestStatus::active: return "active";
    case RequestStatus::completed: return "completed";
    case RequestStatus::failed: return "failed";
    case RequestStatus::cancelled: return "cancelled";
  }
  return "failed";
}

Checked<std::optional<RequestRecord>> RequestTable::open(const RequestRecord& record,
                                                         Clock::time_point now) {
  const std::lock_guard lock(mutex_);
  const std::string& id = record.answer.request_id;
  if (const auto at = entries_.find(id); at != entries_.end()) {
    const RequestRecord& known = at->second.record;
    if (known.owner != record.owner || known.body_digest != record.body_digest) {
      return Problem{409, "request_id_reused", "This request_id belongs to another request.",
                     "request_id"};
    }
    if (known.status == RequestStatus::active) {
      return Problem{409, "request_in_progress", "The request with this request_id still runs.",
                     "request_id"};
    }
    if (known.status == RequestStatus::completed) return std::optional<RequestRecord>(known);
    entries_.erase(at);  // it delivered nothing whole: the client may try again
  }
  forget(now);
  if (entries_.size() >= max_records_) {
    return Problem{503, "busy", "Too many requests are under way.", {}, 1};
  }
  entries_[id].record = record;
  return std::optional<RequestRecord>();
}

void RequestTable::take_over(const RequestRecord& record) {
  std::function<void()> cancel;
  {
    const std::lock_guard lock(mutex_);
    Entry& entry = entries_[record.answer.request_id];
    cancel = std::move(entry.cancel);
    entry = {record, {}, false, {}};
  }
  if (cancel) cancel();
}

void RequestTable::set_cancel(const RequestRecord& record, std::function<void()> cancel) {
  std::unique_lock lock(mutex_);
  const auto at = entries_.find(record.answer.request_id);
  if (at == entries_.end() || at->second.record.stream != record.stream) return;
  at->second.cancel = cancel;
  const bool asked = at->second.cancel_asked;
  lock.unlock();
  if (asked) cancel();
}

void RequestTable::add_text(const RequestRecord& record, std::string_view text) {
  const std::lock_guard lock(mutex_);
  const auto at = entries_.find(record.answer.request_id);
  if (at == entries_.end() || at->second.record.stream != record.stream) return;
  PlatformAnswer& answer = at->second.record.answer;
  answer.text += text;
  answer.tokens_generated = record.answer.tokens_generated;
  answer.cost = record.answer.cost;
}

void RequestTable::close(RequestRecord record, Clock::time_point now) {
  std::function<void()> spent;  // destroyed without the lock: it may hold the turn
  const std::lock_guard lock(mutex_);
  const auto at = entries_.find(record.answer.request_id);
  if (at == entries_.end() || at->second.record.stream != record.stream) return;
  spent = std::move(at->second.cancel);
  at->second = {std::move(record), {}, false, now};
}

std::optional<RequestRecord> RequestTable::find(const std::string& request_id) const {
  const std::lock_guard lock(mutex_);
  const auto at = entries_.find(request_id);
  if (at == entries_.end()) return std::nullopt;
  return at->second.record;
}

bool RequestTable::cancel(const std::string& request_id) {
  std::function<void()> cancel;
  {
    const std::lock_guard lock(mutex_);
    const auto at = entries_.find(request_id);
    if (at == entries_.end() || at->second.record.status != RequestStatus::active) return false;
    at->second.cancel_asked = true;
    cancel = at->second.cancel;
  }
  if (cancel) cancel();
  return true;
}

void RequestTable::forget(Clock::time_point now) {
  const auto is_old = [now](const auto& item) {
    return item.second.record.status != RequestStatus::active && item.second.ended + kKept <= now;
  };
  std::erase_if(entries_, is_old);
  while (entries_.size() >= max_records_) {
    auto oldest = entries_.end();
    for (auto at = entries_.begin(); at != entries_.end(); ++at) {
      if (at->second.record.status == RequestStatus::active) continue;
      if (oldest == entries_.end() || at->second.ended < oldest->second.ended) oldest = at;
    }
    if (oldest == entries_.end()) return;
    entries_.erase(oldest);
  }
}

}  // namespace farmesh::gateway
