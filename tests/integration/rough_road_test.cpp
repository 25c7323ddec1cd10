// Real processes over a bad network: what it delays, loses and cuts changes no word.
#include <chrono>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "cli/child_process.hpp"
#include "integration/program.hpp"

namespace farmesh::test {
namespace {

using namespace std::chrono_literals;
using Flags = std::vector<std::string>;

/// `farmesh sim proxy` before a node.
struct Road {
  Road(const std::string& to, const Flags& flags)
      : process([&] {
          auto started =
              cli::ChildProcess::start(Flags{kProgram, "sim", "proxy", "--to", to} + flags);
          REQUIRE(started);
          return *std::move(started);
        }()) {
    const auto line = process.read_line(60s);
    REQUIRE(line);
    const std::string before = "listening on ";
    REQUIRE(line->starts_with(before));
    address = line->substr(before.size(), line->find(',') - before.size());
  }

  cli::ChildProcess process;
  std::string address;
};

}  // namespace

TEST_SUITE("integration/rough_road") {
  TEST_CASE("peers across a slow, lossy network, one of which is cut off, say the same ids") {
    const std::string model = any_model();
    const Flags flags{"--model", model,          "--prompt", kStoryPrompt,   "--temperature",
                      "0",       "--max-tokens", "24",       "--ignore-eos", "--threads",
                      "1"};
    const Generated alone = generate(flags + Flags{"--local"});
    REQUIRE(alone.status == 0);
    const std::vector<Span> spans = cli::even_split(layers_of(model), 2);
    const auto nodes = start_nodes(model, {spans[0], spans[1], spans[1]});
    const Flags bad{"--latency", "15", "--jitter", "10", "--loss", "0.02", "--bandwidth", "5"};
    const Road first(nodes[0].address(), bad);
    const Road cut(nodes[1].address(), bad + Flags{"--cut-after", "1"});
    const Road spare(nodes[2].address(), bad);
    const Generated across = generate(
        flags + Flags{"--peer", first.address, "--peer", cut.address, "--peer", spare.address});
    INFO(across.errors);
    REQUIRE(across.status == 0);
    CHECK(across.ids() == alone.ids());
  }
}

}  // namespace farmesh::test
