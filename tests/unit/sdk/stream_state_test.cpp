#include "sdk/stream_state.hpp"

#include <future>

#include <doctest/doctest.h>

using namespace farmesh;
using namespace farmesh::sdk;
using namespace std::chrono_literals;

TEST_SUITE("sdk/stream_state") {
  TEST_CASE("a writer far ahead waits for its reader, and a close lets it go") {
    StreamState state;
    auto writer = std::async(std::launch::async, [&state] {
      int pushed = 0;
      while (pushed < 100'000 && state.push("x")) ++pushed;
      return pushed;
    });
    for (int i = 0; i < 5'000; ++i) CHECK(state.next()->has_value());
    CHECK(writer.wait_for(0s) == std::future_status::timeout);
    CHECK(state.close());
    const int pushed = writer.get();
    CHECK(pushed >= 5'000);
    CHECK(pushed < 10'000);
    CHECK(state.usage().finish == FinishReason::cancelled);
  }

  TEST_CASE("the end's own count of tokens replaces the pieces counted so far") {
    StreamState state;
    CHECK(state.push("a b"));
    CHECK(state.usage().tokens == 1);
    MeshUsage usage;
    usage.tokens = 2;
    usage.finish = FinishReason::stop;
    state.finish(usage);
    CHECK(state.usage().tokens == 2);
    CHECK(**state.next() == "a b");
    CHECK_FALSE(state.next()->has_value());
    CHECK_FALSE(state.close());
    CHECK(state.usage().finish == FinishReason::stop);
  }

  TEST_CASE("a failure is told after the text before it, again and again") {
    StreamState state;
    state.set_request_id("r");
    CHECK(state.push("a"));
    state.fail({MeshFailure::server, "boom", "", "", 0, {}});
    CHECK(state.next());
    for (int i = 0; i < 2; ++i) CHECK(state.next().error().request_id == "r");
  }

  TEST_CASE("one who asks to be woken is, at once where there is something") {
    StreamState state;
    int woken = 0;
    state.on_ready([&woken] { woken += 100; });
    state.on_ready([&woken] { ++woken; });
    CHECK(woken == 0);
    CHECK(state.push("a"));
    CHECK(woken == 1);
    state.on_ready([&woken] { ++woken; });
    CHECK(woken == 2);
    CHECK(state.next());
    state.on_ready([&woken] { ++woken; });
    state.close();
    CHECK(woken == 3);
  }

  TEST_CASE("a pause ends when its time is over, or the reader closes") {
    StreamState state;
    CHECK(state.sleep(1ms));
    auto pause = std::async(std::launch::async, [&state] { return state.sleep(10min); });
    state.close();
    CHECK_FALSE(pause.get());
  }
}
