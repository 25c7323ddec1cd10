// An object of the network thread's, as a caller's thread holds it: used and let go on the network
// thread only. Keeps the model alive.
#pragma once

#include <memory>
#include <utility>

#include <asio/post.hpp>

#include "client/process_guard.hpp"
#include "client/shared_model.hpp"

namespace farmesh::client {

template <class T>
class NetworkHeld {
 public:
  NetworkHeld(std::shared_ptr<const SharedModel> model, std::shared_ptr<T> object)
      : model_(std::move(model)), object_(std::move(object)) {}
  NetworkHeld(const NetworkHeld&) = default;
  NetworkHeld(NetworkHeld&&) noexcept = default;
  NetworkHeld& operator=(const NetworkHeld&) = delete;
  NetworkHeld& operator=(NetworkHeld&&) noexcept = delete;

  ~NetworkHeld() {
    if (!object_) return;
    if (guard_.forked()) {
      // Neither the thread nor its locks can be used: both are left to the process's end.
      // NOLINTNEXTLINE(bugprone-unhandled-exception-at-new): out of memory is the end
      new NetworkHeld(std::move(*this));
      return;
    }
    asio::post(model_->runtime->executor(), [last = std::move(object_)] {});
  }

  // For what the object offers to other threads.
  const T* operator->() const noexcept { return object_.get(); }
  const T& operator*() const noexcept { return *object_; }
  const std::shared_ptr<T>& shared() const noexcept { return object_; }
  const SharedModel& model() const noexcept { return *model_; }
  const ProcessGuard& guard() const noexcept { return guard_; }

  template <class Fn>
  void post(Fn fn) const {
    asio::post(model_->runtime->executor(),
               [object = object_, fn = std::move(fn)]() mutable { fn(*object); });
  }

 private:
  ProcessGuard guard_;
  std::shared_ptr<const SharedModel> model_;
  std::shared_ptr<T> object_;
};

}  // namespace farmesh::client
