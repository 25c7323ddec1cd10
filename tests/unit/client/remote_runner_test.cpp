#include "client/remote_runner.hpp"

#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "net/connection.hpp"
#include "net/sim_transport.hpp"
#include "unit/net/loop.hpp"

namespace farmesh::client {
namespace {

constexpr std::uint32_t kVocabulary = 97;

// The model that every head here runs: its token at an absolute position.
TokenId token_at(std::size_t position) { return TokenId(position * 7 + 3) % kVocabulary; }

// A peer with a head that answers `generate` by a script.
class ScriptedHead {
 public:
  ScriptedHead(test::Loop& loop, net::SimNetwork& network, const std::string& name)
      : loop_(loop), network_(network), name_(name), transport_(network.host(name)) {
    auto listener = transport_->listen(address(), [this](std::shared_ptr<net::Link> link) {
      net::Connection::Identity identity;
      identity.hello = [] {
        wire::Hello hello;
        hello.service.head = true;
        hello.service.vocab_size = kVocabulary;
        hello.service.num_layers = 4;
        hello.service.hidden_size = 16;
        return hello;
      };
      auto on_frame = [this](const std::shared_ptr<net::Connection>& from, wire::Frame frame) {
        take(from, std::move(frame));
      };
      auto on_close = [](const std::shared_ptr<net::Connection>&, const Error&) {};
      auto on_ready = [this](const std::shared_ptr<net::Connection>& client) {
        clients_.push_back(client);
      };
      net::Connection::accept(std::move(link), loop_.clock, identity, on_frame, on_close, on_ready);
    });
    REQUIRE(listener);
    listener_ = *std::move(listener);
  }

  std::string address() const { return name_ + ":1"; }

  // What the next requests get.
  std::optional<std::uint32_t> dies_after;  // tokens
  std::optional<Error> refuses;
  std::optional<std::uint32_t> skips_index;  // tells the token after this one in its place

  // What was asked.
  std::vector<wire::Generate> requests;
  std::vector<std::vector<TokenId>> prompts;
  std::vector<SessionId> closed;

 private:
  void take(const std::shared_ptr<net::Connection>& from, wire::Frame frame) {
    if (frame.verb == wire::Verb::close) {
      closed.push_back(wire::decode<wire::Close>(frame.header)->session);
      return;
    }
    REQUIRE(frame.verb == wire::Verb::generate);
    requests.push_back(*wire::decode<wire::Generate>(frame.header));
    std::vector<TokenId> ids(requests.back().prompt_tokens);
    std::memcpy(ids.data(), frame.payload.view().data(), frame.payload.size());
    prompts.push_back(std::move(ids));
    answer(*from, frame.stream, requests.back(), prompts.back().size());
  }

  void answer(net::Connection& client, std::uint32_t stream, const wire::Generate& request,
              std::size_t position) {
    if (refuses) {
      wire::ErrorMessage error;
      error.code = refuses->code;
      error.number = std::uint16_t(refuses->code);
      error.about_session = true;
      error.session = request.session;
      push(client, wire::Verb::error, stream, wire::encode(error));
      return;
    }
    std::uint32_t told = 0;
    for (std::uint32_t i = request.emitted_tokens; i < request.max_tokens; ++i) {
      if (dies_after && told++ == *dies_after) {
        // What was sent is on its way; the host is gone once it has arrived.
        loop_.clock.call_at(loop_.after(std::chrono::milliseconds(1)),
                            [this] { network_.kill(name_); });
        return;
      }
      wire::TokenMessage token;
      token.session = request.session;
      token.index = i + (skips_index && i >= *skips_index ? 1 : 0);
      token.id = token_at(position++);
      push(client, wire::Verb::token, stream, wire::encode(token));
    }
    wire::TokenMessage end;
    end.session = request.session;
    end.has_token = false;
    end.finish = wire::Finish::length;
    push(client, wire::Verb::token, stream, wire::encode(end));
  }

  static void push(net::Connection& client, wire::Verb verb, std::uint32_t stream,
                   wire::HeaderBytes header) {
    const Result<void> sent =
        client.push({.verb = verb, .reply = true, .stream = stream, .header = std::move(header)});
    CHECK(sent);
  }

  test::Loop& loop_;
  net::SimNetwork& network_;
  const std::string name_;
  std::unique_ptr<net::Transport> transport_;
  std::unique_ptr<net::Listener> listener_;
  std::vector<std::shared_ptr<net::Connection>> clients_;
};

// Two heads and a client of them, on virtual time.
struct World {
  World() {
    for (const ScriptedHead* head : {&a, &b}) peers.add(head->address());
    model.peers = &peers;
    model.num_layers = 4;
    model.hidden_size = 16;
    model.vocab_size = kVocabulary;
    model.peer_addresses = {a.address(), b.address()};
    // Best first is nearest first.
    network.set_latency("client", "b", std::chrono::milliseconds(2));
  }

  Result<wire::Finish> run(RemoteRunner& runner, std::uint32_t max_tokens) {
    TurnInput input;
    input.ids = ids;
    input.max_tokens = max_tokens;
    driver::OnToken on_token = [this](const wire::TokenMessage& message) {
      CHECK(message.id == token_at(ids.size()));
      ids.push_back(message.id);
      return !stop_at || ids.size() < *stop_at;
    };
    return loop.run(runner.run(std::move(input), std::move(on_token)));
  }

  test::Loop loop;
  net::SimNetwork network{loop.clock, {.latency = std::chrono::microseconds(100)}, 1};
  ScriptedHead a{loop, network, "a"};
  ScriptedHead b{loop, network, "b"};
  std::unique_ptr<net::Transport> transport = network.host("client");
  driver::PeerSet peers{*transport, {}};
  SharedModel model;
  std::vector<TokenId> ids{5, 6, 7};
  std::optional<std::size_t> stop_at;  // ids
};

}  // namespace

TEST_SUITE("client/remote_runner") {
  TEST_CASE("a head's tokens arrive in order, then the end it gives") {
    World world;
    RemoteRunner runner(world.model);
    CHECK(*world.run(runner, 10) == wire::Finish::length);
    CHECK(world.ids.size() == 13);
    REQUIRE(world.a.prompts.size() == 1);
    CHECK(world.a.prompts[0] == std::vector<TokenId>{5, 6, 7});
    CHECK(world.a.requests[0].peers == world.model.peer_addresses);
    CHECK(world.b.requests.empty());
  }

  TEST_CASE("when the head dies the next goes on from the tokens told, none twice, none lost") {
    for (const std::uint32_t after : {0u, 1u, 4u, 9u}) {
      World world;
      world.a.dies_after = after;
      RemoteRunner runner(world.model);
      CHECK(*world.run(runner, 10) == wire::Finish::length);
      CHECK(world.ids.size() == 13);
      REQUIRE(world.b.requests.size() == 1);
      CHECK(world.b.requests[0].emitted_tokens == after);
      CHECK(world.b.requests[0].max_tokens == 10);
      CHECK(world.b.prompts[0].size() == 3 + after);
      CHECK(world.b.requests[0].session != world.a.requests[0].session);
      CHECK(runner.recoveries() == 1);
    }
  }

  TEST_CASE("a head that has no room, or that makes no sense, is passed over") {
    World busy;
    busy.a.refuses = Error{Errc::busy, ""};
    RemoteRunner first(busy.model);
    CHECK(*busy.run(first, 10) == wire::Finish::length);
    CHECK(busy.b.requests.size() == 1);

    World mad;
    mad.a.skips_index = 4;
    RemoteRunner second(mad.model);
    CHECK(*mad.run(second, 10) == wire::Finish::length);
    CHECK(mad.ids.size() == 13);
    CHECK(mad.b.requests[0].emitted_tokens == 4);
  }

  TEST_CASE("what every head would refuse is told at once") {
    World world;
    world.a.refuses = Error{Errc::context_exceeded, ""};
    RemoteRunner runner(world.model);
    CHECK(world.run(runner, 10).error().code == Errc::context_exceeded);
    CHECK(world.b.requests.empty());
  }

  TEST_CASE("when every head refuses, the last reason is told") {
    World world;
    world.a.refuses = Error{Errc::busy, ""};
    world.b.refuses = Error{Errc::no_route, ""};
    RemoteRunner runner(world.model);
    CHECK(world.run(runner, 10).error().code == Errc::no_route);
    CHECK(world.a.requests.size() == 1);
    CHECK(world.b.requests.size() == 1);
  }

  TEST_CASE("a reader that has enough ends the turn, and the head is told to forget it") {
    World world;
    world.stop_at = 7;
    RemoteRunner runner(world.model);
    CHECK(*world.run(runner, 10) == wire::Finish::cancelled);
    CHECK(world.ids.size() == 7);
    world.loop.pass(std::chrono::milliseconds(10));
    CHECK(world.a.closed == std::vector<SessionId>{world.a.requests[0].session});
  }

  TEST_CASE("cancel() ends a turn that waits for a silent head") {
    World world;
    world.a.dies_after = 0;
    RemoteRunner runner(world.model);
    world.loop.clock.call_at(world.loop.after(std::chrono::microseconds(600)),
                             [&runner] { runner.cancel(); });
    CHECK(*world.run(runner, 10) == wire::Finish::cancelled);
    CHECK(world.b.requests.empty());
  }

  TEST_CASE("the next turn goes to the same head and session, so that its cache serves again") {
    World world;
    RemoteRunner runner(world.model);
    CHECK(world.run(runner, 4));
    world.ids.push_back(50);
    CHECK(world.run(runner, 4));
    REQUIRE(world.a.requests.size() == 2);
    CHECK(world.a.requests[0].session == world.a.requests[1].session);
    CHECK(world.a.prompts[1].size() == 8);
    CHECK(world.a.requests[1].emitted_tokens == 0);
  }

  TEST_CASE("the session ends with its runner") {
    World world;
    {
      RemoteRunner runner(world.model);
      CHECK(world.run(runner, 4));
    }
    world.loop.pass(std::chrono::milliseconds(10));
    CHECK(world.a.closed.size() == 1);
  }

  TEST_CASE("a head of another shape is refused by name") {
    World world;
    world.model.vocab_size = kVocabulary + 1;
    RemoteRunner runner(world.model);
    const Result<wire::Finish> finish = world.run(runner, 4);
    CHECK(finish.error().code == Errc::weights_mismatch);
    CHECK(finish.error().detail.find("b:1") != std::string::npos);
  }

  TEST_CASE("without any head the client is told so") {
    World world;
    world.network.kill("a");
    world.network.kill("b");
    RemoteRunner runner(world.model);
    CHECK(world.run(runner, 4).error().code == Errc::head_unavailable);
  }
}

}  // namespace farmesh::client
