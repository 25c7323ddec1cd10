// Nodes to which nobody says what to serve: they take what the mesh lacks, and go where it is
// needed when others die.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <signal.h>

#include "integration/program.hpp"

namespace farmesh::test {
namespace {

using namespace std::chrono_literals;

/// Nodes of one mesh that join one after another, each with a DHT address of its own, so that
/// whoever lives is an entrance.
class GrowingMesh {
 public:
  explicit GrowingMesh(std::string model) : model_(std::move(model)) {}

  /// `held`: the layers that it keeps whatever the others do; empty: it chooses.
  cli::NodeProcess& join(const std::vector<std::string>& more, Span held = {}) {
    const std::uint16_t port = free_port();
    std::vector<std::string> flags{"--dht-port", std::to_string(port)};
    if (held.empty()) {
      // Nobody is there to be waited for before the first, and everybody else finds somebody.
      flags =
          flags + std::vector<std::string>{"--rebalance",     "2",
                                           "--hole-patience", "1",
                                           "--first-look",    bootstrap_.empty() ? "0.2" : "60"};
    }
    if (!bootstrap_.empty()) flags = flags + std::vector<std::string>{"--bootstrap", bootstrap_};
    const auto began = std::chrono::steady_clock::now();
    auto joined = start_nodes(model_, {held}, flags + more);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
    const Span layers = joined.front().layers();
    MESSAGE("serves layers ", layers.begin, ":", layers.end, " ", took.count(),
            " s after its start");
    nodes_.push_back(std::move(joined.front()));
    bootstrap_ += (bootstrap_.empty() ? "127.0.0.1:" : ",127.0.0.1:") + std::to_string(port);
    return nodes_.back();
  }

  std::vector<Span> spans() const {
    std::vector<Span> spans;
    for (const cli::NodeProcess& node : nodes_) spans.push_back(node.layers());
    return spans;
  }

  cli::NodeProcess& node(std::size_t index) { return nodes_[index]; }

  void kill(std::size_t index) {
    nodes_[index].process().signal(SIGKILL);
    nodes_.erase(nodes_.begin() + static_cast<std::ptrdiff_t>(index));
  }

  /// Whether the nodes come to serve these layers, in order; one that joined before the others'
  /// records reached it goes elsewhere when it has seen them.
  bool settle(const std::vector<Span>& wanted) {
    const auto deadline = std::chrono::steady_clock::now() + 3min;
    for (;;) {
      std::vector<Span> served = spans();
      std::sort(served.begin(), served.end());
      if (served == wanted) return true;
      if (std::chrono::steady_clock::now() >= deadline) return false;
      for (cli::NodeProcess& node : nodes_) (void)node.await_move(100ms);
    }
  }

  /// Until one of the nodes goes elsewhere.
  std::optional<Span> await_move() {
    const auto deadline = std::chrono::steady_clock::now() + 3min;
    while (std::chrono::steady_clock::now() < deadline) {
      for (cli::NodeProcess& node : nodes_) {
        if (const Result<Span> moved = node.await_move(100ms)) return *moved;
      }
    }
    return std::nullopt;
  }

  std::vector<std::string> alone_flags(int tokens) const {
    return {"--model",       model_, "--prompt",     kStoryPrompt,          "--ignore-eos",
            "--temperature", "0",    "--max-tokens", std::to_string(tokens)};
  }
  std::vector<std::string> flags(int tokens) const {
    return alone_flags(tokens) + std::vector<std::string>{"--bootstrap", bootstrap_};
  }
  Generated generate() const { return test::generate(flags(24)); }
  std::vector<TokenId> alone(int tokens = 24) const {
    const auto alone = test::generate(alone_flags(tokens) + std::vector<std::string>{"--local"});
    REQUIRE(alone.status == 0);
    return alone.ids();
  }

 private:
  const std::string model_;
  std::string bootstrap_;
  std::vector<cli::NodeProcess> nodes_;
};

/// The last line of a `generate --json` that is under way, once it has ended well.
nlohmann::json summary_of(cli::ChildProcess& teller) {
  std::string story = teller.read_all();
  INFO(teller.errors());
  REQUIRE(teller.wait() == 0);
  story.erase(story.find_last_not_of('\n') + 1);
  return nlohmann::json::parse(story.substr(story.rfind('\n') + 1));
}

}  // namespace

TEST_SUITE("integration/far_node") {
  TEST_CASE("nodes with nothing but a bootstrap address serve the whole model, each of them") {
    const std::string model = any_model();
    const Span all{0, layers_of(model)};
    GrowingMesh mesh(model);
    for (int joined = 1; joined <= 3; ++joined) {
      CHECK(mesh.join({}).layers() == all);
      if (joined == 2) continue;
      const auto told = mesh.generate();
      INFO(told.errors);
      REQUIRE(told.status == 0);
      CHECK(told.ids() == mesh.alone());
    }
    mesh.kill(0);
    const auto told = mesh.generate();
    INFO(told.errors);
    REQUIRE(told.status == 0);
    CHECK(told.ids() == mesh.alone());
  }

  TEST_CASE("far-node starts by its environment alone") {
    const std::string model = any_model();
    GrowingMesh mesh(model);
    const std::string port = std::to_string(free_port());
    const std::string dht = std::to_string(free_port());
    const std::string cache = scratch() / "far-node-cache";
    for (const bool again : {false, true}) {
      auto node = cli::ChildProcess::start(
          {kProgram, "far-node", "start", "--ephemeral", "--dht-port", dht, "--first-look", "0.2"},
          {"FAR_NODE_MODEL=" + model, "FAR_NODE_NUM_BLOCKS=2", "FAR_NODE_PORT=" + port,
           "FAR_NODE_PUBLIC_ADDR=127.0.0.1", "FAR_NODE_DTYPE=float32",
           "FARMESH_CACHE_DIR=" + cache});
      REQUIRE(node);
      const auto line = node->read_line(2min);
      REQUIRE(line);
      CHECK(line->starts_with("listening on 0.0.0.0:" + port + " with layers 0:2 of "));
      CHECK(line->find(", f32/") != std::string::npos);
      // It tries how fast it is once, and knows it the next time.
      node->signal(SIGTERM);
      CHECK(node->wait() == 0);
      CHECK((node->errors().find("us a token, measured") != std::string::npos) == !again);
      CHECK((node->errors().find("us a token, as it did before") != std::string::npos) == again);
    }
  }

  TEST_CASE("a machine without room for one layer says what one takes, and promises nothing") {
    const std::vector<std::string> flags{"node",         "--model", any_model(), "--ephemeral",
                                         "--dht-port",   "0",       "--listen",  "127.0.0.1:0",
                                         "--first-look", "0.2"};
    const Ended poor = run(flags + std::vector<std::string>{"--memory", "0.01"});
    CHECK(poor.status != 0);
    CHECK(poor.output.empty());
    CHECK(poor.errors.find("one layer in") != std::string::npos);
    const Ended wrong = run(flags + std::vector<std::string>{"--num-blocks", "many"});
    CHECK(wrong.status == 2);
    CHECK(wrong.errors.find("--num-blocks wants a number or auto") != std::string::npos);
    const Ended nowhere = run({"node", "--model", any_model(), "--ephemeral", "--layers", "auto",
                               "--listen", "127.0.0.1:0"});
    CHECK(nowhere.status == 2);
    CHECK(nowhere.errors.find("say how to find it") != std::string::npos);
  }

  TEST_CASE(
      "nodes with room for half the model share it out, and the hole that one leaves closes") {
    const std::string model = any_model();
    const std::uint32_t layers = layers_of(model);
    const std::uint32_t half = (layers + 1) / 2;
    const std::vector<std::string> room{"--num-blocks", std::to_string(half)};
    GrowingMesh mesh(model);
    for (int joined = 1; joined <= 4; ++joined) mesh.join(room);
    const Span first{0, half};
    const Span last{layers - half, layers};
    std::vector<Span> spans = mesh.spans();
    CHECK(spans[0] == first);
    CHECK(spans[1] == last);
    REQUIRE(mesh.settle({first, first, last, last}));
    CHECK(mesh.generate().ids() == mesh.alone());

    // Both that serve the last layers die while a story is told: one of the others, and not both,
    // takes their place, and the story goes on.
    constexpr int kLong = 300;
    auto teller = cli::ChildProcess::start(
        std::vector<std::string>{kProgram, "generate", "--json"} + mesh.flags(kLong));
    REQUIRE(teller);
    for (int line = 0; line < 3; ++line) REQUIRE(teller->read_line(1min));
    std::vector<std::size_t> doomed;
    for (std::size_t i = 0; i < 4; ++i) {
      if (mesh.spans()[i] == last) doomed.insert(doomed.begin(), i);
    }
    for (const std::size_t index : doomed) mesh.kill(index);
    const std::optional<Span> moved = mesh.await_move();
    REQUIRE(moved);
    CHECK(*moved == last);
    spans = mesh.spans();
    std::sort(spans.begin(), spans.end());
    CHECK(spans == std::vector<Span>{first, last});
    const nlohmann::json whole = summary_of(*teller);
    CHECK(whole.at("token_ids").get<std::vector<TokenId>>() == mesh.alone(kLong));

    const auto told = mesh.generate();
    INFO(told.errors);
    REQUIRE(told.status == 0);
    CHECK(told.ids() == mesh.alone());
    CHECK(told.last.at("hops").size() == 2);
  }

  TEST_CASE("a node that is worth more elsewhere lets the sessions it has end before it goes") {
    const std::string model = any_model();
    const std::uint32_t layers = layers_of(model);
    const std::uint32_t half = (layers + 1) / 2;
    const Span spans[2] = {{0, half}, {half, layers}};
    GrowingMesh mesh(model);
    mesh.join({}, spans[0]);
    mesh.join({}, spans[1]);
    const Span held = mesh.join({"--num-blocks", std::to_string(half), "--drain", "120"}).layers();
    const int other = held == spans[0] ? 1 : 0;
    REQUIRE(held == spans[1 - other]);

    // A story over it has begun, and its teller stands still, when there is one too many of it.
    constexpr int kTokens = 100;
    auto teller = cli::ChildProcess::start(
        std::vector<std::string>{kProgram, "generate", "--json", "--peer", mesh.node(2).address(),
                                 "--peer", mesh.node(std::size_t(other)).address()} +
        mesh.alone_flags(kTokens));
    REQUIRE(teller);
    for (int line = 0; line < 3; ++line) REQUIRE(teller->read_line(1min));
    teller->signal(SIGSTOP);
    mesh.join({}, held);
    mesh.join({}, held);
    const auto leaves = [&mesh] {
      return mesh.node(2).process().errors().find("they are served worse") != std::string::npos;
    };
    CHECK(soon(leaves));
    CHECK_FALSE(mesh.node(2).await_move(1s));
    teller->signal(SIGCONT);
    const nlohmann::json whole = summary_of(*teller);
    CHECK(whole.at("token_ids").get<std::vector<TokenId>>() == mesh.alone(kTokens));
    CHECK(whole.at("recoveries") == 0);
    const Result<Span> moved = mesh.node(2).await_move(1min);
    REQUIRE(moved);
    CHECK(*moved == spans[other]);
  }
}

}  // namespace farmesh::test
