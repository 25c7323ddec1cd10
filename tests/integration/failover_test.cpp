// Peers that die in mid-text: the text goes on, the same, as long as each layer has a living peer.
#include <algorithm>
#include <chrono>
#include <iostream>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <signal.h>

#include <farmesh/farmesh.hpp>

#include "integration/program.hpp"

namespace farmesh::test {
namespace {

struct Text {
  std::string folder = any_model();
  std::uint32_t tokens = 128;
};

GenerateOptions greedy(std::uint32_t tokens) {
  GenerateOptions options;
  options.max_tokens = tokens;
  options.sampling.temperature = 0;
  options.ignore_eos = true;
  return options;
}

// Three peers and, for each of them, the spare that takes its place; renewed after each death.
class Swarm {
 public:
  explicit Swarm(std::string model) : model_(std::move(model)) {
    const std::vector<Span> spans = cli::even_split(layers_of(model_), 3);
    for (int copy = 0; copy < 2; ++copy) {
      for (cli::NodeProcess& node : start_nodes(model_, spans)) nodes_.push_back(std::move(node));
    }
  }

  std::vector<std::string> addresses() const { return test::addresses(nodes_); }

  void kill(const std::string& address) {
    for (cli::NodeProcess& node : nodes_) {
      if (node.address() == address) node.process().signal(SIGKILL);
    }
    killed_.insert(address);
  }

  void renew() {
    for (cli::NodeProcess& node : nodes_) {
      if (killed_.erase(node.address()) == 0) continue;
      node = std::move(start_nodes(model_, {node.layers()}).front());
    }
  }

 private:
  const std::string model_;
  std::vector<cli::NodeProcess> nodes_;
  std::set<std::string> killed_;
};

struct Death {
  std::vector<TokenId> ids;
  double recovery_ms = 0;  // the longest time between two tokens after it
};

// A run in which the peer at `hop` of the route dies once `step` tokens were read.
Death death_at(const Text& text, Swarm& swarm, std::uint32_t step, std::size_t hop) {
  using Clock = std::chrono::steady_clock;
  const auto model =
      DistributedModel::open({.folder = text.folder, .peers = swarm.addresses(), .threads = 1});
  REQUIRE(model);
  auto session = model->open_session({.buffer_tokens = 1});
  REQUIRE(session);
  TokenStream stream = session->generate(kStoryPrompt, greedy(text.tokens));
  Death death;
  std::uint32_t read = 0;
  std::string victim;
  Clock::time_point last;
  for (const Token& token : stream) {
    (void)token;
    const Clock::time_point now = Clock::now();
    const std::chrono::duration<double, std::milli> waited = now - last;
    if (read >= step) death.recovery_ms = std::max(death.recovery_ms, waited.count());
    last = now;
    if (++read != step) continue;
    const Usage usage = stream.usage();
    REQUIRE(usage.hops.size() == 3);
    victim = usage.hops[hop].peer;
    swarm.kill(victim);
  }
  const std::optional<Error> error = stream.error();
  INFO((error ? error->to_string() : ""));
  CHECK_FALSE(error);
  CHECK(read == text.tokens);
  for (const HopUsage& used : stream.usage().hops) {
    // In the last steps there may be nothing left to send to a dead peer.
    if (step + 3 < text.tokens) CHECK(used.peer != victim);
  }
  death.ids = session->ids();
  return death;
}

std::vector<TokenId> reference(const Text& text) {
  const auto model = DistributedModel::open({.folder = text.folder, .local = true, .threads = 1});
  REQUIRE(model);
  auto session = model->open_session();
  for (const Token& token : session->generate(kStoryPrompt, greedy(text.tokens))) (void)token;
  return session->ids();
}

/// How long it took to go on, in milliseconds.
double check_death(const Text& text, Swarm& swarm, const std::vector<TokenId>& expected,
                   std::uint32_t step, std::size_t hop) {
  INFO("peer ", hop, " of the route killed after token ", step);
  const Death death = death_at(text, swarm, step, hop);
  CHECK(death.ids == expected);
  MESSAGE("peer ", hop, " of the route killed after token ", step, ": went on after ",
          death.recovery_ms, " ms");
  swarm.renew();
  return death.recovery_ms;
}

}  // namespace

TEST_SUITE("integration/failover") {
  TEST_CASE("a peer killed in mid-text, at steps drawn by a seed, changes no token") {
    const Text text;
    std::mt19937_64 random(seed());
    Swarm swarm(text.folder);
    const std::vector<TokenId> expected = reference(text);
    for (std::size_t hop = 0; hop < 3; ++hop) {
      check_death(text, swarm, expected, 1 + random() % (text.tokens - 1), hop);
    }
  }

  TEST_CASE("two peers killed at once change no token") {
    const Text text;
    Swarm swarm(text.folder);
    const auto model =
        DistributedModel::open({.folder = text.folder, .peers = swarm.addresses(), .threads = 1});
    REQUIRE(model);
    auto session = model->open_session({.buffer_tokens = 1});
    TokenStream stream = session->generate(kStoryPrompt, greedy(text.tokens));
    for (const Token& token : stream) {
      (void)token;
      if (stream.usage().tokens != 40) continue;
      const Usage usage = stream.usage();
      swarm.kill(usage.hops[1].peer);
      swarm.kill(usage.hops[2].peer);
    }
    CHECK_FALSE(stream.error());
    CHECK(session->ids() == reference(text));
  }

  TEST_CASE("with no spare left the turn fails by name, within its bounds") {
    const std::string folder = any_model();
    auto nodes = start_nodes(folder, cli::even_split(layers_of(folder), 2));
    const auto model =
        DistributedModel::open({.folder = folder, .peers = addresses(nodes), .threads = 1});
    REQUIRE(model);
    auto session = model->open_session({.buffer_tokens = 1});
    TokenStream stream = session->generate(kStoryPrompt, greedy(Text().tokens));
    for (const Token& token : stream) {
      (void)token;
      if (stream.usage().tokens == 10) nodes[1].process().signal(SIGKILL);
    }
    REQUIRE(stream.error());
    CHECK(stream.error()->code == Errc::no_route);
  }
}

// Minutes of processes: ctest label chaos.
TEST_SUITE("chaos" * doctest::skip()) {
  TEST_CASE("a peer killed after any token changes no token") {
    const Text text = stories().empty() ? Text() : Text{stories(), 64};
    Swarm swarm(text.folder);
    const std::vector<TokenId> expected = reference(text);
    std::vector<double> recoveries;
    for (std::uint32_t step = 1; step < text.tokens; ++step) {
      recoveries.push_back(check_death(text, swarm, expected, step, step % 3));
    }
    std::sort(recoveries.begin(), recoveries.end());
    MESSAGE("killed after each of ", text.tokens, " tokens of ", text.folder,
            ": went on after (ms) median ", recoveries[recoveries.size() / 2], ", longest ",
            recoveries.back());
  }
}

}  // namespace farmesh::test
