#include "gateway/fair_queue.hpp"

#include <algorithm>

namespace farmesh::gateway {

Checked<FairQueue::Place> FairQueue::acquire(const std::string& account, int priority,
                                             Ticket& ticket) {
  std::unique_lock lock(mutex_);
  const auto known = accounts_.find(account);
  if (known != accounts_.end() && known->second >= options_.per_account) {
    return Problem{429, "too_many_requests", "Too many requests of this account at once.", {}, 1};
  }
  if (running_ < options_.places && waiting_ == 0) {
    ++accounts_[account];
    ++running_;
    return Place(this, account);
  }
  if (waiting_ >= options_.waiting) {
    return Problem{503, "busy", "Too many requests are waiting.", {}, 2};
  }
  ++accounts_[account];
  ++waiting_;
  Waiter waiter;
  std::list<Line>& lines = lines_[priority];
  auto line = std::find_if(lines.begin(), lines.end(),
                           [&account](const Line& line) { return line.account == account; });
  if (line == lines.end()) line = lines.insert(lines.end(), Line{account, {}});
  line->waiters.push_back(&waiter);

  changed_.wait(lock, [&] { return waiter.admitted || ticket.called_off; });
  if (waiter.admitted) return Place(this, account);
  forget(priority, &waiter);
  --waiting_;
  leave(account);
  return Problem{499, "cancelled", "The request was cancelled.", {}};
}

void FairQueue::call_off(Ticket& ticket) {
  {
    const std::lock_guard lock(mutex_);
    ticket.called_off = true;
  }
  changed_.notify_all();
}

std::size_t FairQueue::running() const {
  const std::lock_guard lock(mutex_);
  return running_;
}

std::size_t FairQueue::waiting() const {
  const std::lock_guard lock(mutex_);
  return waiting_;
}

void FairQueue::release(const std::string& account) {
  {
    const std::lock_guard lock(mutex_);
    --running_;
    leave(account);
    admit_next();
  }
  changed_.notify_all();
}

// The account's place in the count, when it neither runs nor waits any more.
void FairQueue::leave(const std::string& account) {
  const auto at = accounts_.find(account);
  if (--at->second == 0) accounts_.erase(at);
}

void FairQueue::admit_next() {
  if (running_ >= options_.places || lines_.empty()) return;
  const auto first = lines_.begin();
  std::list<Line>& lines = first->second;
  Line& line = lines.front();
  line.waiters.front()->admitted = true;
  line.waiters.pop_front();
  ++running_;
  --waiting_;
  if (line.waiters.empty()) {
    lines.pop_front();
    if (lines.empty()) lines_.erase(first);
  } else {
    lines.splice(lines.end(), lines, lines.begin());  // the other accounts come first
  }
}

void FairQueue::forget(int priority, Waiter* waiter) {
  const auto queue = lines_.find(priority);
  for (auto line = queue->second.begin(); line != queue->second.end(); ++line) {
    if (std::erase(line->waiters, waiter) == 0) continue;
    if (line->waiters.empty()) queue->second.erase(line);
    break;
  }
  if (queue->second.empty()) lines_.erase(queue);
}

}  // namespace farmesh::gateway
