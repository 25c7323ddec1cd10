#include "unit/net/connection_sides.hpp"

namespace farmesh {
namespace {

using net::ConnectionOptions;
using test::ConnectionPtr;
using test::frame_of;
using test::keep_answer;
using test::Pair;
using test::Scripted;
using wire::Frame;
using wire::Verb;
using namespace std::chrono_literals;

}  // namespace

TEST_SUITE("net/connection calls") {
  TEST_CASE("a call gets the answer with its stream") {
    Pair pair;
    pair.far.on_frame = [](const ConnectionPtr& from, const Frame& frame) {
      REQUIRE(from->reply(frame, frame.verb, wire::encode(wire::OpenReply{7, 8, 9})));
    };
    const Result<Frame> answer = pair.call();
    REQUIRE(answer);
    CHECK(wire::decode<wire::OpenReply>(answer->header)->held_positions == 7);
  }

  TEST_CASE("a thousand calls answered out of order each get their own answer") {
    Pair pair;
    constexpr std::size_t kCalls = 1'000;
    std::vector<Frame> questions;
    pair.far.on_frame = [&](const ConnectionPtr& from, const Frame& frame) {
      questions.push_back(frame);
      if (questions.size() < kCalls) return;
      // A fixed permutation: every question, in an order that is not the one they came in.
      for (std::size_t i = 0; i < kCalls; ++i) {
        const Frame& question = questions[i * 617 % kCalls];
        REQUIRE(from->reply(question, question.verb, question.header));
      }
    };
    std::vector<std::vector<Result<Frame>>> answers(kCalls);
    for (std::uint32_t i = 0; i < kCalls; ++i) {
      net::spawn(pair.loop.clock.executor(), "call",
                 keep_answer(pair.near.connection->call(Verb::history, wire::encode(wire::Ping{i}),
                                                        {}, pair.loop.after(1s)),
                             answers[i]));
    }
    pair.loop.until([&] { return pair.near.connection->pending_calls() == kCalls; });
    pair.loop.until([&] { return answers.back().size() == 1; });
    pair.loop.pass(1ms);
    bool own = true;
    for (std::uint32_t i = 0; i < kCalls; ++i) {
      own = own && answers[i].size() == 1 && answers[i][0] &&
            wire::decode<wire::Ping>(answers[i][0]->header)->nonce == i;
    }
    CHECK(own);
    CHECK(pair.near.connection->pending_calls() == 0);
  }

  TEST_CASE("a call that is never answered times out and leaves nothing pending") {
    Pair pair;
    const Result<Frame> answer = pair.call(20ms);
    REQUIRE_FALSE(answer);
    CHECK(answer.error().code == Errc::timeout);
    CHECK(pair.near.connection->pending_calls() == 0);
  }

  TEST_CASE("an answer after the deadline is dropped and the connection goes on") {
    Pair pair;
    const Result<Frame> late = pair.call(20ms);
    REQUIRE_FALSE(late);
    const Frame question = pair.far.frames.at(0);
    REQUIRE(pair.far.connection->reply(question, question.verb, {}));
    pair.loop.pass(1ms);
    CHECK(pair.near.connection->is_open());
    CHECK(pair.near.frames.empty());
  }

  TEST_CASE("an error frame becomes the call's error") {
    Pair pair;
    pair.far.on_frame = [](const ConnectionPtr& from, const Frame& frame) {
      REQUIRE(from->reply_error(frame, {Errc::weights_mismatch, "other weights"}));
    };
    const Result<Frame> answer = pair.call();
    REQUIRE_FALSE(answer);
    CHECK(answer.error().code == Errc::weights_mismatch);
    CHECK(answer.error().detail == "other weights");
    CHECK(pair.near.connection->is_open());
  }

  TEST_CASE("an error number this build does not know is kept in the text") {
    Scripted remote;
    remote.open();
    std::vector<Result<Frame>> answers;
    net::spawn(remote.loop.clock.executor(), "call",
               keep_answer(remote.side.connection->call(Verb::open, {}, {}, remote.loop.after(1s)),
                           answers));
    remote.loop.until([&] { return remote.heard.frames.size() == 2; });
    wire::ErrorMessage message;
    message.code = Errc::remote_unknown;
    message.number = 12'345;
    Frame frame = frame_of(Verb::error, remote.heard.frames[1].stream, true);
    frame.header = wire::encode(message);
    remote.send(std::move(frame));
    remote.loop.until([&] { return answers.size() == 1; });
    CHECK(answers[0].error().code == Errc::remote_unknown);
    CHECK(answers[0].error().detail.find("12345") != std::string::npos);
  }

  TEST_CASE("calls beyond the bound are busy") {
    ConnectionOptions options;
    options.max_pending_calls = 2;
    Pair pair(options);
    std::vector<Result<Frame>> answers;
    for (int i = 0; i < 3; ++i) {
      net::spawn(pair.loop.clock.executor(), "call",
                 keep_answer(pair.near.connection->call(Verb::open, {}, {}, pair.loop.after(1s)),
                             answers));
    }
    pair.loop.until([&] { return answers.size() == 1; });
    CHECK(answers[0].error().code == Errc::busy);
    CHECK(pair.near.connection->pending_calls() == 2);
  }

  TEST_CASE("closing this side ends its pending calls with closed") {
    Pair pair;
    std::vector<Result<Frame>> answers;
    net::spawn(
        pair.loop.clock.executor(), "call",
        keep_answer(pair.near.connection->call(Verb::open, {}, {}, pair.loop.after(1h)), answers));
    pair.loop.until([&] { return !pair.far.frames.empty(); });
    pair.near.connection->close();
    pair.near.connection->close();
    CHECK(pair.near.connection->pending_calls() == 0);
    pair.until_closed();
    pair.loop.until([&] { return answers.size() == 1; });
    CHECK(answers[0].error().code == Errc::closed);
    CHECK(pair.near.closes.size() == 1);
    CHECK(pair.near.closes[0].code == Errc::closed);
    CHECK(pair.far.closes[0].code == Errc::connection_lost);
    CHECK(pair.call().error().code == Errc::closed);
    CHECK(pair.near.connection->push(frame_of(Verb::step)).error().code == Errc::closed);
  }

  TEST_CASE("a remote that closes during a call ends it with connection_lost") {
    Pair pair;
    pair.far.on_frame = [&](const ConnectionPtr& from, const Frame&) { from->close(); };
    CHECK(pair.call().error().code == Errc::connection_lost);
    CHECK(pair.call().error().code == Errc::connection_lost);
  }

  TEST_CASE("an answer on a stream where nothing was asked breaks the protocol") {
    for (const std::uint32_t stream : {0u, 1u, 2u, 77u}) {
      CAPTURE(stream);
      Scripted remote;
      remote.open();
      remote.send(frame_of(Verb::open, stream, true));
      CHECK(remote.told() == Errc::bad_stream);
      CHECK(remote.side.frames.empty());
    }
  }
}

}  // namespace farmesh
