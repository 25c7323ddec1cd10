// Peers on a simulated network, and a driver whose every frame the test writes itself.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "net/sim_transport.hpp"
#include "serve/peer.hpp"
#include "unit/net/loop.hpp"
#include "unit/serve/serve_rig.hpp"

namespace farmesh::serve::test {

using namespace std::chrono_literals;
using farmesh::test::Loop;

inline constexpr ModelHash kModel{{1, 2, 3}};
inline constexpr std::uint32_t kSession = 7;

/// One peer on its own host; a pass takes 10 ms.
struct Node {
  Node(Loop& loop, net::SimNetwork& network, const std::string& host, Span blocks,
       PeerOptions options = {}, WorkerLimits limits = {}, GenerateService* generate = nullptr)
      : transport(network.host(host)),
        worker(*Worker::create(std::make_unique<ProbeEngine>(log, blocks),
                               make_sim_compute(loop.clock, 10ms, 0ms), loop.clock, limits)) {
    options.node_id = options.meter.key ? options.meter.key->id()
                                        : node_id(static_cast<std::uint8_t>(host.back()));
    options.model_id = "stand-in";
    options.model_hash = kModel;
    options.num_layers = kAllLayers.end;
    peer = std::make_unique<Peer>(*transport, *worker, options, generate);
    address = *peer->listen(host + ":1");
  }

  std::uint32_t free_pages() const { return worker->load().free_pages; }

  std::shared_ptr<ProbeEngine::Log> log = std::make_shared<ProbeEngine::Log>();
  std::unique_ptr<net::Transport> transport;
  std::unique_ptr<Worker> worker;
  std::unique_ptr<Peer> peer;
  std::string address;
};

/// A driver on its own host.
class Driver {
 public:
  struct Reply {
    std::string from;
    wire::StepReply message;
    Bytes rows;
  };
  struct Told {
    std::string from;
    wire::ErrorMessage message;
  };

  Driver(Loop& loop, net::SimNetwork& network, const std::string& host = "driver")
      : loop_(loop),
        transport_(network.host(host)),
        id_(node_id(static_cast<std::uint8_t>(host.back()))) {}

  /// From the next dial on.
  void call_itself(const wire::NodeId& id) { id_ = id; }

  Result<std::shared_ptr<net::Connection>> dial(const std::string& address) {
    net::Connection::Identity identity;
    identity.hello = [this] {
      wire::Hello hello;
      hello.node_id = id_;
      hello.software = "driver";
      return hello;
    };
    auto connecting = net::Connection::connect(
        *transport_, address, identity,
        [this, address](const auto&, wire::Frame frame) { take(address, std::move(frame)); },
        [this, address](const auto&, const Error& error) { closes[address] = error.code; },
        loop_.after(5s));
    return loop_.run(std::move(connecting));
  }

  std::shared_ptr<net::Connection> to(const std::string& address) {
    auto& connection = connections_[address];
    if (!connection) {
      auto dialled = dial(address);
      REQUIRE(dialled);
      connection = *dialled;
    }
    return connection;
  }
  void hang_up(const std::string& address) { connections_.erase(address); }

  Result<wire::Frame> call(const std::string& address, wire::Verb verb, wire::HeaderBytes header) {
    auto asking = to(address)->call(verb, std::move(header), {}, loop_.after(5s));
    return loop_.run(std::move(asking));
  }

  wire::Open open_message(Span span, std::uint32_t epoch = 1, std::uint32_t session = kSession) {
    wire::Open open;
    open.session = session_id(session);
    open.epoch = epoch;
    open.span = span;
    open.max_positions = 128;
    open.model_hash = kModel;
    return open;
  }
  Result<wire::OpenReply> open(const std::string& address, const wire::Open& message) {
    const auto answer = call(address, wire::Verb::open, wire::encode(message));
    if (!answer) return answer.error();
    return wire::decode<wire::OpenReply>(answer->header);
  }
  Result<wire::OpenReply> open(const std::string& address, Span span, std::uint32_t epoch = 1,
                               std::uint32_t session = kSession) {
    return open(address, open_message(span, epoch, session));
  }

  wire::Step step_message(std::uint32_t position, std::vector<wire::Hop> route = {},
                          std::uint32_t epoch = 1, std::uint32_t session = kSession) {
    wire::Step step;
    step.session = session_id(session);
    step.epoch = epoch;
    step.position = position;
    step.dtype = DType::f32;
    step.want = wire::Want::all_rows;
    step.route = std::move(route);
    return step;
  }
  void step(const std::string& address, wire::Step message, const Payload& rows) {
    if (message.count == 0) message.count = static_cast<std::uint32_t>(rows.size() / kRowBytes);
    push(address, wire::Verb::step, wire::encode(message), rows);
  }
  void push(const std::string& address, wire::Verb verb, wire::HeaderBytes header,
            Payload payload = {}) {
    wire::Frame frame;
    frame.verb = verb;
    frame.header = std::move(header);
    frame.payload = std::move(payload);
    REQUIRE(to(address)->push(std::move(frame)));
  }

  Result<wire::HistoryReply> history(const std::string& address, std::uint32_t session = kSession) {
    const auto answer =
        call(address, wire::Verb::history, wire::encode(wire::HistoryQuery{session_id(session)}));
    if (!answer) return answer.error();
    return wire::decode<wire::HistoryReply>(answer->header);
  }
  Errc replay(const std::string& address, std::uint32_t from, std::uint32_t to,
              std::vector<wire::Hop> route, std::uint32_t epoch) {
    const auto answer =
        call(address, wire::Verb::replay,
             wire::encode(wire::Replay{session_id(kSession), epoch, from, to, std::move(route)}));
    last_error = answer ? Error{} : answer.error();
    return last_error.code;
  }

  /// The next reply, or error about a session; fails the test when none comes.
  Reply next_reply() {
    loop_.until([this] { return !replies.empty(); });
    Reply reply = std::move(replies.front());
    replies.erase(replies.begin());
    return reply;
  }
  Told next_error() {
    loop_.until([this] { return !errors.empty(); });
    Told told = std::move(errors.front());
    errors.erase(errors.begin());
    return told;
  }

  std::vector<Reply> replies;
  std::vector<Told> errors;
  std::vector<wire::Frame> others;
  std::map<std::string, Errc> closes;
  Error last_error;

 private:
  void take(const std::string& from, wire::Frame frame) {
    if (frame.verb == wire::Verb::step && frame.reply) {
      auto message = wire::decode<wire::StepReply>(frame.header);
      REQUIRE(message);
      replies.push_back({from, *std::move(message), bytes_of(frame.payload)});
    } else if (frame.verb == wire::Verb::error && frame.stream == 0) {
      auto message = wire::decode<wire::ErrorMessage>(frame.header);
      REQUIRE(message);
      CHECK(message->about_session);
      errors.push_back({from, *std::move(message)});
    } else {
      others.push_back(std::move(frame));
    }
  }

  Loop& loop_;
  std::unique_ptr<net::Transport> transport_;
  wire::NodeId id_;
  std::map<std::string, std::shared_ptr<net::Connection>> connections_;
};

/// One peer with all layers, and a driver 5 ms away.
struct Pair {
  explicit Pair(PeerOptions options = {}, WorkerLimits limits = {},
                GenerateService* generate = nullptr)
      : node(loop, network, "a", kAllLayers, options, limits, generate) {}

  Loop loop;
  net::SimNetwork network{loop.clock, {5ms, 0ms, 0}, 1};
  Node node;
  Driver driver{loop, network};
  const std::string& address = node.address;
};

/// Three peers that hold all layers between them, each with a link delay of 5 ms to everybody.
struct Chain {
  static constexpr Span kSpans[3] = {{0, 2}, {2, 5}, {5, 6}};

  explicit Chain(PeerOptions options = {}, WorkerLimits limits = {}) {
    const char* hosts[3] = {"a", "b", "c"};
    for (int i = 0; i < 3; ++i) {
      nodes.push_back(std::make_unique<Node>(loop, network, hosts[i], kSpans[i], options, limits));
    }
  }

  Node& operator[](std::size_t i) { return *nodes[i]; }
  std::vector<wire::Hop> route() const {
    return {{nodes[1]->address, kSpans[1]}, {nodes[2]->address, kSpans[2]}};
  }
  void open(std::uint32_t epoch = 1, std::uint32_t session = kSession) {
    for (std::size_t i = 0; i < 3; ++i) {
      REQUIRE(driver.open(nodes[i]->address, kSpans[i], epoch, session));
    }
  }
  /// One step through all three, and its rows.
  Bytes run(std::uint32_t position, const Tokens& ids, std::uint32_t epoch = 1) {
    driver.step(nodes[0]->address, driver.step_message(position, route(), epoch), embed(ids));
    const auto reply = driver.next_reply();
    CHECK(reply.message.position == position);
    CHECK(reply.message.count == ids.size());
    return reply.rows;
  }

  Loop loop;
  net::SimNetwork network{loop.clock, {5ms, 0ms, 0}, 1};
  std::vector<std::unique_ptr<Node>> nodes;
  Driver driver{loop, network};
};

}  // namespace farmesh::serve::test
