// Threads that run jobs which may block: started when needed, at most so many, with a bounded
// queue.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace farmesh::http {

/// Thread-safe.
class WorkerPool {
 public:
  WorkerPool(std::string thread_name, std::size_t max_threads, std::size_t max_waiting);
  ~WorkerPool();  // runs what is queued, then joins

  /// False when every thread is taken and the queue is full.
  bool submit(std::function<void()> job);
  std::size_t busy() const;

 private:
  void work();

  const std::string thread_name_;
  const std::size_t max_threads_;
  const std::size_t max_waiting_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> jobs_;
  std::vector<std::thread> threads_;
  std::size_t busy_ = 0;
  bool stopping_ = false;
};

}  // namespace farmesh::http
