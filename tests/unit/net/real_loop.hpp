// One thread, one io_context and the machine's own clock, for tests over real sockets.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include <asio/io_context.hpp>
#include <doctest/doctest.h>

#include "net/clock.hpp"
#include "net/task.hpp"

namespace farmesh::test {

struct RealLoop {
  asio::io_context context{1};
  std::unique_ptr<net::Clock> clock = net::make_real_clock(context);
  std::chrono::seconds patience{10};

  /// Runs handlers until `done`; fails the test when that takes longer than `patience`.
  void until(const std::function<bool()>& done) {
    const auto limit = std::chrono::steady_clock::now() + patience;
    while (!done()) {
      context.restart();
      context.run_one_until(limit);
      REQUIRE(std::chrono::steady_clock::now() < limit);
    }
  }

  template <class T>
  T run(net::Task<T> task) {
    std::optional<T> value;
    net::spawn(context.get_executor(), "test", keep(std::move(task), value));
    until([&] { return value.has_value(); });
    return std::move(*value);
  }

  /// `task`, whose value is put into `value`.
  template <class T>
  static net::Task<void> keep(net::Task<T> task, std::optional<T>& value) {
    value.emplace(co_await std::move(task));
  }
};

}  // namespace farmesh::test
