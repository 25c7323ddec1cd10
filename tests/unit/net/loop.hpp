// One thread, one io_context and virtual time for tests of coroutines; nothing sleeps.
#pragma once

#include <chrono>
#include <optional>
#include <utility>

#include <asio/io_context.hpp>
#include <doctest/doctest.h>

#include "net/clock.hpp"
#include "net/connection.hpp"
#include "net/sim_transport.hpp"
#include "net/task.hpp"

namespace farmesh::test {

using namespace std::chrono_literals;

struct Loop {
  asio::io_context context{1};
  net::SimClock clock{context};

  TimePoint after(Duration duration) const { return clock.now() + duration; }

  /// Runs until `done`; fails the test when that takes more than an hour of virtual time.
  void until(const std::function<bool()>& done) { REQUIRE(clock.run_until(done, after(1h))); }

  /// Runs everything that happens within `duration`.
  void pass(Duration duration) {
    const TimePoint end = after(duration);
    clock.call_at(end, [] {});
    clock.run_until([] { return false; }, end);
  }

  template <class T>
  T run(net::Task<T> task) {
    std::optional<T> value;
    net::spawn(clock.executor(), "test", keep(std::move(task), value));
    until([&] { return value.has_value(); });
    return std::move(*value);
  }

 private:
  template <class T>
  static net::Task<void> keep(net::Task<T> task, std::optional<T>& value) {
    value.emplace(co_await std::move(task));
  }
};

inline wire::Frame frame_of(wire::Verb verb, std::uint32_t stream = 0, bool reply = false,
                            std::size_t payload_bytes = 0) {
  wire::Frame frame;
  frame.verb = verb;
  frame.stream = stream;
  frame.reply = reply;
  if (payload_bytes > 0) frame.payload = Payload(AlignedBuffer(payload_bytes));
  return frame;
}

inline net::Connection::Identity identity(std::string software, std::uint8_t min_version = 1,
                                          std::uint8_t max_version = 1) {
  net::Connection::Identity who;
  who.hello = [=] {
    wire::Hello hello;
    hello.software = software;
    hello.min_version = min_version;
    hello.max_version = max_version;
    return hello;
  };
  return who;
}

}  // namespace farmesh::test
