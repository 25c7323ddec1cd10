#include "net/mailbox.hpp"

#include <algorithm>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <sys/resource.h>

#include "unit/net/real_loop.hpp"

namespace farmesh {
namespace {

using test::RealLoop;

std::unique_ptr<net::Mailbox> mailbox_of(RealLoop& loop) {
  Result<std::unique_ptr<net::Mailbox>> mailbox = net::Mailbox::create(loop.context.get_executor());
  REQUIRE(mailbox);
  return *std::move(mailbox);
}

}  // namespace

TEST_SUITE("net/mailbox") {
  TEST_CASE("what threads post runs on the executor, each thread's in its order") {
    constexpr int kThreads = 3;
    constexpr int kEach = 2'000;
    RealLoop loop;
    const auto mailbox = mailbox_of(loop);
    std::vector<std::vector<int>> heard(kThreads);
    std::size_t told = 0;
    std::vector<std::thread> threads;
    for (int who = 0; who < kThreads; ++who) {
      threads.emplace_back([&, who] {
        for (int i = 0; i < kEach; ++i) {
          mailbox->post([&, who, i] {
            heard[who].push_back(i);
            ++told;
          });
        }
      });
    }
    loop.until([&] { return told == std::size_t{kThreads} * kEach; });
    for (std::thread& thread : threads) thread.join();
    for (const std::vector<int>& one : heard) {
      CHECK(std::ranges::is_sorted(one));
      CHECK(one.size() == kEach);
    }
  }

  TEST_CASE("what is posted by what runs comes after it") {
    RealLoop loop;
    const auto mailbox = mailbox_of(loop);
    std::vector<int> order;
    mailbox->post([&] {
      mailbox->post([&] { order.push_back(3); });
      order.push_back(1);
    });
    mailbox->post([&] { order.push_back(2); });
    loop.until([&] { return order.size() == 3; });
    CHECK(order == std::vector{1, 2, 3});
  }

  TEST_CASE("what has not run when it ends is dropped, with what it holds") {
    RealLoop loop;
    auto mailbox = mailbox_of(loop);
    const auto held = std::make_shared<int>(0);
    bool ended = false;
    mailbox->post([&] {
      mailbox.reset();
      ended = true;
    });
    mailbox->post([held] { ++*held; });
    loop.until([&] { return ended && held.use_count() == 1; });
    CHECK(*held == 0);
  }

  TEST_CASE("without a descriptor left there is an error, and no mailbox") {
    RealLoop loop;
    rlimit before{};
    REQUIRE(getrlimit(RLIMIT_NOFILE, &before) == 0);
    const rlimit none{0, before.rlim_max};
    REQUIRE(setrlimit(RLIMIT_NOFILE, &none) == 0);
    const Result<std::unique_ptr<net::Mailbox>> mailbox =
        net::Mailbox::create(loop.context.get_executor());
    REQUIRE(setrlimit(RLIMIT_NOFILE, &before) == 0);
    REQUIRE(!mailbox);
    CHECK(mailbox.error().code == Errc::io_error);
  }
}

}  // namespace farmesh
