// farmesh node and the public Peer: how a peer ends, and what cancelling leaves behind.
#include <chrono>
#include <optional>
#include <string>
#include <thread>

#include <doctest/doctest.h>
#include <signal.h>

#include <farmesh/farmesh.hpp>

#include "integration/program.hpp"

namespace farmesh::test {
namespace {

GenerateOptions endless() {
  GenerateOptions options;
  options.max_tokens = 1'000'000;
  options.ignore_eos = true;
  return options;
}

Peer start_peer(const std::string& model) {
  Result<Peer> peer = Peer::start({.folder = model, .layers = {0, layers_of(model)}, .threads = 1});
  REQUIRE(peer);
  return *std::move(peer);
}

DistributedModel open_over(const Peer& peer, const std::string& model) {
  Result<DistributedModel> opened =
      DistributedModel::open({.folder = model, .peers = {peer.address()}, .threads = 1});
  REQUIRE(opened);
  return *std::move(opened);
}

}  // namespace

TEST_SUITE("integration/node") {
  TEST_CASE("an idle node ends at once on SIGTERM, with 0") {
    auto nodes = start_nodes(any_model(), {{0, 1}});
    nodes[0].process().signal(SIGTERM);
    CHECK(nodes[0].process().wait() == 0);
  }

  TEST_CASE("a node told to end lets its sessions finish") {
    const std::string model = any_model();
    auto nodes = start_nodes(model, {{0, layers_of(model)}});
    const auto opened =
        DistributedModel::open({.folder = model, .peers = addresses(nodes), .threads = 1});
    REQUIRE(opened);
    {
      auto session = opened->open_session({.buffer_tokens = 1});
      GenerateOptions options = endless();
      options.max_tokens = 40;
      TokenStream stream = session->generate(kStoryPrompt, options);
      REQUIRE(*stream.next());
      nodes[0].process().signal(SIGTERM);
      while (true) {
        const Result<std::optional<Token>> token = stream.next();
        INFO((token ? "" : token.error().to_string()));
        REQUIRE(token);
        if (!*token) break;
      }
      CHECK(stream.usage().tokens == 40);
      CHECK(stream.usage().recoveries == 0);
    }
    CHECK(nodes[0].process().wait() == 0);
  }

  TEST_CASE("a cancelled turn frees its cache on the peer at once, and the session goes on") {
    const std::string folder = any_model();
    const Peer peer = start_peer(folder);
    const DistributedModel model = open_over(peer, folder);
    auto session = model.open_session({.buffer_tokens = 1});
    TokenStream stream = session->generate(kStoryPrompt, endless());
    for (int i = 0; i < 5; ++i) REQUIRE(*stream.next());
    CHECK(peer.stats().sessions == 1);
    stream.cancel();
    CHECK_FALSE(*stream.next());
    CHECK(stream.usage().finish == FinishReason::cancelled);
    CHECK(soon([&peer] { return peer.stats().sessions == 0; }));

    GenerateOptions more = endless();
    more.max_tokens = 3;
    TokenStream next = session->generate(" and", more);
    for (const Token& token : next) (void)token;
    CHECK_FALSE(next.error());
    CHECK(next.usage().tokens == 3);
  }

  TEST_CASE("a slow reader holds the turn back: the peer computes no more than the buffer allows") {
    const std::string folder = any_model();
    const Peer peer = start_peer(folder);
    const DistributedModel model = open_over(peer, folder);
    auto session = model.open_session({.buffer_tokens = 4});
    TokenStream stream = session->generate(kStoryPrompt, endless());
    REQUIRE(*stream.next());
    // The peer comes to rest: two looks in a row, a while apart, see the same count.
    std::uint64_t steps = 0;
    for (std::uint64_t before = 1; before != steps;) {
      before = steps;
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      steps = peer.stats().steps;
    }
    CHECK(steps >= 4);
    CHECK(steps <= 4 + 4);
    CHECK(*stream.next());
  }

  TEST_CASE("sessions that end free what they held, those that live go on") {
    const std::string folder = any_model();
    const Peer peer = start_peer(folder);
    const DistributedModel model = open_over(peer, folder);
    auto staying = model.open_session({.buffer_tokens = 1});
    TokenStream stream = staying->generate(kStoryPrompt, endless());
    REQUIRE(*stream.next());
    {
      auto leaving = model.open_session();
      TokenStream other = leaving->generate(kStoryPrompt, endless());
      REQUIRE(*other.next());
      CHECK(peer.stats().sessions == 2);
    }
    CHECK(soon([&peer] { return peer.stats().sessions == 1; }));
    CHECK(*stream.next());
  }

  TEST_CASE("stop() returns in every thread once the peer has ended") {
    Peer peer = start_peer(any_model());
    std::thread waiting([&peer] { peer.wait(); });
    peer.stop();
    peer.stop();
    waiting.join();
    CHECK(peer.stats().connections == 0);
  }
}

}  // namespace farmesh::test
