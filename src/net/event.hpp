// A flag that coroutines wait for, with a deadline.
//
// State first, then wait: set() before a wait makes that wait return at once. Any number of
// waiters. Confined to the clock's executor.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "net/clock.hpp"
#include "net/task.hpp"

namespace farmesh::net {

class Event {
 public:
  explicit Event(Clock& clock);
  ~Event();  // waiters, if any, are woken as by a timeout
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  void set();
  void reset();
  bool is_set() const noexcept;

  /// True when set, false when `deadline` passed first.
  Task<bool> wait(TimePoint deadline);

 private:
  struct State;
  std::shared_ptr<State> state_;
};

/// Turns `start(done)`, which calls `done(value)` once, now or later on the executor, into an
/// awaitable value.
template <class T>
Task<T> await_callback(Clock& clock, std::function<void(std::function<void(T)>)> start) {
  struct Slot {
    explicit Slot(Clock& c) : ready(c) {}
    Event ready;
    std::optional<T> value;
  };
  auto slot = std::make_shared<Slot>(clock);
  std::function<void(T)> done = [slot](T value) {
    slot->value = std::move(value);
    slot->ready.set();
  };
  start(std::move(done));
  co_await slot->ready.wait(TimePoint::max());
  co_return std::move(*slot->value);
}

}  // namespace farmesh::net
