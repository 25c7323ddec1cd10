// Links through a relay: what they carry, what the relay may not do to them, and its bounds.
#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <optional>

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

net::RelayLimits some_limits() {
  net::RelayLimits limits;
  limits.sessions = 4;
  limits.bytes_per_second = 1e9;
  return limits;
}

/// Stands before the relay and treats its bytes as a wicked one would: those of connections that
/// bring a ticket. Others pass as they are.
struct WickedDoor {
  using Deed = std::function<void(std::vector<char>&)>;  // on what passes from the dialler

  WickedDoor(asio::io_context& c, const std::string& to)
      : context(c), target(to), acceptor(c, {asio::ip::address_v4::loopback(), 0}) {
    accept();
  }

  struct Pass : std::enable_shared_from_this<Pass> {
    explicit Pass(asio::io_context& c) : near(c), far(c) {}
    tcp::socket near;
    tcp::socket far;
    std::array<std::array<char, 4096>, 2> buffers{};
    std::size_t passed = 0;  // from the dialler
    bool ticket = false;
  };

  void accept() {
    const auto pass = std::make_shared<Pass>(context);
    acceptor.async_accept(pass->near, [this, pass](std::error_code error) {
      if (error) return;
      const auto place = net::parse_address(target);
      pass->far.connect({asio::ip::make_address(place->host), place->port});
      flow(pass, true);
      flow(pass, false);
      accept();
    });
  }

  void flow(const std::shared_ptr<Pass>& pass, bool forth) {
    tcp::socket& from = forth ? pass->near : pass->far;
    auto& buffer = pass->buffers[forth ? 0 : 1];
    from.async_read_some(asio::buffer(buffer),
                         [this, pass, forth, &buffer](std::error_code error, std::size_t n) {
                           tcp::socket& to = forth ? pass->far : pass->near;
                           if (error) return void(to.close(error));
                           std::vector<char> bytes(buffer.data(), buffer.data() + n);
                           if (forth && pass->passed == 0) pass->ticket = bytes[0] == 'F';
                           if (forth && pass->ticket && armed && pass->passed > 0) deed(bytes);
                           if (forth) pass->passed += n;
                           asio::write(to, asio::buffer(bytes), error);
                           if (!error) flow(pass, forth);
                         });
  }

  std::string address() const {
    return "127.0.0.1:" + std::to_string(acceptor.local_endpoint().port());
  }

  asio::io_context& context;
  std::string target;
  tcp::acceptor acceptor;
  bool armed = false;
  Deed deed = [](std::vector<char>&) {};
};

/// A dialler, a relay that listens, and a node that does not.
struct ThreeNodes : test::TcpWorld {
  identity::NodeKey dialler_key = identity::NodeKey::generate();
  identity::NodeKey relay_key = identity::NodeKey::generate();
  identity::NodeKey hidden_key = identity::NodeKey::generate();
  std::unique_ptr<net::Transport> relay;
  std::unique_ptr<net::Transport> hidden;
  std::vector<std::shared_ptr<net::Connection>> greeted;  // by the relay
  std::vector<LinkResult> met;                            // by the hidden node
  NodeId brought;                                         // whom the relay brings

  explicit ThreeNodes(net::RelayLimits limits = some_limits())
      : relay(net::make_tcp_transport(context, *clock, relay_key)),
        hidden(net::make_tcp_transport(context, *clock, hidden_key)),
        brought(hidden_key.id()) {
    transport = net::make_tcp_transport(context, *clock, dialler_key);
    relay->relay()->allow(limits);
    auto listening = relay->listen("127.0.0.1:0", [this](std::shared_ptr<net::Link> link) {
      net::Connection::accept(
          std::move(link), *clock, test::identity("relay"),
          [this](const auto& from, wire::Frame frame) { answer(from, frame); }, {},
          [this](const auto& ready) { greeted.push_back(ready); });
    });
    REQUIRE(listening);
    listener = std::move(*listening);
  }

  /// As a relay's desk does, with no standing connection in between.
  void answer(const std::shared_ptr<net::Connection>& from, const wire::Frame& frame) {
    const auto wanted = wire::decode<wire::Relay>(frame.header);
    REQUIRE(wanted);
    const auto tickets = relay->relay()->reserve(from->remote().node_id, wanted->node);
    if (!tickets) return void(from->reply_error(frame, tickets.error()));
    if (comes) net::spawn(clock->executor(), "come", come(tickets->hidden));
    REQUIRE(
        from->reply(frame, wire::Verb::relay, wire::encode(wire::RelayReply{tickets->dialler})));
  }

  net::Task<void> come(wire::RelayTicket ticket) {
    auto meeting = hidden->accept_through(listener->address(), ticket, clock->now() + 5s);
    met.push_back(co_await std::move(meeting));
    if (serve && met.back()) serve(*met.back());
  }

  std::string circuit(const NodeId& who, const std::string& through) const {
    return net::circuit_address(through + "/p2p/" + to_string(relay_key.id()), who);
  }

  LinkResult dial(const NodeId& who, const std::string& through = {}) {
    const std::string place = through.empty() ? listener->address() : through;
    return run(transport->dial(circuit(who, place), clock->now() + 5s));
  }

  bool comes = true;
  std::function<void(std::shared_ptr<net::Link>)> serve;  // what the hidden node does with links
};

}  // namespace

TEST_SUITE("net/relay") {
  TEST_CASE("frames go through a relay both ways, between the keys of the two ends") {
    ThreeNodes nodes;
    const LinkResult link = nodes.dial(nodes.hidden_key.id());
    REQUIRE_MESSAGE(link, link.error().to_string());
    nodes.until([&] { return !nodes.met.empty(); });
    REQUIRE(nodes.met[0]);
    CHECK((*link)->identity().remote == nodes.hidden_key.id());
    CHECK((*nodes.met[0])->identity().remote == nodes.dialler_key.id());

    test::Received near;
    test::Received far;
    near.listen_to(**link);
    far.listen_to(**nodes.met[0]);
    REQUIRE((*link)->send(frame_of(wire::Verb::open, 1, false, 300'000)));
    REQUIRE((*nodes.met[0])->send(frame_of(wire::Verb::close, 2, false, 70'000)));
    nodes.until([&] { return !near.frames.empty() && !far.frames.empty(); });
    CHECK(far.frames[0].payload.size() == 300'000);
    CHECK(near.frames[0].payload.size() == 70'000);
    CHECK(nodes.relay->relay()->stats().spliced == 1);
    CHECK(nodes.relay->relay()->stats().bytes > 370'000);

    (*link)->close({Errc::closed, "enough"});
    nodes.until([&] { return !far.closes.empty(); });
    CHECK(far.closes[0].code == Errc::connection_lost);
    nodes.until([&] { return nodes.relay->relay()->stats().pairs == 0; });
  }

  TEST_CASE("another node behind a relay than the one that was dialled is refused") {
    ThreeNodes nodes;
    const LinkResult link = nodes.dial(identity::NodeKey::generate().id());
    REQUIRE_FALSE(link);
    CHECK(link.error().code == Errc::identity_mismatch);
  }

  TEST_CASE("another relay than the one that was named is refused before it is asked") {
    ThreeNodes nodes;
    const std::string named =
        nodes.listener->address() + "/p2p/" + to_string(nodes.dialler_key.id());
    const LinkResult link = nodes.run(nodes.transport->dial(
        net::circuit_address(named, nodes.hidden_key.id()), nodes.clock->now() + 5s));
    REQUIRE_FALSE(link);
    CHECK(link.error().code == Errc::identity_mismatch);
    CHECK(nodes.relay->relay()->stats().pairs == 0);
  }

  TEST_CASE("a relay that changes a byte ends the link with a TLS error") {
    ThreeNodes nodes;
    WickedDoor door(nodes.context, nodes.listener->address());
    door.deed = [](std::vector<char>& bytes) { bytes.back() ^= 1; };
    const LinkResult link = nodes.dial(nodes.hidden_key.id(), door.address());
    REQUIRE_MESSAGE(link, link.error().to_string());
    nodes.until([&] { return !nodes.met.empty(); });
    REQUIRE(nodes.met[0]);
    test::Received far;
    far.listen_to(**nodes.met[0]);
    door.armed = true;
    REQUIRE((*link)->send(frame_of(wire::Verb::open, 1, false, 500)));
    nodes.until([&] { return !far.closes.empty(); });
    CHECK(far.closes[0].code == Errc::tls_failed);
    CHECK(far.frames.empty());
  }

  TEST_CASE("a relay that drops bytes and goes on ends the link with a TLS error") {
    ThreeNodes nodes;
    WickedDoor door(nodes.context, nodes.listener->address());
    int calls = 0;
    door.deed = [&calls](std::vector<char>& bytes) {
      if (calls++ == 0) bytes.resize(bytes.size() / 2);
    };
    const LinkResult link = nodes.dial(nodes.hidden_key.id(), door.address());
    REQUIRE(link);
    nodes.until([&] { return !nodes.met.empty(); });
    test::Received far;
    far.listen_to(**nodes.met[0]);
    door.armed = true;
    REQUIRE((*link)->send(frame_of(wire::Verb::open, 1, false, 500)));
    nodes.until([&] { return calls == 1; });
    REQUIRE((*link)->send(frame_of(wire::Verb::open, 2, false, 5'000)));
    nodes.until([&] { return !far.closes.empty(); });
    CHECK(far.closes[0].code == Errc::tls_failed);
    CHECK(far.frames.empty());
  }

  TEST_CASE("a relay that swallows everything is found by calls that nobody answers") {
    ThreeNodes nodes;
    WickedDoor door(nodes.context, nodes.listener->address());
    std::vector<std::shared_ptr<net::Connection>> served;
    nodes.serve = [&](std::shared_ptr<net::Link> link) {
      net::Connection::accept(
          std::move(link), *nodes.clock, test::identity("hidden"), [](const auto&, wire::Frame) {},
          {}, [&](const auto& ready) { served.push_back(ready); });
    };
    std::optional<Error> ended;
    net::ConnectionOptions hasty;
    hasty.ping_interval = 200ms;
    hasty.ping_timeout = 200ms;
    const auto made = nodes.run(net::Connection::connect(
        *nodes.transport, nodes.circuit(nodes.hidden_key.id(), door.address()),
        test::identity("near"), [](const auto&, wire::Frame) {},
        [&](const auto&, const Error& error) { ended = error; }, nodes.clock->now() + 5s, hasty));
    REQUIRE_MESSAGE(made, made.error().to_string());
    door.armed = true;
    door.deed = [](std::vector<char>& bytes) { bytes.clear(); };
    const auto answer = nodes.run((*made)->call(wire::Verb::ping, wire::encode(wire::Ping{}), {},
                                                nodes.clock->now() + 300ms));
    REQUIRE_FALSE(answer);
    CHECK((answer.error().code == Errc::timeout || answer.error().code == Errc::connection_lost));
    nodes.until([&] { return ended.has_value(); });
    CHECK(ended->code == Errc::connection_lost);
  }

  TEST_CASE("a relay that changes the handshake gets no link made") {
    ThreeNodes nodes;
    WickedDoor door(nodes.context, nodes.listener->address());
    door.armed = true;
    door.deed = [](std::vector<char>& bytes) { bytes.back() ^= 1; };
    const LinkResult link = nodes.dial(nodes.hidden_key.id(), door.address());
    nodes.until([&] { return !nodes.met.empty(); });
    REQUIRE_FALSE(nodes.met[0]);
    CHECK(nodes.met[0].error().code == Errc::tls_failed);
  }

  TEST_CASE("a relay takes no more pairs than it allows, and none where it allows none") {
    net::RelayLimits limits = some_limits();
    limits.sessions = 2;
    limits.sessions_per_node = 1;
    ThreeNodes nodes(limits);
    net::Relay& relay = *nodes.relay->relay();
    const auto id = [](std::uint8_t n) { return NodeId{n}; };
    REQUIRE(relay.reserve(id(1), id(2)));
    CHECK(relay.reserve(id(1), id(3)).error().code == Errc::quota);
    CHECK(relay.reserve(id(3), id(2)).error().code == Errc::quota);
    REQUIRE(relay.reserve(id(3), id(4)));
    CHECK(relay.reserve(id(5), id(6)).error().code == Errc::quota);
    CHECK(relay.stats().pairs == 2);
    relay.allow({});
    CHECK(relay.stats().pairs == 0);
    CHECK(relay.reserve(id(5), id(6)).error().code == Errc::unsupported);
    const LinkResult link = nodes.dial(nodes.hidden_key.id());
    REQUIRE_FALSE(link);
    CHECK(link.error().code == Errc::unsupported);
  }

  TEST_CASE("a ticket lapses when the other end does not come, and its place is free again") {
    net::RelayLimits limits = some_limits();
    limits.ticket_life = 50ms;
    ThreeNodes nodes(limits);
    nodes.comes = false;
    const LinkResult link = nodes.dial(nodes.hidden_key.id());
    REQUIRE_FALSE(link);
    CHECK(link.error().code == Errc::connection_lost);
    CHECK(nodes.relay->relay()->stats().lapsed == 1);
    CHECK(nodes.relay->relay()->stats().pairs == 0);
  }

  TEST_CASE("a ticket that is none, or was used, ends its connection") {
    ThreeNodes nodes;
    const auto tickets = nodes.relay->relay()->reserve(NodeId{1}, NodeId{2});
    REQUIRE(tickets);
    const auto place = net::parse_address(nodes.listener->address());
    const auto connect = [&](const wire::RelayTicket& ticket) {
      tcp::socket socket(nodes.context);
      socket.connect({asio::ip::make_address(place->host), place->port});
      asio::write(socket, asio::buffer(wire::encode_preamble(ticket)));
      return socket;
    };
    const tcp::socket first = connect(tickets->hidden);
    const tcp::socket again = connect(tickets->hidden);
    const tcp::socket stranger = connect(wire::RelayTicket{});
    nodes.until([&] { return nodes.relay->relay()->stats().unknown == 2; });
    CHECK(nodes.relay->relay()->stats().pairs == 1);
    CHECK(nodes.relay->relay()->stats().spliced == 0);
  }

  TEST_CASE("a pair ends when the day's bytes are spent, and no other begins") {
    net::RelayLimits limits = some_limits();
    limits.bytes_per_day = 100'000;
    ThreeNodes nodes(limits);
    const LinkResult link = nodes.dial(nodes.hidden_key.id());
    REQUIRE(link);
    test::Received near;
    near.listen_to(**link);
    REQUIRE((*link)->send(frame_of(wire::Verb::open, 1, false, 1'000'000)));
    nodes.until([&] { return !near.closes.empty(); });
    CHECK(nodes.relay->relay()->stats().bytes < 200'000);
    CHECK(nodes.relay->relay()->reserve(NodeId{1}, NodeId{2}).error().code == Errc::quota);
  }

  TEST_CASE("pairs share the bytes of a second") {
    net::RelayLimits limits = some_limits();
    limits.bytes_per_second = 1'000'000;
    ThreeNodes nodes(limits);
    const LinkResult link = nodes.dial(nodes.hidden_key.id());
    REQUIRE(link);
    nodes.until([&] { return !nodes.met.empty(); });
    test::Received far;
    far.listen_to(**nodes.met[0]);
    const TimePoint began = nodes.clock->now();
    REQUIRE((*link)->send(frame_of(wire::Verb::open, 1, false, 700'000)));
    nodes.until([&] { return !far.frames.empty(); });
    CHECK(nodes.clock->now() - began > 400ms);  // 0.7 s less a burst of a quarter
  }

  TEST_CASE("the silent pair ends") {
    net::RelayLimits limits = some_limits();
    limits.idle = 500ms;
    ThreeNodes nodes(limits);
    const LinkResult link = nodes.dial(nodes.hidden_key.id());
    REQUIRE(link);
    test::Received near;
    near.listen_to(**link);
    nodes.until([&] { return !near.closes.empty(); });
    CHECK(near.closes[0].code == Errc::connection_lost);
  }
}

}  // namespace farmesh
