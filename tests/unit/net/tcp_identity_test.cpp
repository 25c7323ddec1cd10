// Who is who over sockets: proven keys, expected ids, strangers and floods.
#include <algorithm>
#include <cstring>

#include <asio/read.hpp>
#include <asio/write.hpp>

#include "net/connection.hpp"
#include "net/tcp_address.hpp"
#include "net/tcp_transport.hpp"
#include "unit/net/raw_peer.hpp"

namespace farmesh {
namespace {

using namespace std::chrono_literals;
using asio::ip::tcp;
using test::frame_of;
using LinkResult = Result<std::shared_ptr<net::Link>>;

// A listener and a dialler with keys of their own.
struct TwoNodes : test::TcpWorld {
  identity::NodeKey near_key = identity::NodeKey::generate();
  identity::NodeKey far_key = identity::NodeKey::generate();
  std::unique_ptr<net::Transport> far;
  std::vector<std::shared_ptr<net::Link>> taken;

  explicit TwoNodes(net::LinkLimits limits = {})
      : far(net::make_tcp_transport(context, *clock, far_key, limits)) {
    transport = net::make_tcp_transport(context, *clock, near_key);
    auto listening = far->listen(
        "127.0.0.1:0", [this](std::shared_ptr<net::Link> link) { taken.push_back(link); });
    REQUIRE(listening);
    listener = std::move(*listening);
  }

  LinkResult dial(const std::string& address) {
    return run(transport->dial(address, clock->now() + 5s));
  }
  tcp::socket plain() {
    const auto place = net::parse_address(listener->address());
    tcp::socket socket(context);
    socket.connect({asio::ip::make_address(place->host), place->port});
    return socket;
  }
  /// Until the other side has ended the connection; what it said is thrown away.
  void until_closed(tcp::socket& socket) {
    socket.non_blocking(true);
    std::array<std::byte, 512> bytes;
    while (true) {
      std::error_code error;
      socket.read_some(asio::buffer(bytes), error);
      if (error && error != asio::error::would_block) return;
      context.restart();
      context.run_one_for(10ms);
    }
  }
};

// Stands between two nodes and keeps what passes.
struct Tap {
  explicit Tap(asio::io_context& c, const std::string& to)
      : context(c), target(to), acceptor(c, {asio::ip::address_v4::loopback(), 0}) {
    acceptor.async_accept(near, [this](std::error_code error) {
      if (error) return;
      const auto place = net::parse_address(target);
      far.connect({asio::ip::make_address(place->host), place->port});
      pass(near, far, near_buffer);
      pass(far, near, far_buffer);
    });
  }

  void pass(tcp::socket& from, tcp::socket& to, std::array<char, 4096>& buffer) {
    from.async_read_some(asio::buffer(buffer), [&, this](std::error_code error, std::size_t bytes) {
      if (error) return;
      seen.append(buffer.data(), bytes);
      asio::write(to, asio::buffer(buffer.data(), bytes), error);
      if (!error) pass(from, to, buffer);
    });
  }

  std::string address() const { return net::format_endpoint(acceptor.local_endpoint()); }

  asio::io_context& context;
  std::string target;
  tcp::acceptor acceptor;
  tcp::socket near{context};
  tcp::socket far{context};
  std::array<char, 4096> near_buffer;
  std::array<char, 4096> far_buffer;
  std::string seen;
};

}  // namespace

TEST_SUITE("net/tcp identity") {
  TEST_CASE("each end of a link knows the other's node") {
    TwoNodes nodes;
    const LinkResult link = nodes.dial(nodes.listener->address());
    REQUIRE(link);
    nodes.until([&] { return !nodes.taken.empty(); });
    CHECK((*link)->identity().local == nodes.near_key.id());
    CHECK((*link)->identity().remote == nodes.far_key.id());
    CHECK(nodes.taken[0]->identity().local == nodes.far_key.id());
    CHECK(nodes.taken[0]->identity().remote == nodes.near_key.id());
  }

  TEST_CASE("an address that names its node is dialled as any other") {
    TwoNodes nodes;
    const auto place = net::parse_address(nodes.listener->address());
    const std::string id = "/p2p/" + to_string(nodes.far_key.id());
    CHECK(nodes.dial(nodes.listener->address() + id));
    const std::string parts = "/ip4/127.0.0.1/tcp/" + std::to_string(place->port);
    CHECK(nodes.dial(parts));
    CHECK(nodes.dial(parts + id));
  }

  TEST_CASE("whoever answers at an address under another key is refused by name") {
    TwoNodes nodes;
    const NodeId expected = identity::NodeKey::generate().id();
    const LinkResult link = nodes.dial(nodes.listener->address() + "/p2p/" + to_string(expected));
    REQUIRE_FALSE(link);
    CHECK(link.error().code == Errc::identity_mismatch);
    CHECK(link.error().detail.find(short_name(expected)) != std::string::npos);
    CHECK(link.error().detail.find(short_name(nodes.far_key.id())) != std::string::npos);
  }

  TEST_CASE("a client that speaks no TLS never becomes a link") {
    TwoNodes nodes;
    tcp::socket plain = nodes.plain();
    wire::Frame hello = frame_of(wire::Verb::hello);
    hello.header = wire::encode(wire::Hello{});
    asio::write(plain, asio::buffer(wire::encode_frame(hello)));
    nodes.until_closed(plain);
    CHECK(nodes.taken.empty());
  }

  TEST_CASE("a node that is answered without TLS says so") {
    TwoNodes nodes;
    tcp::acceptor acceptor(nodes.context, {asio::ip::address_v4::loopback(), 0});
    tcp::socket answering(nodes.context);
    const std::string http = "HTTP/1.1 400 Bad Request\r\n\r\n";
    acceptor.async_accept(answering,
                          [&](std::error_code) { asio::write(answering, asio::buffer(http)); });
    const LinkResult link = nodes.dial(net::format_endpoint(acceptor.local_endpoint()));
    REQUIRE_FALSE(link);
    CHECK(link.error().code == Errc::tls_failed);
  }

  TEST_CASE("a client that connects and says nothing is let go after the handshake's time") {
    test::Loop loop;
    auto transport = net::make_tcp_transport(loop.context, loop.clock, test::some_key());
    bool taken = false;
    auto listening = transport->listen("127.0.0.1:0", [&](const auto&) { taken = true; });
    REQUIRE(listening);
    const auto place = net::parse_address((*listening)->address());
    tcp::socket silent(loop.context);
    silent.connect({asio::ip::make_address(place->host), place->port});
    for (int i = 0; i < 4; ++i) {
      loop.context.restart();
      loop.context.run_one_for(50ms);
    }
    silent.non_blocking(true);
    std::array<std::byte, 16> bytes;
    std::error_code error;
    loop.pass(net::kHandshakeTimeout - 1s);
    silent.read_some(asio::buffer(bytes), error);
    CHECK(error == asio::error::would_block);
    loop.pass(2s);
    silent.read_some(asio::buffer(bytes), error);
    CHECK(error == asio::error::eof);
    CHECK_FALSE(taken);
  }

  TEST_CASE("a dial to somebody who takes the connection and says nothing ends at its deadline") {
    TwoNodes nodes;
    tcp::acceptor silent(nodes.context, {asio::ip::address_v4::loopback(), 0});
    const std::string address = net::format_endpoint(silent.local_endpoint());
    const LinkResult late = nodes.run(nodes.transport->dial(address, nodes.clock->now() + 30ms));
    REQUIRE_FALSE(late);
    CHECK(late.error().code == Errc::timeout);
  }

  TEST_CASE("a flood of handshakes is turned away before any is begun") {
    net::LinkLimits limits;
    limits.handshake_burst = 3;
    limits.handshakes_per_second = 0.001;
    TwoNodes nodes(limits);
    for (int i = 0; i < 3; ++i) CHECK(nodes.dial(nodes.listener->address()));
    for (int i = 0; i < 5; ++i) {
      const LinkResult link = nodes.dial(nodes.listener->address());
      REQUIRE_FALSE(link);
      CHECK(link.error().code == Errc::busy);
    }
    CHECK(nodes.taken.size() == 3);
  }

  TEST_CASE("a node with too many links is told quota") {
    net::LinkLimits limits;
    limits.max_links_per_key = 1;
    TwoNodes nodes(limits);
    const LinkResult first = nodes.dial(nodes.listener->address());
    REQUIRE(first);
    net::Connection::Identity who = test::identity("near");
    const auto second = nodes.run(net::Connection::connect(
        *nodes.transport, nodes.listener->address(), who, [](const auto&, wire::Frame) {}, {},
        nodes.clock->now() + 5s));
    REQUIRE_FALSE(second);
    CHECK(second.error().code == Errc::quota);
  }

  TEST_CASE("a hello that names another node than the key's ends the connection") {
    test::RawPeer peer;
    std::shared_ptr<net::Connection> ready;
    net::Connection::accept(
        peer.link, peer.loop.clock, test::identity("far"), [](const auto&, const wire::Frame&) {},
        {}, [&](const std::shared_ptr<net::Connection>& connection) { ready = connection; });
    wire::Hello lie;
    lie.node_id = identity::NodeKey::generate().id();
    wire::Frame hello = frame_of(wire::Verb::hello);
    hello.header = wire::encode(lie);
    peer.write(wire::encode_frame(hello));
    const Result<wire::Frame> told = wire::decode_frame(peer.read_to_end());
    REQUIRE(told);
    CHECK(wire::decode<wire::ErrorMessage>(told->header)->code == Errc::identity_mismatch);
    CHECK_FALSE(ready);
  }

  TEST_CASE("a private mesh takes those who hold its token, and tells the others why not") {
    const identity::NodeKey mesh = identity::NodeKey::generate();
    const identity::NodeKey other_mesh = identity::NodeKey::generate();
    const auto now = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
    const auto member = [&](const identity::NodeKey& of, std::chrono::seconds left) {
      const identity::NodeKey key = identity::NodeKey::generate();
      const auto token = identity::JoinToken::make(of, "home", now + left);
      REQUIRE(token);
      return identity::Credentials(key, std::make_shared<identity::Membership>(*token, key.id()));
    };
    test::TcpWorld world;
    // Dials a node of `far` as `near`: how that ends, and whether the far side took it.
    const auto meet = [&](const identity::Credentials& near, const identity::Credentials& far) {
      world.transport = net::make_tcp_transport(world.context, *world.clock, near);
      const auto far_transport = net::make_tcp_transport(world.context, *world.clock, far);
      std::shared_ptr<net::Connection> taken;
      auto listening = far_transport->listen("127.0.0.1:0", [&](std::shared_ptr<net::Link> link) {
        net::Connection::accept(
            std::move(link), *world.clock, test::identity("far"), [](const auto&, wire::Frame) {},
            {}, [&](const auto& ready) { taken = ready; });
      });
      REQUIRE(listening);
      const net::Connection::Identity who = test::identity("near");
      const auto made = world.run(net::Connection::connect(
          *world.transport, (*listening)->address(), who, [](const auto&, wire::Frame) {}, {},
          world.clock->now() + 5s));
      CHECK(made.has_value() == (taken != nullptr && taken->is_open()));
      return made ? Errc::ok : made.error().code;
    };
    const identity::Credentials stranger = identity::NodeKey::generate();
    CHECK(meet(member(mesh, 1h), member(mesh, 1h)) == Errc::ok);
    CHECK(meet(stranger, member(mesh, 1h)) == Errc::join_refused);
    CHECK(meet(member(other_mesh, 1h), member(mesh, 1h)) == Errc::join_refused);
    CHECK(meet(member(mesh, -1h), member(mesh, 1h)) == Errc::join_refused);
    CHECK(meet(stranger, stranger) == Errc::ok);
  }

  TEST_CASE("a member says nothing to a node outside its mesh") {
    const identity::NodeKey key = identity::NodeKey::generate();
    const auto token = identity::JoinToken::make(
        key, "home",
        std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now()) + 1h);
    REQUIRE(token);
    TwoNodes nodes;
    nodes.transport = net::make_tcp_transport(
        nodes.context, *nodes.clock,
        {nodes.near_key, std::make_shared<identity::Membership>(*token, nodes.near_key.id())});
    std::shared_ptr<net::Connection> taken;
    auto listening = nodes.far->listen("127.0.0.1:0", [&](std::shared_ptr<net::Link> link) {
      net::Connection::accept(
          std::move(link), *nodes.clock, test::identity("far"), [](const auto&, wire::Frame) {}, {},
          [&](const auto& ready) { taken = ready; });
    });
    REQUIRE(listening);
    const net::Connection::Identity who = test::identity("near");
    const auto made = nodes.run(net::Connection::connect(
        *nodes.transport, (*listening)->address(), who, [](const auto&, wire::Frame) {}, {},
        nodes.clock->now() + 5s));
    REQUIRE_FALSE(made);
    CHECK(made.error().code == Errc::join_refused);
  }

  TEST_CASE("somebody between two nodes sees nothing of what they say") {
    TwoNodes nodes;
    Tap tap(nodes.context, nodes.listener->address());
    const LinkResult link = nodes.dial(tap.address());
    REQUIRE(link);
    nodes.until([&] { return !nodes.taken.empty(); });
    test::Received received;
    received.listen_to(*nodes.taken[0]);
    wire::Hello hello;
    hello.software = "farmesh-software-name";
    wire::Frame frame = frame_of(wire::Verb::hello);
    frame.header = wire::encode(hello);
    frame.payload = Payload::copy_of(as_view(std::string(5'000, 'x') + "activation-bytes"));
    REQUIRE((*link)->send(frame));
    nodes.until([&] { return received.frames.size() == 1; });
    CHECK(tap.seen.size() > 5'000);
    for (const std::string& word :
         {std::string("FMSH"), hello.software, std::string("activation"), std::string(16, 'x'),
          to_string(nodes.near_key.id()), to_string(nodes.far_key.id())}) {
      CAPTURE(word);
      CHECK(tap.seen.find(word) == std::string::npos);
    }
  }
}

}  // namespace farmesh
