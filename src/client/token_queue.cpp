#include "client/token_queue.hpp"

#include <algorithm>
#include <utility>

namespace farmesh::client {

TokenQueue::TokenQueue(std::size_t capacity, TurnMeter meter, std::function<void()> on_room)
    : capacity_(std::max<std::size_t>(capacity, 1)),
      on_room_(std::move(on_room)),
      meter_(std::move(meter)) {}

TokenQueue::TokenQueue(Error error)
    : capacity_(1), meter_({}, 0), error_(std::move(error)), ended_(true) {}

void TokenQueue::push(Token token, const wire::TokenMessage& message, TimePoint now) {
  std::unique_lock lock(mutex_);
  meter_.record(message, now);
  if (!cancelled_) tokens_.push_back(std::move(token));
  wake(std::move(lock));
}

void TokenQueue::push_again(Token token) {
  std::unique_lock lock(mutex_);
  if (!cancelled_) tokens_.push_back(std::move(token));
  wake(std::move(lock));
}

// Tells whoever waits, outside the lock.
void TokenQueue::wake(std::unique_lock<std::mutex> lock) {
  const std::function<void()> waiting = std::exchange(wake_, nullptr);
  lock.unlock();
  changed_.notify_all();
  if (waiting) waiting();
}

void TokenQueue::prompt_made(std::vector<RouteUsage> routes) {
  const std::lock_guard lock(mutex_);
  meter_.prompt_made(std::move(routes));
}

void TokenQueue::finish(FinishReason reason, std::uint32_t recoveries) {
  std::unique_lock lock(mutex_);
  meter_.finish(cancelled_ ? FinishReason::cancelled : reason, recoveries);
  ended_ = true;
  wake(std::move(lock));
}

void TokenQueue::fail(Error error, std::uint32_t recoveries) {
  std::unique_lock lock(mutex_);
  meter_.finish(FinishReason::none, recoveries);
  error_ = std::move(error);
  ended_ = true;
  wake(std::move(lock));
}

bool TokenQueue::full() const {
  const std::lock_guard lock(mutex_);
  return !cancelled_ && tokens_.size() >= capacity_;
}

bool TokenQueue::cancelled() const {
  const std::lock_guard lock(mutex_);
  return cancelled_;
}

Result<std::optional<Token>> TokenQueue::pop() {
  std::optional<Token> token;
  bool has_room = false;
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return ready(); });
    if (cancelled_) return std::optional<Token>();
    if (tokens_.empty()) {
      if (error_) return *error_;
      return std::optional<Token>();
    }
    token = std::move(tokens_.front());
    tokens_.pop_front();
    has_room = tokens_.size() == capacity_ / 2;
  }
  if (has_room && on_room_) on_room_();
  return token;
}

bool TokenQueue::wait(std::chrono::milliseconds at_most) const {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, at_most, [this] { return ready(); });
}

void TokenQueue::on_ready(std::function<void()> wake) {
  {
    const std::lock_guard lock(mutex_);
    if (!ready()) {
      wake_.swap(wake);
      return;  // an earlier one is destroyed outside the lock
    }
  }
  wake();
}

bool TokenQueue::cancel() {
  std::unique_lock lock(mutex_);
  if (ended_ || cancelled_) return false;
  cancelled_ = true;
  tokens_.clear();
  meter_.finish(FinishReason::cancelled, 0);
  wake(std::move(lock));
  return true;
}

void TokenQueue::wait_ended() const {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return ended_; });
}

bool TokenQueue::ended() const {
  const std::lock_guard lock(mutex_);
  return ended_;
}

Usage TokenQueue::usage() const {
  const std::lock_guard lock(mutex_);
  return meter_.usage();
}

std::optional<Error> TokenQueue::error() const {
  const std::lock_guard lock(mutex_);
  if (cancelled_) return std::nullopt;
  return error_;
}

}  // namespace farmesh::client
