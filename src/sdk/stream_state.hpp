// Where a stream's thread hands text to its reader. Safe from any thread.
//
// The writer waits while the reader is far behind, so that what is at the other end pauses too.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <string>

#include <farmesh/far_mesh.hpp>

namespace farmesh::sdk {

class StreamState {
 public:
  StreamState() : began_(Clock::now()) {}

  // --- the writer
  /// Waits for room; false once the reader has closed.
  bool push(std::string text);
  void set_request_id(const std::string& id);
  void count_resumption();
  /// The proper end. Nothing may follow, here and below. `usage`: but for ttft and resumed; its
  /// `tokens` count if there are any.
  void finish(MeshUsage usage);
  void fail(MeshError error);
  bool closed() const;
  /// False when the reader has closed before the time was over.
  bool sleep(std::chrono::milliseconds time);

  // --- the reader: as MeshStream
  MeshResult<std::optional<std::string>> next();
  bool wait(std::chrono::milliseconds at_most) const;
  void on_ready(std::function<void()> wake);
  const std::string& text_so_far() const noexcept { return read_; }  // the reading thread's
  bool close();  // false when it had ended or was closed before
  MeshUsage usage() const;
  std::string request_id() const;
  std::optional<MeshError> error() const;

 private:
  using Clock = std::chrono::steady_clock;
  bool ready() const { return !waiting_.empty() || ended_ || closed_; }
  void wake(std::unique_lock<std::mutex> lock);

  const Clock::time_point began_;
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  std::deque<std::string> waiting_;
  std::size_t waiting_bytes_ = 0;
  std::function<void()> wake_;
  MeshUsage usage_;
  std::string request_id_;
  std::optional<MeshError> error_;
  bool ended_ = false;
  bool closed_ = false;
  std::string read_;  // everything that next() gave
};

}  // namespace farmesh::sdk
