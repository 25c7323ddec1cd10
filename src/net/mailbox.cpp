#include "net/mailbox.hpp"

#include <cerrno>
#include <cstdint>
#include <deque>
#include <mutex>
#include <system_error>
#include <utility>

#include <asio/buffer.hpp>
#include <asio/posix/stream_descriptor.hpp>
#include <sys/eventfd.h>

namespace farmesh::net {

struct Mailbox::State : std::enable_shared_from_this<Mailbox::State> {
  State(const Executor& executor, int descriptor) : bell(executor, descriptor) {}

  void listen() {
    bell.async_read_some(asio::buffer(&rings, sizeof rings),
                         [self = shared_from_this()](std::error_code error, std::size_t) {
                           if (!error) self->rung();
                         });
  }

  void rung() {
    std::deque<std::function<void()>> running;
    {
      const std::scoped_lock lock(mutex);
      running.swap(posted);
    }
    for (std::function<void()>& fn : running) {
      if (!bell.is_open()) return;  // the one before ended the mailbox
      std::exchange(fn, nullptr)();
    }
    if (bell.is_open()) listen();
  }

  asio::posix::stream_descriptor bell;
  std::uint64_t rings = 0;
  std::mutex mutex;
  std::deque<std::function<void()>> posted;
};

Result<std::unique_ptr<Mailbox>> Mailbox::create(const Executor& executor) {
  const int descriptor = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (descriptor < 0) {
    return {Errc::io_error, "no event descriptor: " + std::generic_category().message(errno)};
  }
  return std::unique_ptr<Mailbox>(new Mailbox(std::make_shared<State>(executor, descriptor)));
}

Mailbox::Mailbox(std::shared_ptr<State> state) : state_(std::move(state)) { state_->listen(); }

Mailbox::~Mailbox() {
  std::error_code ignored;
  state_->bell.close(ignored);
}

void Mailbox::post(std::function<void()> fn) {
  {
    const std::scoped_lock lock(state_->mutex);
    state_->posted.push_back(std::move(fn));
  }
  ::eventfd_write(state_->bell.native_handle(), 1);  // fails only beyond 2^64 - 2 unheard rings
}

}  // namespace farmesh::net
