#include <algorithm>
#include <cstring>

#include "net/connection.hpp"
#include "net/tcp_transport.hpp"
#include "unit/net/raw_peer.hpp"

namespace farmesh {
namespace {

using namespace std::chrono_literals;
using test::frame_of;
using test::RawPeer;
using test::TcpWorld;
using wire::Frame;
using wire::Verb;

std::vector<std::byte> sample_frame(std::size_t payload_bytes = 100) {
  Frame frame = frame_of(Verb::step, 5, false, payload_bytes);
  frame.header.assign(40, std::byte{7});
  return wire::encode_frame(frame);
}

// The prefix of a frame with one of its bytes changed.
std::vector<std::byte> with_byte(std::size_t offset, int value) {
  std::vector<std::byte> bytes = sample_frame();
  bytes[offset] = static_cast<std::byte>(value);
  return bytes;
}

}  // namespace

TEST_SUITE("net/tcp") {
  TEST_CASE("a frame that dribbles in byte by byte arrives whole") {
    RawPeer peer;
    peer.start();
    const std::vector<std::byte> bytes = sample_frame();
    for (const std::byte& byte : bytes) {
      peer.write({&byte, 1});
      peer.loop.context.restart();
      peer.loop.context.poll();
    }
    peer.wait_for([&] { return peer.received.frames.size() == 1; });
    CHECK(wire::encode_frame(peer.received.frames[0]) == bytes);
  }

  TEST_CASE("frames that arrive in one piece are taken apart") {
    RawPeer peer;
    peer.start();
    std::vector<std::byte> many;
    for (int i = 0; i < 300; ++i) {
      const std::vector<std::byte> one = sample_frame(static_cast<std::size_t>(i));
      many.insert(many.end(), one.begin(), one.end());
    }
    peer.write(many);
    peer.wait_for([&] { return peer.received.frames.size() == 300; });
    for (std::size_t i = 0; i < 300; ++i) CHECK(peer.received.frames[i].payload.size() == i);
  }

  TEST_CASE("bytes that are no frame close the link, and a stranger is not answered") {
    RawPeer peer;
    peer.start();
    const std::string_view http = "GET / HTTP/1.1\r\nHost: example.org\r\n\r\n";
    peer.write(as_view(http));
    CHECK(peer.wait_for_close().code == Errc::bad_magic);
    CHECK(peer.received.frames.empty());
    CHECK(peer.read_to_end().empty());
  }

  TEST_CASE("a frame that breaks the framing closes the link, and the sender is told why") {
    struct Broken {
      const char* what;
      std::vector<std::byte> bytes;
      Errc code;
    };
    const std::vector<Broken> all = {
        {"a newer version", with_byte(4, 9), Errc::version_unsupported},
        {"version zero", with_byte(4, 0), Errc::version_unsupported},
        {"an unknown verb", with_byte(5, 200), Errc::bad_verb},
        {"an unknown flag", with_byte(6, 2), Errc::bad_header},
        {"a huge header", with_byte(15, 0x7f), Errc::frame_too_large},
        {"a huge payload", with_byte(19, 0x7f), Errc::frame_too_large},
        {"reserved bytes", with_byte(20, 1), Errc::bad_header},
    };
    for (const Broken& broken : all) {
      CAPTURE(broken.what);
      RawPeer peer;
      peer.start();
      peer.write(broken.bytes);
      CHECK(peer.wait_for_close().code == broken.code);
      CHECK(peer.received.frames.empty());
      const Result<Frame> told = wire::decode_frame(peer.read_to_end());
      REQUIRE(told);
      CHECK(told->verb == Verb::error);
      CHECK(wire::decode<wire::ErrorMessage>(told->header)->code == broken.code);
    }
  }

  TEST_CASE("nothing after a broken frame is handed on") {
    RawPeer peer;
    peer.start();
    std::vector<std::byte> bytes = sample_frame();
    for (const auto& more : {with_byte(5, 200), sample_frame()}) {
      bytes.insert(bytes.end(), more.begin(), more.end());
    }
    peer.write(bytes);
    CHECK(peer.wait_for_close().code == Errc::bad_verb);
    CHECK(peer.received.frames.size() == 1);
  }

  TEST_CASE("a payload above the link's limit is refused by its prefix alone") {
    RawPeer peer;
    peer.link->limit_payload(1000);
    peer.start();
    const std::vector<std::byte> within = sample_frame(1000);
    peer.write(within);
    peer.wait_for([&] { return peer.received.frames.size() == 1; });
    const std::vector<std::byte> beyond = sample_frame(1001);
    peer.write(ByteView(beyond).first(wire::kPrefixBytes));
    CHECK(peer.wait_for_close().code == Errc::frame_too_large);
  }

  TEST_CASE("a stranger cannot make a connection take memory before hello") {
    RawPeer peer;
    std::shared_ptr<net::Connection> ready;
    net::Connection::accept(
        peer.link, peer.loop.clock, test::identity("far"), [](const auto&, const Frame&) {}, {},
        [&](const std::shared_ptr<net::Connection>& connection) { ready = connection; });
    wire::FramePrefix prefix;
    prefix.verb = Verb::hello;
    prefix.payload_bytes = net::kMaxPayloadBeforeHello + 1;
    peer.write(wire::encode_prefix(prefix));
    const Result<Frame> told = wire::decode_frame(peer.read_to_end());
    REQUIRE(told);
    CHECK(wire::decode<wire::ErrorMessage>(told->header)->code == Errc::frame_too_large);
    CHECK_FALSE(ready);
  }

  TEST_CASE("after hello a frame may be as large as any") {
    RawPeer peer;
    std::shared_ptr<net::Connection> ready;
    std::vector<Frame> frames;
    net::Connection::accept(
        peer.link, peer.loop.clock, test::identity("far"),
        [&](const auto&, Frame frame) { frames.push_back(std::move(frame)); }, {},
        [&](const std::shared_ptr<net::Connection>& connection) { ready = connection; });
    // In one piece: the limit must be up before the bytes behind hello are looked at.
    wire::Hello said;
    said.node_id = peer.link->identity().remote;
    Frame hello = frame_of(Verb::hello);
    hello.header = wire::encode(said);
    std::vector<std::byte> bytes = wire::encode_frame(hello);
    const std::vector<std::byte> large = sample_frame(net::kMaxPayloadBeforeHello + 1);
    bytes.insert(bytes.end(), large.begin(), large.end());
    peer.write(bytes);
    peer.wait_for([&] { return frames.size() == 1; });
    CHECK(ready);
  }

  TEST_CASE("a remote that closes in mid-frame is lost, wherever it stops") {
    const std::vector<std::byte> bytes = sample_frame();
    for (const std::size_t stop : {std::size_t{1}, wire::kPrefixBytes - 1, wire::kPrefixBytes,
                                   wire::kPrefixBytes + 10, bytes.size() - 1}) {
      CAPTURE(stop);
      RawPeer peer;
      peer.start();
      peer.write(ByteView(bytes).first(stop));
      peer.raw.close();
      const Error& error = peer.wait_for_close();
      CHECK(error.code == Errc::connection_lost);
      CHECK(error.detail.find("mid-frame") != std::string::npos);
    }
  }

  TEST_CASE("a remote that closes between frames is lost, but not in mid-frame") {
    RawPeer peer;
    peer.start();
    peer.write(sample_frame());
    peer.raw.close();
    CHECK(peer.wait_for_close().detail == "closed by the remote");
    CHECK(peer.received.frames.size() == 1);
  }

  TEST_CASE("a remote that hangs in mid-frame is closed after the frame's time") {
    const std::vector<std::byte> bytes = sample_frame();
    for (const std::size_t stop : {std::size_t{12}, wire::kPrefixBytes + 1, bytes.size() - 1}) {
      CAPTURE(stop);
      RawPeer peer;
      peer.start();
      peer.write(bytes);
      peer.write(ByteView(bytes).first(stop));
      peer.wait_for([&] { return peer.received.frames.size() == 1; });
      peer.loop.pass(29s);
      CHECK(peer.link->is_open());
      peer.loop.pass(2s);
      CHECK(peer.wait_for_close().code == Errc::timeout);
    }
  }

  TEST_CASE("a frame that begins late in the time of another has its own time") {
    RawPeer peer;
    peer.start();
    const std::vector<std::byte> bytes = sample_frame();
    const ByteView view(bytes);
    const auto now_received = [&](std::size_t count) {
      peer.wait_for([&] { return peer.received.frames.size() == count; });
    };
    peer.write(view.first(30));
    peer.loop.pass(29s);
    peer.write(view.subspan(30));
    now_received(1);
    peer.write(view.first(30));
    peer.loop.pass(29s);
    CHECK(peer.link->is_open());
    peer.write(view.subspan(30));
    now_received(2);
    peer.loop.pass(120s);  // nothing has begun: nothing is due
    CHECK(peer.link->is_open());
  }

  TEST_CASE("the largest frame crosses loopback") {
    TcpWorld world;
    auto [near, far] = world.connect();
    test::Received received;
    received.listen_to(*far);
    AlignedBuffer buffer(wire::kMaxPayloadBytes);
    for (std::size_t i = 0; i < buffer.size(); i += 4096) buffer.data()[i] = std::byte{0x5a};
    Frame frame = frame_of(Verb::step, 1);
    frame.header.assign(wire::kMaxHeaderBytes, std::byte{3});
    frame.payload = Payload(std::move(buffer));
    REQUIRE(near->send(frame));
    world.until([&] { return !received.frames.empty(); });
    CHECK(received.frames[0].header == frame.header);
    CHECK(std::memcmp(received.frames[0].payload.view().data(), frame.payload.view().data(),
                      frame.payload.size()) == 0);
  }

  TEST_CASE("a listener refuses links beyond its bound and takes more when some have gone") {
    TcpWorld world;
    net::LinkLimits limits;
    limits.max_accepted_links = 1;
    auto [near, far] = world.connect(limits);
    auto second =
        world.run(world.transport->dial(world.listener->address(), world.clock->now() + 5s));
    REQUIRE_FALSE(second);
    CHECK(second.error().code == Errc::busy);

    near.reset();
    far.reset();
    world.settle();
    auto third =
        world.run(world.transport->dial(world.listener->address(), world.clock->now() + 5s));
    REQUIRE(third);
    test::Received open;
    open.listen_to(**third);
    world.settle();
    CHECK(open.closes.empty());
  }

  TEST_CASE("dialling an address where nobody listens is refused") {
    TcpWorld world;
    auto links = world.connect();
    const std::string address = world.listener->address();
    world.listener.reset();
    const auto refused = world.run(world.transport->dial(address, world.clock->now() + 5s));
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::connection_refused);
  }

  TEST_CASE("a remote that does not take the connection ends a dial at its deadline") {
    TcpWorld world;
    auto links = world.connect();
    asio::ip::tcp::acceptor full(world.context, {asio::ip::address_v4::loopback(), 0});
    full.listen(0);  // and nothing is accepted: the kernel drops what comes after the first few
    std::vector<asio::ip::tcp::socket> waiting;
    for (int i = 0; i < 8; ++i) {
      waiting.emplace_back(world.context);
      waiting.back().async_connect(full.local_endpoint(), [](std::error_code) {});
    }
    const std::string address = net::format_endpoint(full.local_endpoint());
    const auto late = world.run(world.transport->dial(address, world.clock->now() + 30ms));
    REQUIRE_FALSE(late);
    CHECK(late.error().code == Errc::timeout);
  }

  TEST_CASE("a deadline in the past ends a dial before it begins") {
    TcpWorld world;
    auto links = world.connect();
    const auto late =
        world.run(world.transport->dial(world.listener->address(), world.clock->now() - 1s));
    REQUIRE_FALSE(late);
    CHECK(late.error().code == Errc::timeout);
  }

  TEST_CASE("addresses that are none are refused by name") {
    TcpWorld world;
    auto links = world.connect();
    for (const char* address : {"/ip4/127.0.0.1",
                                "/ip4/127.0.0.1/tcp/",
                                "/ip4//tcp/80",
                                "/ipx/h/tcp/80",
                                "/ip4/127.0.0.1/udp/80",
                                "127.0.0.1:80/p2p/",
                                "127.0.0.1:80/p2p/QmYyQSo1c1Ym7orW",
                                "127.0.0.1:80/",
                                "",
                                ":",
                                "host",
                                "host:",
                                ":80",
                                "host:65536",
                                "host:-1",
                                "host:8a",
                                "::1:80",
                                "[::1]80",
                                "[]:80",
                                "a b:80",
                                "[::1]:",
                                "127.0.0.1:0",
                                "no-such-name.invalid:80"}) {
      CAPTURE(address);
      const auto dialled = world.run(world.transport->dial(address, world.clock->now() + 5s));
      REQUIRE_FALSE(dialled);
      CHECK(dialled.error().code == Errc::address_invalid);
    }
    CHECK(world.transport->listen("nowhere", {}).error().code == Errc::address_invalid);
  }

  TEST_CASE("an address in use cannot be listened on twice") {
    TcpWorld world;
    auto links = world.connect();
    const auto again = world.transport->listen(world.listener->address(), {});
    REQUIRE_FALSE(again);
    CHECK(again.error().code == Errc::io_error);
  }

  TEST_CASE("names and version 6 addresses can be listened on and dialled") {
    for (const char* address : {"localhost:0", "[::1]:0"}) {
      CAPTURE(address);
      TcpWorld world;
      world.transport = net::make_tcp_transport(world.context, *world.clock, test::some_key());
      std::shared_ptr<net::Link> accepted;
      auto listening = world.transport->listen(
          address, [&](std::shared_ptr<net::Link> link) { accepted = std::move(link); });
      if (!listening) {
        MESSAGE("skipped: this machine cannot listen at ", address);
        continue;
      }
      const std::string bound = (*listening)->address();
      const std::string port = bound.substr(bound.rfind(':'));
      const std::string dial = std::string(address).substr(0, std::strlen(address) - 2) + port;
      const auto link = world.run(world.transport->dial(dial, world.clock->now() + 5s));
      REQUIRE(link);
      CHECK((*link)->remote_address() == dial);
      CHECK((*link)->remote_endpoint() == bound);
      const auto meant = world.run(world.transport->resolve(dial, world.clock->now() + 5s));
      REQUIRE(meant);
      CHECK(std::find(meant->begin(), meant->end(), bound) != meant->end());
      world.until([&] { return accepted != nullptr; });
    }
  }

  TEST_CASE("a link may outlive its transport") {
    TcpWorld world;
    auto [near, far] = world.connect();
    test::Received received;
    received.listen_to(*far);
    world.listener.reset();
    world.transport.reset();
    REQUIRE(near->send(frame_of(Verb::ping)));
    world.until([&] { return received.frames.size() == 1; });
    near.reset();
    world.until([&] { return received.closes.size() == 1; });
  }
}

}  // namespace farmesh
