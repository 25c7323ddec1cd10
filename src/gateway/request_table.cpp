#include "gateway/request_table.hpp"

#include <utility>
#include <vector>

#include "base/log.hpp"

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

RequestStatus status_of(SessionStatus status) noexcept {
  switch (status) {
    case SessionStatus::active: return RequestStatus::active;
    case SessionStatus::completed: return RequestStatus::completed;
    case SessionStatus::failed: return RequestStatus::failed;
    case SessionStatus::cancelled: return RequestStatus::cancelled;
  }
  return RequestStatus::failed;
}

SessionStatus status_of(RequestStatus status) noexcept {
  switch (status) {
    case RequestStatus::active: return SessionStatus::active;
    case RequestStatus::completed: return SessionStatus::completed;
    case RequestStatus::failed: return SessionStatus::failed;
    case RequestStatus::cancelled: return SessionStatus::cancelled;
  }
  return SessionStatus::failed;
}

namespace {

// Whether `known` leaves its id to `record`, gives its own answer for it, or refuses it.
Checked<std::optional<RequestRecord>> compared(const RequestRecord& known,
                                               const RequestRecord& record) {
  if (known.owner != record.owner || known.body_digest != record.body_digest) {
    return Problem{409, "request_id_reused", "This request_id belongs to another request.",
                   "request_id"};
  }
  if (known.status == RequestStatus::active) {
    return Problem{409, "request_in_progress", "The request with this request_id still runs.",
                   "request_id"};
  }
  if (known.status == RequestStatus::completed) return std::optional<RequestRecord>(known);
  return std::optional<RequestRecord>();  // it delivered nothing whole: the client may try again
}

void warn(const Error& error) {
  log(LogLevel::warning, "gateway", "the others' requests: " + error.to_string());
}

}  // namespace

Checked<std::optional<RequestRecord>> RequestTable::open(const RequestRecord& record,
                                                         Clock::time_point now) {
  if (!find_here(record.answer.request_id)) {
    if (const auto known = find_elsewhere(record.answer.request_id)) {
      auto answer = compared(*known, record);
      if (!answer || *answer) return answer;
    }
  }
  auto opened = open_here(record, now);
  if (opened && !*opened) tell(record, 0, /*first=*/true);
  return opened;
}

Checked<std::optional<RequestRecord>> RequestTable::open_here(const RequestRecord& record,
                                                              Clock::time_point now) {
  const std::lock_guard lock(mutex_);
  const std::string& id = record.answer.request_id;
  if (const auto at = entries_.find(id); at != entries_.end()) {
    auto answer = compared(at->second.record, record);
    if (!answer || *answer) return answer;
    entries_.erase(at);
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
    entry = {};
    entry.record = record;
  }
  if (cancel) cancel();
  tell(record, 0, /*first=*/true);
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
  ++at->second.revision;
}

void RequestTable::close(RequestRecord record, Clock::time_point now) {
  std::function<void()> spent;  // destroyed without the lock: it may hold the turn
  std::uint64_t revision = 0;
  {
    const std::lock_guard lock(mutex_);
    const auto at = entries_.find(record.answer.request_id);
    if (at == entries_.end() || at->second.record.stream != record.stream) return;
    Entry& entry = at->second;
    spent = std::exchange(entry.cancel, {});
    entry.record = record;
    entry.ended = now;
    revision = ++entry.revision;
  }
  tell(record, revision, /*first=*/false);
}

void RequestTable::tell(const RequestRecord& record, std::uint64_t revision, bool first) {
  if (!board_) return;
  const Result<bool> cancel = board_->tell(record, revision, first);
  if (!cancel) return warn(cancel.error());
  if (*cancel && record.status == RequestStatus::active) cancel_here(record.answer.request_id);
}

void RequestTable::share() {
  if (!board_) return;
  struct News {
    std::string request_id;
    std::uint64_t stream = 0;
    std::uint64_t revision = 0;
    std::optional<RequestRecord> record;  // none: as it was told before
  };
  std::vector<News> all;
  {
    const std::lock_guard lock(mutex_);
    for (auto& [id, entry] : entries_) {
      if (entry.record.status != RequestStatus::active) continue;
      News& news = all.emplace_back(News{id, entry.record.stream, entry.revision, std::nullopt});
      if (entry.revision != entry.told) news.record = entry.record;
      entry.told = entry.revision;
    }
  }
  for (const News& news : all) {
    const Result<bool> cancel = news.record
                                    ? board_->tell(*news.record, news.revision, /*first=*/false)
                                    : board_->tell_alive(news.request_id, news.stream);
    if (!cancel) return warn(cancel.error());  // the rest would fare no better
    if (*cancel) cancel_here(news.request_id);
  }
}

std::optional<RequestRecord> RequestTable::find(const std::string& request_id) const {
  std::optional<RequestRecord> here = find_here(request_id);
  if (here && here->status == RequestStatus::active) return here;
  // A stream that ended here may have gone on elsewhere.
  std::optional<RequestRecord> elsewhere = find_elsewhere(request_id);
  return elsewhere ? elsewhere : here;
}

std::optional<RequestRecord> RequestTable::find_here(const std::string& request_id) const {
  const std::lock_guard lock(mutex_);
  const auto at = entries_.find(request_id);
  if (at == entries_.end()) return std::nullopt;
  return at->second.record;
}

std::optional<RequestRecord> RequestTable::find_elsewhere(const std::string& request_id) const {
  if (!board_) return std::nullopt;
  auto found = board_->find(request_id);
  if (found) return *std::move(found);
  warn(found.error());
  return std::nullopt;
}

bool RequestTable::cancel(const std::string& request_id) {
  if (cancel_here(request_id)) return true;
  if (!board_) return false;
  const Result<bool> asked = board_->ask_cancel(request_id);
  if (!asked) warn(asked.error());
  return asked && *asked;
}

bool RequestTable::cancel_here(const std::string& request_id) {
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
