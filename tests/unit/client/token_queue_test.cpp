#include "client/token_queue.hpp"

#include <chrono>
#include <thread>

#include <doctest/doctest.h>

namespace farmesh::client {
namespace {

TokenQueue make_queue(std::size_t capacity, std::function<void()> on_room = {}) {
  return TokenQueue(capacity, TurnMeter({}, 1), std::move(on_room));
}

void push(TokenQueue& queue, TokenId id) {
  wire::TokenMessage message;
  message.id = id;
  queue.push(Token{id, "", 0, {}}, message, {});
}

}  // namespace

TEST_SUITE("client/token_queue") {
  TEST_CASE("tokens come out in order, then the end, again and again") {
    auto queue = make_queue(4);
    push(queue, 7);
    push(queue, 8);
    queue.finish(FinishReason::stop, 0);
    CHECK((*queue.pop())->id == 7);
    CHECK((*queue.pop())->id == 8);
    CHECK_FALSE(*queue.pop());
    CHECK_FALSE(*queue.pop());
    CHECK(queue.usage().tokens == 2);
    CHECK(queue.usage().finish == FinishReason::stop);
  }

  TEST_CASE("who must not wait is woken once, by a token, the end or a cancel") {
    int woken = 0;
    const auto wake = [&woken] { ++woken; };
    auto queue = make_queue(4);
    CHECK_FALSE(queue.wait(std::chrono::milliseconds(0)));
    queue.on_ready([] { FAIL("a later call replaces it"); });
    queue.on_ready(wake);
    CHECK(woken == 0);
    push(queue, 7);
    push(queue, 8);
    CHECK(woken == 1);
    CHECK(queue.wait(std::chrono::milliseconds(0)));
    queue.on_ready(wake);  // there is something: at once
    CHECK(woken == 2);
    CHECK(*queue.pop());
    CHECK(*queue.pop());
    queue.on_ready(wake);
    queue.finish(FinishReason::stop, 0);
    CHECK(woken == 3);
    auto cancelled = make_queue(4);
    cancelled.on_ready(wake);
    CHECK(cancelled.cancel());
    CHECK(woken == 4);
  }

  TEST_CASE("a failure is told after the tokens before it") {
    auto queue = make_queue(4);
    push(queue, 7);
    queue.fail({Errc::no_route, "layer 3"}, 2);
    CHECK((*queue.pop())->id == 7);
    CHECK(queue.pop().error().code == Errc::no_route);
    CHECK(queue.pop().error().code == Errc::no_route);
    CHECK(queue.error()->code == Errc::no_route);
    CHECK(queue.usage().recoveries == 2);
  }

  TEST_CASE("a full queue tells its writer once the reader has taken half") {
    int room = 0;
    auto queue = make_queue(4, [&room] { ++room; });
    for (TokenId id = 0; id < 4; ++id) push(queue, id);
    CHECK(queue.full());
    (void)queue.pop();
    CHECK_FALSE(queue.full());
    CHECK(room == 0);
    (void)queue.pop();
    CHECK(room == 1);
    (void)queue.pop();
    CHECK(room == 1);
  }

  TEST_CASE("cancel wakes the reader, drops what waits, and is refused after the end") {
    auto queue = make_queue(4);
    push(queue, 7);
    CHECK(queue.cancel());
    CHECK_FALSE(queue.cancel());
    CHECK(queue.cancelled());
    CHECK_FALSE(queue.full());
    CHECK_FALSE(*queue.pop());
    CHECK(queue.usage().finish == FinishReason::cancelled);
    push(queue, 8);  // the writer has not heard yet
    CHECK_FALSE(*queue.pop());
    CHECK_FALSE(queue.ended());
    queue.fail({Errc::connection_lost, ""}, 0);
    CHECK(queue.ended());
    CHECK_FALSE(queue.error());

    auto over = make_queue(4);
    over.finish(FinishReason::length, 0);
    CHECK_FALSE(over.cancel());
    CHECK(over.usage().finish == FinishReason::length);
  }

  TEST_CASE("a reader that waits gets what another thread writes") {
    auto queue = make_queue(2);
    std::thread writer([&queue] {
      for (TokenId id = 0; id < 1'000; ++id) push(queue, id);
      queue.finish(FinishReason::length, 0);
    });
    TokenId next = 0;
    for (auto token = queue.pop(); *token; token = queue.pop()) REQUIRE((*token)->id == next++);
    CHECK(next == 1'000);
    queue.wait_ended();
    writer.join();
  }
}

}  // namespace farmesh::client
