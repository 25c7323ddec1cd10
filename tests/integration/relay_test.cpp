// A node that nobody can dial serves through a relay, which others find by its record alone.
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <signal.h>
#include <unistd.h>

#include "integration/program.hpp"

namespace farmesh::test {
namespace {

using namespace std::chrono_literals;
using Flags = std::vector<std::string>;

/// Waits until the node has told `what` in its log, `count` times.
void await_told(const cli::NodeProcess& node, const std::string& what, int count = 1) {
  const auto limit = std::chrono::steady_clock::now() + 60s;
  for (;;) {
    const std::string log = node.process().errors();
    int told = 0;
    for (std::size_t at = 0; (at = log.find(what, at)) != std::string::npos; ++at) ++told;
    if (told >= count) return;
    INFO("never told: ", what, "\n", log);
    REQUIRE(std::chrono::steady_clock::now() < limit);
    std::this_thread::sleep_for(20ms);
  }
}

/// The story's model and ids, else the demo's and what one process says.
struct Story {
  std::string model = stories().empty() ? any_model() : stories();
  Flags flags{"--model", model,          "--prompt", kStoryPrompt,   "--temperature",
              "0",       "--max-tokens", "55",       "--ignore-eos", "--threads",
              "1"};
  std::vector<TokenId> ids = stories().empty() ? alone() : story_ids();

  std::vector<TokenId> alone() const {
    const Generated whole = generate(flags + Flags{"--local"});
    REQUIRE(whole.status == 0);
    return whole.ids();
  }
};

/// Asks the mesh; which hops went through a relay.
int relayed_hops(const Story& story, const std::string& bootstrap) {
  const Generated found = generate(story.flags + Flags{"--bootstrap", bootstrap});
  INFO(found.errors);
  REQUIRE(found.status == 0);
  CHECK(found.ids() == story.ids);
  int relayed = 0;
  for (const auto& hop : found.last.at("hops")) {
    relayed += hop.dump().find("/p2p-circuit/p2p/") != std::string::npos ? 1 : 0;
  }
  return relayed;
}

cli::NodeProcess start_node(const cli::NodeArguments& arguments) {
  Result<cli::NodeProcess> node = cli::NodeProcess::start(arguments);
  REQUIRE(node);
  const Result<void> listening = node->await_listening(1min);
  INFO((listening ? "" : listening.error().to_string()));
  REQUIRE(listening);
  return *std::move(node);
}

bool does(const std::string& command) {
  return ::system((command + " >/dev/null 2>&1").c_str()) == 0;
}

/// A machine of its own, as far as the network goes, on a wire to this one.
struct OtherMachine {
  explicit OtherMachine(int number)
      : name("fm" + std::to_string(number)),
        here("10.231." + std::to_string(number % 250) + ".1"),
        there("10.231." + std::to_string(number % 250) + ".2") {}
  ~OtherMachine() { does("ip netns del " + name); }
  OtherMachine(const OtherMachine&) = delete;
  OtherMachine& operator=(const OtherMachine&) = delete;

  bool start() const {
    const std::string in = "ip -n " + name + " ";
    return does("ip netns add " + name) &&
           does("ip link add " + name + "a type veth peer name " + name + "b netns " + name) &&
           does("ip addr add " + here + "/30 dev " + name + "a") &&
           does("ip link set " + name + "a up") && does(in + "link set lo up") &&
           does(in + "addr add " + there + "/30 dev " + name + "b") &&
           does(in + "link set " + name + "b up");
  }

  /// The program, as it runs there.
  std::string program() const {
    const std::string script = scratch() / "there.sh";
    std::ofstream(script) << "#!/bin/sh\nexec ip netns exec " << name << " '" << kProgram
                          << "' \"$@\"\n";
    std::filesystem::permissions(script, std::filesystem::perms::owner_all);
    return script;
  }

  const std::string name;
  const std::string here;
  const std::string there;
};

}  // namespace

TEST_SUITE("integration/relay") {
  TEST_CASE("a node whose port is blocked serves through a relay, and through another after it") {
    const Story story;
    const std::vector<Span> spans = cli::even_split(layers_of(story.model), 2);
    const std::string port = std::to_string(free_port());
    const std::string bootstrap = "127.0.0.1:" + port;
    const Flags one{"--threads", "1"};
    auto relays =
        start_nodes(story.model, {spans[0]}, {"--dht-port", port, "--relay-sessions", "0"});
    for (int i = 0; i < 2; ++i) {
      const Flags more{"--bootstrap", bootstrap, "--dht-port", "0"};
      for (auto& node : start_nodes(story.model, {spans[0]}, more))
        relays.push_back(std::move(node));
    }
    // It tells an address where nobody listens, and listens where nobody is told to dial.
    const cli::NodeProcess hidden =
        start_node({.program = kProgram,
                    .model = story.model,
                    .layers = spans[1],
                    .listen = "127.0.0.2:0",
                    .more = one + Flags{"--bootstrap", bootstrap, "--dht-port", "0", "--advertise",
                                        "127.0.0.1:" + std::to_string(free_port())}});
    await_told(hidden, "cannot reach this node");
    await_told(hidden, "serving through relay");
    CHECK(relayed_hops(story, bootstrap) == 1);

    // Its relay ends: it finds another, and is found there.
    const std::string log = hidden.process().errors();
    for (cli::NodeProcess& relay : relays) {
      if (log.find("through relay " + relay.address() + "/") == std::string::npos) continue;
      relay.process().signal(SIGKILL);
      await_told(hidden, "serving through relay", 2);
    }
    CHECK(relayed_hops(story, bootstrap) == 1);
  }

  TEST_CASE("nobody relays where nobody allows it, and that is told") {
    const Story story;
    const std::vector<Span> spans = cli::even_split(layers_of(story.model), 2);
    const std::string port = std::to_string(free_port());
    const Flags none{"--relay-sessions", "0"};
    const auto nodes = start_nodes(story.model, {spans[0]}, none + Flags{"--dht-port", port});
    const cli::NodeProcess hidden = start_node(
        {.program = kProgram,
         .model = story.model,
         .layers = spans[1],
         .listen = "127.0.0.2:0",
         .more = none + Flags{"--threads", "1", "--bootstrap", "127.0.0.1:" + port, "--dht-port",
                              "0", "--advertise", "127.0.0.1:" + std::to_string(free_port())}});
    await_told(hidden, "none of 0 relays has room");
  }

  TEST_CASE("a node on a machine that lets nobody in serves through a relay") {
    const OtherMachine machine(::getpid());
    if (!machine.start()) {
      MESSAGE("skipped: no network namespace can be made here");
      return;
    }
    const Story story;
    const std::vector<Span> spans = cli::even_split(layers_of(story.model), 2);
    const std::string dht = std::to_string(free_port());
    const Flags common{"--threads", "1", "--no-port-mapping", "--dht-port"};
    const cli::NodeProcess relay = start_node({.program = kProgram,
                                               .model = story.model,
                                               .layers = spans[0],
                                               .listen = machine.here + ":0",
                                               .more = common + Flags{dht}});
    // Only its own loopback gets in there; it comes out by the wire.
    const std::string port = std::to_string(free_port());
    const cli::NodeProcess hidden =
        start_node({.program = machine.program(),
                    .model = story.model,
                    .layers = spans[1],
                    .listen = "127.0.0.1:" + port,
                    .more = common + Flags{"0", "--bootstrap", relay.address(), "--advertise",
                                           machine.there + ":" + port}});
    await_told(hidden, "cannot reach this node at " + machine.there);
    await_told(hidden, "serving through relay " + relay.address());
    CHECK(relayed_hops(story, relay.address()) == 1);
  }
}

}  // namespace farmesh::test
