#include "http/loop.hpp"

#include <optional>
#include <thread>
#include <utility>  // before Asio 1.74, which forgets it

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>

#include "base/thread.hpp"

namespace farmesh::http {

namespace asio = boost::asio;

struct Loop::Impl {
  Impl(std::chrono::milliseconds wait, std::function<void()> work)
      : period(wait), tick(std::move(work)) {}

  void tick_later() {
    timer.expires_after(period);
    timer.async_wait([this](boost::system::error_code problem) {
      if (problem || stopping) return;  // a timer that fired just now cannot be cancelled
      tick();
      tick_later();
    });
  }

  std::chrono::milliseconds period;
  std::function<void()> tick;
  bool stopping = false;  // the loop's thread only
  asio::io_context context{1};
  asio::steady_timer timer{context};
  asio::executor_work_guard<asio::io_context::executor_type> work{context.get_executor()};
  std::thread thread;
};

Loop::Loop(std::string_view thread_name, std::chrono::milliseconds period,
           std::function<void()> tick)
    : impl_(std::make_unique<Impl>(period, std::move(tick))) {
  impl_->thread = start_thread(thread_name, [impl = impl_.get()] {
    impl->tick_later();
    impl->context.run();
  });
}

Loop::~Loop() { stop(); }

void Loop::stop() {
  if (!impl_->thread.joinable()) return;
  post([impl = impl_.get()] {
    impl->stopping = true;
    impl->timer.cancel();
    impl->work.reset();
  });
  impl_->thread.join();
}

void Loop::post(std::function<void()> work) { asio::post(impl_->context, std::move(work)); }

struct Loop::Socket::Impl {
  asio::posix::stream_descriptor descriptor;

  template <class Tell>
  void wait(asio::posix::descriptor_base::wait_type what, Tell tell) {
    descriptor.async_wait(what, [tell = std::move(tell)](boost::system::error_code problem) {
      if (!problem) tell();
    });
  }
};

Loop::Socket::Socket(Loop& loop, int descriptor)
    : impl_(new Impl{asio::posix::stream_descriptor(loop.impl_->context, descriptor)}) {}

Loop::Socket::~Socket() { release(); }

void Loop::Socket::await_readable(std::shared_ptr<Ready> who) {
  impl_->wait(asio::posix::descriptor_base::wait_read,
              [who = std::move(who)] { who->on_readable(); });
}

void Loop::Socket::await_writable(std::shared_ptr<Ready> who) {
  impl_->wait(asio::posix::descriptor_base::wait_write,
              [who = std::move(who)] { who->on_writable(); });
}

void Loop::Socket::release() {
  if (impl_->descriptor.is_open()) impl_->descriptor.release();
}

}  // namespace farmesh::http
