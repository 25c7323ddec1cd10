#include "http/worker_pool.hpp"

#include <system_error>
#include <utility>

#include "base/log.hpp"
#include "base/thread.hpp"

namespace farmesh::http {

WorkerPool::WorkerPool(std::string thread_name, std::size_t max_threads, std::size_t max_waiting)
    : thread_name_(std::move(thread_name)), max_threads_(max_threads), max_waiting_(max_waiting) {}

WorkerPool::~WorkerPool() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

bool WorkerPool::submit(std::function<void()> job) {
  {
    const std::lock_guard lock(mutex_);
    const std::size_t wanted = busy_ + jobs_.size() + 1;
    if (stopping_ || wanted > max_threads_ + max_waiting_) return false;
    if (wanted > threads_.size() && threads_.size() < max_threads_) {
      try {
        threads_.push_back(start_thread(thread_name_, [this] { work(); }));
      } catch (const std::system_error& problem) {
        log(LogLevel::warning, "http", std::string("no further thread: ") + problem.what());
        if (threads_.empty() || wanted > threads_.size() + max_waiting_) return false;
      }
    }
    jobs_.push_back(std::move(job));
  }
  wake_.notify_one();
  return true;
}

std::size_t WorkerPool::busy() const {
  const std::lock_guard lock(mutex_);
  return busy_;
}

void WorkerPool::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
    if (jobs_.empty()) return;
    auto job = std::move(jobs_.front());
    jobs_.pop_front();
    ++busy_;
    lock.unlock();
    job();
    job = nullptr;  // what it holds goes before the thread counts as free
    lock.lock();
    --busy_;
  }
}

}  // namespace farmesh::http
