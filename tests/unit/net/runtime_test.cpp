#include "net/runtime.hpp"

#include <chrono>
#include <memory>
#include <thread>

#include <doctest/doctest.h>

#include "net/connection.hpp"
#include "net/event.hpp"

namespace farmesh {
namespace {

using namespace std::chrono_literals;

net::Task<int> answer_after(net::Clock& clock, Duration duration) {
  co_await clock.sleep_until(clock.now() + duration);
  co_return 42;
}

net::Task<void> nothing() { co_return; }

net::Task<void> wait_forever(net::Clock& clock, std::shared_ptr<int> held) {
  co_await clock.sleep_until(TimePoint::max());
  ++*held;
}

}  // namespace

TEST_SUITE("net/runtime") {
  TEST_CASE("work runs on the network thread and its end is waited for") {
    net::Runtime runtime;
    std::thread::id where;
    runtime.run_blocking([&] { where = std::this_thread::get_id(); });
    CHECK(where != std::thread::id());
    CHECK(where != std::this_thread::get_id());
  }

  TEST_CASE("a coroutine's value is waited for") {
    net::Runtime runtime;
    CHECK(runtime.await_blocking<int>([&] { return answer_after(runtime.clock(), 1ms); }) == 42);
    runtime.await_blocking<void>([] { return nothing(); });
  }

  TEST_CASE("coroutines that still wait are ended with the runtime") {
    const int before = net::live_tasks();
    const auto held = std::make_shared<int>(0);
    {
      net::Runtime runtime;
      runtime.run_blocking(
          [&] { net::spawn(runtime.executor(), "waits", wait_forever(runtime.clock(), held)); });
      runtime.run_blocking([] {});
      CHECK(net::live_tasks() == before + 1);
    }
    CHECK(held.use_count() == 1);
    CHECK(*held == 0);
    CHECK(net::live_tasks() == before);
  }

  TEST_CASE("what was posted before the end still runs") {
    bool ran = false;
    {
      net::Runtime runtime;
      asio::post(runtime.executor(), [&] { ran = true; });
    }
    CHECK(ran);
  }

  TEST_CASE("two runtimes talk over tcp, and one may vanish") {
    auto near = std::make_unique<net::Runtime>();
    auto far = std::make_unique<net::Runtime>();
    const auto hello = [] { return wire::Hello{}; };
    std::unique_ptr<net::Listener> listener;
    std::shared_ptr<net::Connection> accepted;
    std::string address;
    far->run_blocking([&] {
      auto listening = far->tcp().listen("127.0.0.1:0", [&](std::shared_ptr<net::Link> link) {
        net::Connection::accept(
            std::move(link), far->clock(), {hello, {}},
            [](const auto& from, wire::Frame frame) {
              static_cast<void>(from->reply(frame, frame.verb, {}, frame.payload));
            },
            {}, [&](const auto& ready) { accepted = ready; });
      });
      REQUIRE(listening);
      listener = std::move(*listening);
      address = listener->address();
    });

    std::promise<Errc> lost;
    using Connected = Result<std::shared_ptr<net::Connection>>;
    Connected connected = near->await_blocking<Connected>([&] {
      return net::Connection::connect(
          near->tcp(), address, {hello, {}}, [](const auto&, wire::Frame) {},
          [&](const auto&, const Error& error) { lost.set_value(error.code); },
          near->clock().now() + 5s);
    });
    REQUIRE(connected);
    const auto answer = near->await_blocking<Result<wire::Frame>>([&] {
      return (*connected)
          ->call(wire::Verb::open, {}, Payload::copy_of(as_view("abc")), near->clock().now() + 5s);
    });
    REQUIRE(answer);
    CHECK(answer->payload.size() == 4);

    far->run_blocking([&] {
      listener.reset();
      accepted.reset();
    });
    far.reset();
    CHECK(lost.get_future().get() == Errc::connection_lost);
    near->run_blocking([&] { connected = Error{Errc::closed, ""}; });
  }
}

}  // namespace farmesh
