#include "sdk/stream_state.hpp"

#include <utility>

namespace farmesh::sdk {
namespace {

// Read ahead of the reader: more than any pause of an event loop needs.
constexpr std::size_t kMaxWaiting = 1'024;
constexpr std::size_t kMaxWaitingBytes = 256 * 1024;

}  // namespace

bool StreamState::push(std::string text) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] {
    return closed_ || (waiting_.size() < kMaxWaiting && waiting_bytes_ < kMaxWaitingBytes);
  });
  if (closed_) return false;
  if (usage_.tokens++ == 0) {
    usage_.ttft_ms = std::chrono::duration<double, std::milli>(Clock::now() - began_).count();
  }
  waiting_bytes_ += text.size();
  waiting_.push_back(std::move(text));
  wake(std::move(lock));
  return true;
}

// Tells whoever waits, outside the lock.
void StreamState::wake(std::unique_lock<std::mutex> lock) {
  const std::function<void()> waiting = std::exchange(wake_, nullptr);
  lock.unlock();
  changed_.notify_all();
  if (waiting) waiting();
}

void StreamState::set_request_id(const std::string& id) {
  const std::lock_guard lock(mutex_);
  if (!id.empty()) request_id_ = id;
}

void StreamState::count_resumption() {
  const std::lock_guard lock(mutex_);
  ++usage_.resumed;
}

void StreamState::finish(MeshUsage usage) {
  std::unique_lock lock(mutex_);
  if (ended_ || closed_) return;
  usage.ttft_ms = usage_.ttft_ms;
  usage.resumed = usage_.resumed;
  if (usage.tokens == 0) usage.tokens = usage_.tokens;
  usage_ = std::move(usage);
  ended_ = true;
  wake(std::move(lock));
}

void StreamState::fail(MeshError error) {
  std::unique_lock lock(mutex_);
  if (ended_ || closed_) return;
  if (error.request_id.empty()) error.request_id = request_id_;
  error_ = std::move(error);
  ended_ = true;
  wake(std::move(lock));
}

bool StreamState::closed() const {
  const std::lock_guard lock(mutex_);
  return closed_;
}

bool StreamState::sleep(std::chrono::milliseconds time) {
  std::unique_lock lock(mutex_);
  return !changed_.wait_for(lock, time, [this] { return closed_; });
}

MeshResult<std::optional<std::string>> StreamState::next() {
  std::optional<std::string> text;
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return ready(); });
    if (waiting_.empty()) {
      if (error_) return *error_;
      return text;
    }
    text = std::move(waiting_.front());
    waiting_.pop_front();
    waiting_bytes_ -= text->size();
  }
  changed_.notify_all();
  read_ += *text;
  return text;
}

bool StreamState::wait(std::chrono::milliseconds at_most) const {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, at_most, [this] { return ready(); });
}

void StreamState::on_ready(std::function<void()> wake) {
  {
    const std::lock_guard lock(mutex_);
    if (!ready()) {
      wake_.swap(wake);
      return;  // an earlier one is destroyed outside the lock
    }
  }
  wake();
}

bool StreamState::close() {
  std::unique_lock lock(mutex_);
  if (closed_) return false;
  closed_ = true;
  waiting_.clear();
  waiting_bytes_ = 0;
  const bool ended = ended_;
  if (!ended) usage_.finish = FinishReason::cancelled;
  wake(std::move(lock));
  return !ended;
}

MeshUsage StreamState::usage() const {
  const std::lock_guard lock(mutex_);
  return usage_;
}

std::string StreamState::request_id() const {
  const std::lock_guard lock(mutex_);
  return request_id_;
}

std::optional<MeshError> StreamState::error() const {
  const std::lock_guard lock(mutex_);
  return error_;
}

}  // namespace farmesh::sdk
