#include "net/connection.hpp"

#include <vector>

#include "unit/net/loop.hpp"

namespace farmesh {
namespace {

using net::Connection;
using net::ConnectionOptions;
using test::frame_of;
using test::Loop;
using wire::Frame;
using wire::Verb;
using namespace std::chrono_literals;

using ConnectionPtr = std::shared_ptr<Connection>;

// One side of a conversation: what it was handed, and how it ended.
struct Side {
  ConnectionPtr connection;
  std::vector<Frame> frames;
  std::vector<Error> closes;
  std::function<void(const ConnectionPtr&, const Frame&)> on_frame;

  Connection::FrameHandler frame_handler() {
    return [this](const ConnectionPtr& from, Frame frame) {
      frames.push_back(frame);
      if (on_frame) on_frame(from, frame);
    };
  }
  Connection::CloseHandler close_handler() {
    return [this](const ConnectionPtr&, const Error& error) { closes.push_back(error); };
  }
};

// Two sides over a pipe, both past hello.
struct Pair {
  Loop loop;
  Side near;
  Side far;

  explicit Pair(ConnectionOptions options = {}) {
    auto [near_end, far_end] = net::make_pipe(loop.clock, "near", "far");
    Connection::accept(
        far_end, loop.clock, test::identity("far"), far.frame_handler(), far.close_handler(),
        [this](const ConnectionPtr& ready) { far.connection = ready; }, options);
    Result<ConnectionPtr> dialled = loop.run(
        Connection::connect_over(near_end, loop.clock, test::identity("near"), near.frame_handler(),
                                 near.close_handler(), loop.after(1s), options));
    REQUIRE(dialled);
    near.connection = *dialled;
    REQUIRE(far.connection);
  }

  Result<Frame> call(Duration timeout = 1s) {
    return loop.run(near.connection->call(Verb::open, {}, {}, loop.after(timeout)));
  }
};

}  // namespace

TEST_SUITE("net/connection") {
  TEST_CASE("both sides know each other after hello") {
    Pair pair;
    CHECK(pair.near.connection->remote().software == "far");
    CHECK(pair.far.connection->remote().software == "near");
    CHECK(pair.near.connection->version() == 1);
    CHECK(pair.near.connection->address() == "far");
  }

  TEST_CASE("a call gets the answer with its stream") {
    Pair pair;
    pair.far.on_frame = [](const ConnectionPtr& from, const Frame& frame) {
      REQUIRE(from->reply(frame, frame.verb, wire::encode(wire::OpenReply{7, 8, 9})));
    };
    const Result<Frame> answer = pair.call();
    REQUIRE(answer);
    CHECK(wire::decode<wire::OpenReply>(answer->header)->held_positions == 7);
  }

  TEST_CASE("a call that is never answered times out and leaves nothing pending") {
    Pair pair;
    const Result<Frame> answer = pair.call(20ms);
    REQUIRE_FALSE(answer);
    CHECK(answer.error().code == Errc::timeout);
    CHECK(pair.near.connection->pending_calls() == 0);
  }
}

}  // namespace farmesh
