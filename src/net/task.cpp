#include "net/task.hpp"

#include <atomic>
#include <cstdlib>
#include <exception>
#include <string>
#include <utility>

#include <asio/co_spawn.hpp>

#include "base/log.hpp"

namespace farmesh::net {
namespace {

std::atomic<int> live{0};

// Counts a task until its coroutine has ended or was destroyed with its executor.
class LiveTask {
 public:
  explicit LiveTask(std::string_view name) : name_(name) { ++live; }
  LiveTask(LiveTask&& other) noexcept
      : name_(std::move(other.name_)), counted_(std::exchange(other.counted_, false)) {}
  LiveTask& operator=(LiveTask&&) = delete;
  ~LiveTask() {
    if (counted_) --live;
  }
  const std::string& name() const noexcept { return name_; }

 private:
  std::string name_;
  bool counted_ = true;
};

[[noreturn]] void escaped(const std::string& name, std::exception_ptr error) {
  std::string what;
  try {
    std::rethrow_exception(std::move(error));
  } catch (const std::exception& exception) {
    what = exception.what();
  } catch (...) {
    what = "of an unknown type";
  }
  log(LogLevel::error, "net", "task " + name + " ended by an exception: " + what);
  std::abort();
}

}  // namespace

void spawn(Executor executor, std::string_view name, Task<void> task) {
  asio::co_spawn(executor, std::move(task), [token = LiveTask(name)](std::exception_ptr error) {
    if (error) escaped(token.name(), std::move(error));
  });
}

int live_tasks() noexcept { return live.load(); }

}  // namespace farmesh::net
