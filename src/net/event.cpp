#include "net/event.hpp"

#include <algorithm>
#include <vector>

#include <asio/async_result.hpp>
#include <asio/post.hpp>
#include <asio/use_awaitable.hpp>

namespace farmesh::net {
namespace {

// A suspended coroutine. The clock's timer owns it, so that a clock that ends takes every
// coroutine that still waits with it; events only watch.
struct Waiter {
  virtual ~Waiter() = default;
  virtual void resume(bool was_set) = 0;
  TimerId timer = 0;
};

template <class Handler>
struct HandlerWaiter final : Waiter {
  explicit HandlerWaiter(Handler h) : handler(std::move(h)) {}
  void resume(bool was_set) override { std::move(handler)(was_set); }
  Handler handler;
};

}  // namespace

struct Event::State : std::enable_shared_from_this<Event::State> {
  explicit State(Clock& c) : clock(c), executor(c.executor()) {}

  void add(std::shared_ptr<Waiter> waiter, TimePoint deadline) {
    waiters.push_back(waiter);
    std::weak_ptr<State> weak = weak_from_this();
    Waiter& added = *waiter;
    added.timer = clock.call_at(deadline, [weak, waiter = std::move(waiter)] {
      if (const auto state = weak.lock()) state->forget(waiter);
      waiter->resume(false);
    });
  }

  void forget(const std::shared_ptr<Waiter>& waiter) {
    std::erase_if(waiters, [&](const std::weak_ptr<Waiter>& one) { return one.lock() == waiter; });
  }

  void wake(bool was_set) {
    for (const std::weak_ptr<Waiter>& weak : std::exchange(waiters, {})) {
      std::shared_ptr<Waiter> waiter = weak.lock();
      if (!waiter) continue;
      clock.cancel(waiter->timer);
      asio::post(executor, [waiter, was_set] { waiter->resume(was_set); });
    }
  }

  Clock& clock;
  Executor executor;
  bool is_set = false;
  std::vector<std::weak_ptr<Waiter>> waiters;
};

Event::Event(Clock& clock) : state_(std::make_shared<State>(clock)) {}

Event::~Event() { state_->wake(false); }

void Event::set() {
  state_->is_set = true;
  state_->wake(true);
}

void Event::reset() { state_->is_set = false; }

bool Event::is_set() const noexcept { return state_->is_set; }

Task<bool> Event::wait(TimePoint deadline) {
  if (state_->is_set) co_return true;
  const std::shared_ptr<State> state = state_;  // the event may go while this waits
  auto suspend = [state, deadline](auto handler) {
    state->add(std::make_shared<HandlerWaiter<decltype(handler)>>(std::move(handler)), deadline);
  };
  const bool was_set = co_await asio::async_initiate<const asio::use_awaitable_t<>, void(bool)>(
      suspend, asio::use_awaitable);
  co_return was_set;
}

}  // namespace farmesh::net
