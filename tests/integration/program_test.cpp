// The program's other verbs, and the promise that docs/cli.md and --help say the same.
#include "integration/program.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <farmesh/farmesh.hpp>

namespace farmesh::test {
namespace {

std::string manual() {
  std::ifstream file(std::filesystem::path(FARMESH_SOURCE_DIR) / "docs/cli.md");
  return {std::istreambuf_iterator<char>(file), {}};
}

// The part of the manual under "## farmesh VERB", up to the next heading.
std::string chapter(const std::string& verb) {
  const std::string text = manual();
  const std::size_t begin = text.find("## farmesh " + verb + "\n");
  if (begin == std::string::npos) return {};
  return text.substr(begin, text.find("\n## ", begin + 1) - begin);
}

std::set<std::string> matches(const std::string& text, const std::regex& pattern) {
  std::set<std::string> found;
  for (std::sregex_iterator at(text.begin(), text.end(), pattern), end; at != end; ++at) {
    found.insert((*at)[1]);
  }
  return found;
}

// Flags that begin a line of --help, and those that begin a row of the manual's tables.
std::set<std::string> flags_of_help(const std::vector<std::string>& verb) {
  const Ended help = run(verb + std::vector<std::string>{"--help"});
  CHECK(help.status == 0);
  std::set<std::string> flags = matches(help.output, std::regex("(?:^|\n) +(?:-h,)?(--[a-z-]+)"));
  flags.erase("--help");
  return flags;
}

std::set<std::string> flags_of_manual(const std::string& text) {
  return matches(text, std::regex("\n\\| `(--[a-z-]+)"));
}

}  // namespace

TEST_SUITE("integration/program") {
  TEST_CASE("docs/cli.md lists the flags that --help lists, verb by verb") {
    for (const std::vector<std::string>& verb :
         std::vector<std::vector<std::string>>{{"generate"},
                                               {"chat"},
                                               {"node"},
                                               {"coordinator"},
                                               {"discovery"},
                                               {"demo"},
                                               {"bench"},
                                               {"sim"},
                                               {"sim", "proxy"},
                                               {"model", "inspect"},
                                               {"model", "hash"},
                                               {"model", "tokenize"},
                                               {"model", "quantize"},
                                               {"model", "perplexity"},
                                               {"model", "publish"},
                                               {"model", "synth"},
                                               {"key", "show"},
                                               {"key", "invite"},
                                               {"key", "bind"},
                                               {"key", "create"},
                                               {"ledger", "migrate"},
                                               {"ledger", "audit"},
                                               {"ledger", "statement"},
                                               {"ledger", "verify"},
                                               {"ledger", "claims"},
                                               {"payout"}}) {
      std::string heading = verb[0];
      for (std::size_t i = 1; i < verb.size(); ++i) heading += " " + verb[i];
      INFO(heading);
      REQUIRE_FALSE(chapter(heading).empty());
      CHECK(flags_of_manual(chapter(heading)) == flags_of_help(verb));
    }
  }

  TEST_CASE("docs/cli.md lists the environment and the exit codes that --help lists") {
    const std::string help = run({"--help"}).output;
    const std::string environment = help.substr(help.find("Environment:"));
    CHECK(matches(environment, std::regex("\n  ([A-Z_]{4,})[, ]")) ==
          matches(manual(), std::regex("\n\\| `([A-Z_]{4,})`")));
    std::set<std::string> codes;
    const std::string line = help.substr(help.find("Exit codes:"));
    for (const std::string& code : matches(line, std::regex("([0-9]+) [a-z]"))) codes.insert(code);
    CHECK(codes == matches(manual(), std::regex("\n\\| ([0-9]+) \\|")));
  }

  TEST_CASE("every verb's help has an example") {
    for (const char* verb : {"generate", "chat", "node", "coordinator", "discovery", "demo",
                             "model", "key", "ledger", "payout"}) {
      CHECK(run({verb, "--help"}).output.find("Examples:") != std::string::npos);
    }
  }

  TEST_CASE("sim tells what a swarm of two hundred does with a load, the same each time") {
    const std::vector<std::string> load{"sim", "--nodes",   "200:4:0.5", "--sessions",
                                        "3",   "--seconds", "1",         "--kill-every",
                                        "0.4", "--tokens",  "8",         "--json"};
    const Ended told = run(load);
    INFO(told.errors);
    REQUIRE(told.status == 0);
    const auto figures = nlohmann::json::parse(told.output);
    CHECK(figures.at("sessions") >= 3);
    CHECK(figures.at("completed") == figures.at("sessions"));
    CHECK(figures.at("kills") >= 1);
    CHECK(run(load).output == told.output);
    const Ended bare = run({"sim", "--nodes", "2:4:1"});
    CHECK(bare.status != 0);
    CHECK(bare.errors.find("no_route") != std::string::npos);
  }

  TEST_CASE("--version names the library's") {
    CHECK(run({"--version"}).output == "farmesh " + std::string(version()) + "\n");
  }

  TEST_CASE("model tokenize reads standard input whole and prints ids on one line") {
    if (stories().empty()) return;
    const Ended with = run({"model", "tokenize", stories(), "--bos"}, kStoryPrompt);
    CHECK(with.status == 0);
    CHECK(with.output == "1 403 407 261 378\n");
    CHECK(run({"model", "tokenize", stories()}, kStoryPrompt).output == "403 407 261 378\n");
  }

  TEST_CASE("model hash is 64 digits, the same each time, and inspect tells it too") {
    const Ended first = run({"model", "hash", any_model()});
    CHECK(first.status == 0);
    CHECK(std::regex_match(first.output, std::regex("[0-9a-f]{64}\n")));
    CHECK(run({"model", "hash", any_model()}).output == first.output);
    const Ended inspected = run({"model", "inspect", any_model(), "--json", "--tensors"});
    REQUIRE(inspected.status == 0);
    const nlohmann::json shape = nlohmann::json::parse(inspected.output);
    CHECK(shape.at("hash").get<std::string>() + "\n" == first.output);
    CHECK(shape.at("layers") == layers_of(any_model()));
    CHECK(shape.at("tensors").size() > 3 * layers_of(any_model()));
    CHECK(shape.at("bytes_of_layers").get<int>() >= shape.at("bytes_per_layer").get<int>());
    CHECK(run({"model", "inspect", any_model()}).status == 0);
    CHECK(run({"model", "inspect", "/nowhere"}).status == 3);
  }

  TEST_CASE("chat answers each line of its input, and keeps the conversation") {
    const std::string demo = std::filesystem::path(FARMESH_SOURCE_DIR) / "models/demo";
    if (!std::filesystem::exists(demo + "/tokenizer_config.json")) {
      MESSAGE("skipped: models/demo is not here");
      return;
    }
    const Ended chat = run({"chat", "--model", demo, "--temperature", "0", "--max-tokens", "40"},
                           "Tell me a story about a fox.\nAnd then?\n");
    INFO(chat.errors);
    CHECK(chat.status == 0);
    CHECK(std::count(chat.output.begin(), chat.output.end(), '\n') >= 2);
  }

  TEST_CASE("the demo loses a peer and tells the same story") {
    const std::string model = any_model();
    if (layers_of(model) < 3) return;
    const Ended demo = run({"demo", "--model", model, "--pace", "0"});
    INFO(demo.output, demo.errors);
    CHECK(demo.status == 0);
    CHECK(demo.output.find("killed") != std::string::npos);
    CHECK(demo.output.find("took over") != std::string::npos);
    CHECK(demo.output.find("Word for word") != std::string::npos);
    const std::size_t line = demo.output.find("  curl -sN http://127.0.0.1:");
    CHECK(line != std::string::npos);
    CHECK(demo.output.find(" events.", line) != std::string::npos);
  }
}

}  // namespace farmesh::test
