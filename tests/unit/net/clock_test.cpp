#include "net/clock.hpp"

#include <string>
#include <vector>

#include "net/event.hpp"
#include "unit/net/link_worlds.hpp"

namespace farmesh {
namespace {

using namespace std::chrono_literals;
using test::Loop;

net::Task<void> note_wait(std::shared_ptr<net::Event> event, TimePoint deadline,
                          std::vector<bool>& outcomes) {
  const bool was_set = co_await event->wait(deadline);
  outcomes.push_back(was_set);
}

net::Task<void> hold_while_waiting(net::Clock& clock, std::shared_ptr<int> held) {
  net::Event event(clock);
  co_await event.wait(TimePoint::max());
  ++*held;
}

net::Task<TimePoint> time_after_sleep(net::Clock& clock, Duration duration) {
  co_await clock.sleep_until(clock.now() + duration);
  co_return clock.now();
}

}  // namespace

TEST_SUITE("net/clock") {
  TEST_CASE("virtual timers run in order of time, then in the order they were set") {
    Loop loop;
    std::string order;
    loop.clock.call_at(loop.after(2s), [&] { order += 'c'; });
    loop.clock.call_at(loop.after(1s), [&] { order += 'a'; });
    loop.clock.call_at(loop.after(1s), [&] { order += 'b'; });
    CHECK(order.empty());
    loop.pass(1500ms);
    CHECK(order == "ab");
    CHECK(loop.clock.now() == TimePoint{} + 1500ms);
    loop.pass(1s);
    CHECK(order == "abc");
  }

  TEST_CASE("a cancelled timer does not run, and cancelling twice or too late has no effect") {
    Loop loop;
    int runs = 0;
    const net::TimerId first = loop.clock.call_at(loop.after(1s), [&] { ++runs; });
    const net::TimerId second = loop.clock.call_at(loop.after(1s), [&] { ++runs; });
    loop.clock.cancel(first);
    loop.clock.cancel(first);
    loop.clock.cancel(0);
    loop.pass(2s);
    loop.clock.cancel(second);
    CHECK(runs == 1);
  }

  TEST_CASE("a timer in the past runs at once, but never inline") {
    Loop loop;
    loop.pass(10s);
    bool ran = false;
    loop.clock.call_at(loop.clock.now() - 5s, [&] { ran = true; });
    CHECK_FALSE(ran);
    loop.until([&] { return ran; });
    CHECK(loop.clock.now() == TimePoint{} + 10s);
  }

  TEST_CASE("ready work runs before virtual time moves") {
    Loop loop;
    std::string order;
    loop.clock.call_at(loop.after(1s), [&] { order += "timer"; });
    asio::post(loop.context, [&] {
      order += "one ";
      asio::post(loop.context, [&] { order += "two "; });
    });
    loop.pass(1s);
    CHECK(order == "one two timer");
  }

  TEST_CASE("run_until stops when done, at the deadline, or when nothing is left") {
    Loop loop;
    int runs = 0;
    for (int i = 1; i <= 3; ++i) loop.clock.call_at(loop.after(i * 1s), [&] { ++runs; });
    CHECK(loop.clock.run_until([&] { return runs == 1; }, loop.after(1h)));
    CHECK(loop.clock.now() == TimePoint{} + 1s);
    CHECK_FALSE(loop.clock.run_until([] { return false; }, TimePoint{} + 2500ms));
    CHECK(runs == 2);
    CHECK(loop.clock.now() == TimePoint{} + 2500ms);
    CHECK_FALSE(loop.clock.run_until([] { return false; }, TimePoint::max()));
    CHECK(runs == 3);
    CHECK(loop.clock.now() == TimePoint{} + 3s);
  }

  TEST_CASE("sleeping takes virtual time only") {
    Loop loop;
    CHECK(loop.run(time_after_sleep(loop.clock, 30min)) == TimePoint{} + 30min);
  }

  TEST_CASE("real timers run in order, also when set or cancelled from inside one") {
    test::TcpWorld world;
    net::Clock& clock = *world.clock;
    const TimePoint start = clock.now();
    std::string order;
    net::TimerId never = 0;
    clock.call_at(start + 3ms, [&] { order += 'c'; });
    clock.call_at(start + 1ms, [&] {
      order += 'a';
      clock.cancel(never);
      clock.call_at(start, [&] { order += 'b'; });
    });
    never = clock.call_at(start + 2ms, [&] { order += 'x'; });
    clock.call_at(TimePoint::max(), [&] { order += 'y'; });
    world.until([&] { return order.size() == 3; });
    CHECK(order == "abc");
    CHECK(clock.now() >= start + 3ms);
    CHECK(world.run(time_after_sleep(clock, 2ms)) >= start + 5ms);
  }

  TEST_CASE("a timer that always sets the next does not keep the others from running") {
    test::TcpWorld world;
    net::Clock& clock = *world.clock;
    bool other = false;
    std::function<void()> again = [&] { clock.call_at(clock.now() - 1s, again); };
    again();
    asio::post(world.context, [&] { other = true; });
    world.until([&] { return other; });
    CHECK(other);
  }
}

TEST_SUITE("net/event") {
  TEST_CASE("a wait after set returns at once") {
    Loop loop;
    net::Event event(loop.clock);
    event.set();
    CHECK(event.is_set());
    CHECK(loop.run(event.wait(loop.clock.now())));
    event.reset();
    CHECK_FALSE(loop.run(event.wait(loop.after(1s))));
    CHECK(loop.clock.now() == TimePoint{} + 1s);
  }

  TEST_CASE("set wakes every waiter, even when it is reset before they run") {
    Loop loop;
    const auto event = std::make_shared<net::Event>(loop.clock);
    std::vector<bool> outcomes;
    for (int i = 0; i < 3; ++i) {
      net::spawn(loop.clock.executor(), "wait", note_wait(event, loop.after(1s), outcomes));
    }
    loop.pass(1ms);
    event->set();
    event->reset();
    CHECK(outcomes.empty());
    loop.pass(2s);
    CHECK(outcomes == std::vector<bool>{true, true, true});
  }

  TEST_CASE("set and deadline in the same instant wake a waiter once") {
    Loop loop;
    const auto event = std::make_shared<net::Event>(loop.clock);
    std::vector<bool> outcomes;
    loop.clock.call_at(loop.after(1s), [&] { event->set(); });
    net::spawn(loop.clock.executor(), "wait", note_wait(event, loop.after(1s), outcomes));
    loop.pass(5s);
    CHECK(outcomes == std::vector<bool>{true});
  }

  TEST_CASE("an event that is destroyed wakes its waiters as by a timeout") {
    Loop loop;
    auto event = std::make_unique<net::Event>(loop.clock);
    std::optional<bool> outcome;
    const auto wait = [](net::Task<bool> waiting, std::optional<bool>& out) -> net::Task<void> {
      out = co_await std::move(waiting);
    };
    net::spawn(loop.clock.executor(), "wait", wait(event->wait(loop.after(1h)), outcome));
    loop.pass(1s);
    event.reset();
    loop.until([&] { return outcome.has_value(); });
    CHECK_FALSE(*outcome);
    CHECK(loop.clock.now() == TimePoint{} + 1s);
  }

  TEST_CASE("a callback's value is awaited, whether it comes at once or later") {
    Loop loop;
    std::function<void(std::function<void(int)>)> at_once = [](std::function<void(int)> done) {
      done(1);
    };
    CHECK(loop.run(net::await_callback<int>(loop.clock, at_once)) == 1);
    std::function<void(std::function<void(int)>)> later = [&](std::function<void(int)> done) {
      loop.clock.call_at(loop.after(1s), [done] { done(2); });
    };
    CHECK(loop.run(net::await_callback<int>(loop.clock, later)) == 2);
  }

  TEST_CASE("a skewed clock runs ahead and faster, and its timers wait by its own time") {
    Loop loop;
    net::SkewedClock fast(loop.clock, 0.1, 7s);
    const TimePoint start = loop.clock.now();
    CHECK(fast.now() - start == 7s);
    TimePoint fired{};
    fast.call_at(fast.now() + 11s, [&] { fired = loop.clock.now(); });
    const net::TimerId never = fast.call_at(fast.now() + 5s, [&] { fired = start; });
    fast.cancel(never);
    loop.pass(20s);
    CHECK(fired - start > 9'999ms);
    CHECK(fired - start < 10'001ms);
    CHECK(fast.now() - start > 28'999ms);
    CHECK(fast.base_time(TimePoint::max()) == TimePoint::max());
  }

  TEST_CASE("coroutines that wait when their clock ends are freed with it") {
    const int before = net::live_tasks();
    const auto held = std::make_shared<int>(0);
    {
      Loop loop;
      net::spawn(loop.clock.executor(), "wait", hold_while_waiting(loop.clock, held));
      loop.pass(1s);
      CHECK(net::live_tasks() == before + 1);
      CHECK(held.use_count() == 2);
    }
    CHECK(held.use_count() == 1);
    CHECK(*held == 0);
    CHECK(net::live_tasks() == before);
  }
}

}  // namespace farmesh
