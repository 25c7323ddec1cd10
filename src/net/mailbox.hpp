// Functions that another thread hands to the network thread.
//
// asio::post() hands over as well, but wakes a sleeping thread while it holds the lock which that
// thread takes first: it would wake, sleep and wake once more, in the way of every pass's result.
#pragma once

#include <functional>
#include <memory>

#include <farmesh/result.hpp>

#include "net/task.hpp"

namespace farmesh::net {

class Mailbox {
 public:
  /// Fails with io_error when the process is out of descriptors.
  static Result<std::unique_ptr<Mailbox>> create(const Executor& executor);
  /// On the executor. What has not run yet is dropped.
  ~Mailbox();
  Mailbox(const Mailbox&) = delete;
  Mailbox& operator=(const Mailbox&) = delete;

  /// Runs `fn` soon on the executor, in the order of calls. From any thread.
  void post(std::function<void()> fn);

 private:
  struct State;
  explicit Mailbox(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;
};

}  // namespace farmesh::net
