// What every link promises (net/link.hpp), held against each kind of link.
#include <cstring>

#include "unit/net/link_worlds.hpp"

#define EVERY_LINK test::PipeWorld, test::SimulatedWorld, test::TcpWorld

namespace farmesh {
namespace {

using test::frame_of;
using test::Received;
using wire::Frame;
using wire::Verb;

Frame numbered(std::uint32_t number, std::size_t payload_bytes) {
  Frame frame;
  frame.verb = Verb::step;
  frame.stream = number;
  frame.header.assign(number % 100, std::byte{static_cast<unsigned char>(number)});
  if (payload_bytes > 0) {
    AlignedBuffer buffer(payload_bytes);
    std::memset(buffer.data(), static_cast<int>(number), payload_bytes);
    frame.payload = Payload(std::move(buffer));
  }
  return frame;
}

bool same(const Frame& a, const Frame& b) {
  return a.verb == b.verb && a.reply == b.reply && a.stream == b.stream && a.header == b.header &&
         std::ranges::equal(a.payload.view(), b.payload.view());
}

}  // namespace

TEST_SUITE("net/link") {
  TEST_CASE_TEMPLATE("frames of every size arrive whole and in order", World, EVERY_LINK) {
    World world;
    auto [near, far] = world.connect();
    Received received;
    received.listen_to(*far);
    const std::vector<std::size_t> sizes = {0, 1, 63, 8192, 16384, 70'000, 3'000'001, 0, 5};
    std::vector<Frame> sent;
    for (const std::size_t size : sizes) {
      sent.push_back(numbered(static_cast<std::uint32_t>(sent.size()) + 1, size));
      REQUIRE(near->send(sent.back()));
    }
    world.until([&] { return received.frames.size() == sent.size(); });
    for (std::size_t i = 0; i < sent.size(); ++i) CHECK(same(received.frames[i], sent[i]));
    CHECK(near->queued_bytes() == 0);
  }

  TEST_CASE_TEMPLATE("thousands of small frames cross both ways in order", World, EVERY_LINK) {
    World world;
    auto [near, far] = world.connect();
    Received at_near, at_far;
    at_near.listen_to(*near);
    at_far.listen_to(*far);
    constexpr std::uint32_t kFrames = 5'000;
    for (std::uint32_t i = 1; i <= kFrames; ++i) {
      REQUIRE(near->send(numbered(i, i % 7)));
      REQUIRE(far->send(numbered(i, i % 5)));
    }
    world.until(
        [&] { return at_near.frames.size() == kFrames && at_far.frames.size() == kFrames; });
    bool ordered = true;
    for (std::uint32_t i = 1; i <= kFrames; ++i) {
      ordered = ordered && same(at_far.frames[i - 1], numbered(i, i % 7)) &&
                same(at_near.frames[i - 1], numbered(i, i % 5));
    }
    CHECK(ordered);
  }

  TEST_CASE_TEMPLATE("payloads arrive on a boundary that kernels can use", World, EVERY_LINK) {
    World world;
    auto [near, far] = world.connect();
    Received received;
    received.listen_to(*far);
    REQUIRE(near->send(numbered(3, 1000)));
    world.until([&] { return !received.frames.empty(); });
    const auto address = reinterpret_cast<std::uintptr_t>(received.frames[0].payload.view().data());
    CHECK(address % AlignedBuffer::kAlignment == 0);
  }

  TEST_CASE_TEMPLATE("no callback runs inside start, send or close", World, EVERY_LINK) {
    World world;
    auto [near, far] = world.connect();
    Received at_near, at_far;
    REQUIRE(near->send(frame_of(Verb::ping)));
    world.settle();
    at_far.listen_to(*far);
    CHECK(at_far.frames.empty());
    at_near.listen_to(*near);
    near->close({Errc::closed, "enough"});
    CHECK(at_near.closes.empty());
    world.until([&] { return !at_near.closes.empty() && !at_far.closes.empty(); });
    CHECK(at_far.frames.size() == 1);
  }

  TEST_CASE_TEMPLATE("a close is told once to each side, with its own reason", World, EVERY_LINK) {
    World world;
    auto [near, far] = world.connect();
    Received at_near, at_far;
    at_near.listen_to(*near);
    at_far.listen_to(*far);
    near->close({Errc::busy, "first"});
    near->close({Errc::closed, "second"});
    CHECK_FALSE(near->is_open());
    const Result<void> sent = near->send(frame_of(Verb::ping));
    REQUIRE_FALSE(sent);
    CHECK(sent.error().code == Errc::busy);
    world.until([&] { return !at_near.closes.empty() && !at_far.closes.empty(); });
    far->close({Errc::closed, "late"});
    world.settle();
    REQUIRE(at_near.closes.size() == 1);
    REQUIRE(at_far.closes.size() == 1);
    CHECK(at_near.closes[0].detail == "first");
    CHECK(at_far.closes[0].code == Errc::connection_lost);
    CHECK_FALSE(far->is_open());
  }

  TEST_CASE_TEMPLATE("frames sent just before a close still arrive", World, EVERY_LINK) {
    World world;
    auto [near, far] = world.connect();
    Received at_near, at_far;
    at_near.listen_to(*near);
    at_far.listen_to(*far);
    REQUIRE(far->send(numbered(9, 100'000)));  // unread when the other side closes
    for (std::uint32_t i = 1; i <= 20; ++i) REQUIRE(near->send(numbered(i, 50'000)));
    near->close({Errc::closed, "done"});
    world.until([&] { return !at_far.closes.empty(); });
    CHECK(at_far.frames.size() == 20);
    CHECK(at_near.frames.empty());
  }

  TEST_CASE_TEMPLATE("dropping a link tells the remote and calls nothing here", World, EVERY_LINK) {
    World world;
    auto [near, far] = world.connect();
    Received at_near, at_far;
    at_near.listen_to(*near);
    at_far.listen_to(*far);
    REQUIRE(near->send(numbered(1, 10)));
    near.reset();
    world.until([&] { return !at_far.closes.empty(); });
    CHECK(at_far.frames.size() == 1);
    CHECK(at_far.closes[0].code == Errc::connection_lost);
    CHECK(at_near.closes.empty());
  }

  TEST_CASE_TEMPLATE("a link may be dropped from inside its own callback", World, EVERY_LINK) {
    World world;
    auto [near, far] = world.connect();
    Received at_near;
    at_near.listen_to(*near);
    int frames = 0;
    std::shared_ptr<net::Link> held = far;
    far.reset();
    const std::string touched(100, 'x');  // captured memory that must outlive the call
    held->start(
        [&, touched](Frame) {
          ++frames;
          held.reset();
          CHECK(touched.size() == 100);
        },
        [](Error) { FAIL("a dropped link called back"); });
    for (int i = 0; i < 3; ++i) REQUIRE(near->send(frame_of(Verb::ping)));
    world.until([&] { return !at_near.closes.empty(); });
    CHECK(frames == 1);
  }

  TEST_CASE_TEMPLATE("a link may be closed from inside its own callback", World, EVERY_LINK) {
    World world;
    auto [near, far] = world.connect();
    int frames = 0;
    int closes = 0;
    far->start(
        [&, &link = far](Frame) {
          ++frames;
          link->close({Errc::closed, "after the first"});
        },
        [&](Error) { ++closes; });
    for (int i = 0; i < 3; ++i) REQUIRE(near->send(frame_of(Verb::ping)));
    world.until([&] { return closes > 0; });
    world.settle();
    CHECK(frames == 1);
    CHECK(closes == 1);
  }

  TEST_CASE_TEMPLATE("a link that ended before it was started says so when it is", World,
                     EVERY_LINK) {
    World world;
    auto [near, far] = world.connect();
    near->close({Errc::closed, "early"});
    Received received;
    received.listen_to(*near);
    world.until([&] { return received.closes.size() == 1; });
    CHECK(received.closes[0].detail == "early");
  }

  TEST_CASE_TEMPLATE("a reader that does not keep up makes the queue busy, not memory full", World,
                     EVERY_LINK) {
    World world;
    net::LinkLimits limits;
    limits.max_queued_bytes = 1u << 20;
    auto [near, far] = world.connect(limits);  // `far` is not started: it reads nothing
    std::size_t accepted = 0;
    Result<void> sent;
    while (sent && accepted < 1'000) {
      sent = near->send(numbered(1, 100'000));
      if (sent) ++accepted;
      CHECK(near->queued_bytes() <= limits.max_queued_bytes);
    }
    REQUIRE_FALSE(sent);
    CHECK(sent.error().code == Errc::busy);
    CHECK(near->is_open());

    Received received;
    received.listen_to(*far);
    world.until([&] { return received.frames.size() == accepted; });
    CHECK(near->send(numbered(2, 100'000)));
  }

  TEST_CASE_TEMPLATE("a frame above the maxima is refused before it is queued", World, EVERY_LINK) {
    World world;
    auto [near, far] = world.connect();
    Frame frame = frame_of(Verb::step);
    frame.header.resize(wire::kMaxHeaderBytes + 1);
    const Result<void> sent = near->send(std::move(frame));
    REQUIRE_FALSE(sent);
    CHECK(sent.error().code == Errc::frame_too_large);
    CHECK(near->is_open());
  }
}

}  // namespace farmesh
