#include "serve/remote_shares.hpp"

#include <doctest/doctest.h>

#include "unit/serve/serve_rig.hpp"

namespace farmesh::serve {
namespace {

using test::node_id;
using test::session_id;

Errc code(const Result<void>& allowed) { return allowed ? Errc::ok : allowed.error().code; }

}  // namespace

TEST_SUITE("serve/remote_shares") {
  TEST_CASE("a remote has its share of sessions, and others have theirs") {
    RemoteShares shares({.sessions = 2});
    for (const std::uint32_t number : {1u, 2u}) {
      CHECK(code(shares.allow(session_id(number), node_id(1), 10)) == Errc::ok);
      shares.hold(session_id(number), node_id(1), 10);
    }
    CHECK(code(shares.allow(session_id(3), node_id(1), 10)) == Errc::quota);
    CHECK(code(shares.allow(session_id(3), node_id(2), 10)) == Errc::ok);
    CHECK(code(shares.allow(session_id(1), node_id(1), 99)) == Errc::ok);  // its own, again
    shares.release(session_id(1));
    CHECK(code(shares.allow(session_id(3), node_id(1), 10)) == Errc::ok);
  }

  TEST_CASE("a remote has its share of the cache") {
    RemoteShares shares({.tokens = 100});
    shares.hold(session_id(1), node_id(1), 60);
    CHECK(code(shares.allow(session_id(2), node_id(1), 41)) == Errc::quota);
    CHECK(code(shares.allow(session_id(2), node_id(1), 40)) == Errc::ok);
    CHECK(code(shares.allow(session_id(1), node_id(1), 100)) == Errc::ok);
    CHECK(code(shares.allow(session_id(1), node_id(1), 101)) == Errc::quota);
    CHECK(code(shares.allow(session_id(2), node_id(2), 100)) == Errc::ok);
    shares.hold(session_id(1), node_id(1), 10);
    CHECK(code(shares.allow(session_id(2), node_id(1), 90)) == Errc::ok);
  }

  TEST_CASE("what nobody pays for is bounded, and comes back within an hour") {
    using namespace std::chrono_literals;
    RemoteShares shares({.unpaid_tokens = 3'600});
    const TimePoint now{};
    CHECK(code(shares.spend(node_id(1), 3'000, now)) == Errc::ok);
    CHECK(code(shares.spend(node_id(1), 601, now)) == Errc::quota);
    CHECK(code(shares.spend(node_id(2), 3'600, now)) == Errc::ok);
    CHECK(code(shares.spend(node_id(1), 600, now)) == Errc::ok);
    CHECK(code(shares.spend(node_id(1), 11, now + 10s)) == Errc::quota);
    CHECK(code(shares.spend(node_id(1), 10, now + 10s)) == Errc::ok);
    CHECK(code(shares.spend(node_id(1), 3'600, now + 3h)) == Errc::ok);
    CHECK(code(shares.spend(node_id(1), 1, now + 3h)) == Errc::quota);
    RemoteShares unbounded({.unpaid_tokens = 0});
    CHECK(code(unbounded.spend(node_id(1), UINT64_MAX, now)) == Errc::ok);
  }

  TEST_CASE("a session that another driver takes over counts for that one") {
    RemoteShares shares({.sessions = 1});
    shares.hold(session_id(1), node_id(1), 10);
    shares.hold(session_id(1), node_id(2), 10);
    CHECK(code(shares.allow(session_id(2), node_id(1), 10)) == Errc::ok);
    CHECK(code(shares.allow(session_id(2), node_id(2), 10)) == Errc::quota);
    shares.release(session_id(1));
    shares.release(session_id(1));
    CHECK(code(shares.allow(session_id(2), node_id(2), 10)) == Errc::ok);
  }
}

}  // namespace farmesh::serve
