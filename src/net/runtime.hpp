// The network thread: an io_context, its clock, and a way in from other threads.
#pragma once

#include <functional>
#include <future>
#include <memory>
#include <type_traits>
#include <utility>

#include "identity/join_token.hpp"
#include "net/clock.hpp"
#include "net/link.hpp"
#include "net/task.hpp"

namespace farmesh::net {

/// Starts the thread on construction; the destructor stops it after running what is ready.
/// Create before anything that lives on the thread, destroy after.
class Runtime {
 public:
  /// `self`: who this process is to others; with a new key, somebody nobody knows.
  explicit Runtime(const identity::Credentials& self = identity::NodeKey::generate());
  ~Runtime();

  Executor executor() noexcept;
  Clock& clock() noexcept;
  Transport& tcp() noexcept;
  const NodeId& node_id() const noexcept;  // by which others know this process

  /// Runs `fn` on the network thread and waits for its end. Not from the network thread itself.
  void run_blocking(const std::function<void()>& fn);

  /// Runs a coroutine on the network thread and waits for its value.
  template <class T>
  T await_blocking(std::function<Task<T>()> make_task) {
    std::promise<T> promise;
    auto future = promise.get_future();
    start(relay<T>(std::move(make_task), std::move(promise)));
    return future.get();
  }

 private:
  template <class T>
  static Task<void> relay(std::function<Task<T>()> make_task, std::promise<T> promise) {
    if constexpr (std::is_void_v<T>) {
      co_await make_task();
      promise.set_value();
    } else {
      promise.set_value(co_await make_task());
    }
  }
  void start(Task<void> task);

  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace farmesh::net
