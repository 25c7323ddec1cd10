// Peers that die in mid-text: the text goes on, the same, as long as each layer has a living peer.
#include <algorithm>
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

constexpr std::uint32_t kTokens = 128;

GenerateOptions greedy() {
  GenerateOptions options;
  options.max_tokens = kTokens;
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

// The ids of a run in which the peer at `hop` of the route dies once `step` tokens were read.
std::vector<TokenId> ids_with_death(const std::string& folder, Swarm& swarm, std::uint32_t step,
                                    std::size_t hop) {
  const auto model =
      DistributedModel::open({.folder = folder, .peers = swarm.addresses(), .threads = 1});
  REQUIRE(model);
  auto session = model->open_session({.buffer_tokens = 1});
  REQUIRE(session);
  TokenStream stream = session->generate(kStoryPrompt, greedy());
  std::uint32_t read = 0;
  std::string victim;
  for (const Token& token : stream) {
    (void)token;
    if (++read != step) continue;
    const Usage usage = stream.usage();
    REQUIRE(usage.hops.size() == 3);
    victim = usage.hops[hop].peer;
    swarm.kill(victim);
  }
  const std::optional<Error> error = stream.error();
  INFO((error ? error->to_string() : ""));
  CHECK_FALSE(error);
  CHECK(read == kTokens);
  for (const HopUsage& used : stream.usage().hops) {
    // In the last steps there may be nothing left to send to a dead peer.
    if (step + 3 < kTokens) CHECK(used.peer != victim);
  }
  return session->ids();
}

std::vector<TokenId> reference(const std::string& folder) {
  const auto model = DistributedModel::open({.folder = folder, .local = true, .threads = 1});
  REQUIRE(model);
  auto session = model->open_session();
  for (const Token& token : session->generate(kStoryPrompt, greedy())) (void)token;
  return session->ids();
}

void check_death(const std::string& folder, Swarm& swarm, const std::vector<TokenId>& expected,
                 std::uint32_t step, std::size_t hop) {
  INFO("peer ", hop, " of the route killed after token ", step);
  CHECK(ids_with_death(folder, swarm, step, hop) == expected);
  swarm.renew();
}

}  // namespace

TEST_SUITE("integration/failover") {
  TEST_CASE("a peer killed in mid-text, at steps drawn by a seed, changes no token") {
    const std::string folder = any_model();
    std::mt19937_64 random(seed());
    Swarm swarm(folder);
    const std::vector<TokenId> expected = reference(folder);
    for (std::size_t hop = 0; hop < 3; ++hop) {
      check_death(folder, swarm, expected, 1 + random() % (kTokens - 1), hop);
    }
  }

  TEST_CASE("two peers killed at once change no token") {
    const std::string folder = any_model();
    Swarm swarm(folder);
    const auto model =
        DistributedModel::open({.folder = folder, .peers = swarm.addresses(), .threads = 1});
    REQUIRE(model);
    auto session = model->open_session({.buffer_tokens = 1});
    TokenStream stream = session->generate(kStoryPrompt, greedy());
    for (const Token& token : stream) {
      (void)token;
      if (stream.usage().tokens != 40) continue;
      const Usage usage = stream.usage();
      swarm.kill(usage.hops[1].peer);
      swarm.kill(usage.hops[2].peer);
    }
    CHECK_FALSE(stream.error());
    CHECK(session->ids() == reference(folder));
  }

  TEST_CASE("with no spare left the turn fails by name, within its bounds") {
    const std::string folder = any_model();
    auto nodes = start_nodes(folder, cli::even_split(layers_of(folder), 2));
    const auto model =
        DistributedModel::open({.folder = folder, .peers = addresses(nodes), .threads = 1});
    REQUIRE(model);
    auto session = model->open_session({.buffer_tokens = 1});
    TokenStream stream = session->generate(kStoryPrompt, greedy());
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
    const std::string folder = any_model();
    Swarm swarm(folder);
    const std::vector<TokenId> expected = reference(folder);
    for (std::uint32_t step = 1; step < kTokens; ++step) {
      check_death(folder, swarm, expected, step, step % 3);
    }
  }
}

}  // namespace farmesh::test
