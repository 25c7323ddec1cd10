// int8 and int4 weights through the whole program: the same text however a model is cut.
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "cli/exit_code.hpp"
#include "integration/program.hpp"

namespace farmesh::test {
namespace {

using Flags = std::vector<std::string>;

Flags greedy_flags(const std::string& model, const std::string& precision) {
  return {"--model",     model,          "--prompt",    kStoryPrompt, "--temperature",
          "0",           "--max-tokens", "40",          "--threads",  "1",
          "--precision", precision,      "--ignore-eos"};
}

/// The model's text in one process, and the same over two peers of that precision.
void check_split(const std::string& model, const std::string& precision) {
  CAPTURE(model);
  CAPTURE(precision);
  const Generated alone = generate(greedy_flags(model, precision) + Flags{"--local"});
  INFO(alone.errors);
  REQUIRE(alone.status == 0);
  const auto nodes =
      start_nodes(model, cli::even_split(layers_of(model), 2), {"--precision", precision});
  const Generated split = generate(greedy_flags(model, precision) + peer_flags(nodes));
  INFO(split.errors);
  REQUIRE(split.status == 0);
  CHECK(split.ids() == alone.ids());
  CHECK(split.last.at("hops").size() == 2);
}

}  // namespace

TEST_SUITE("integration/quantised") {
  TEST_CASE("int8 and int4 text over two peers is that of one process") {
    for (const char* precision : {"int8", "int4"}) check_split(any_model(), precision);
    if (stories().empty()) return;
    for (const char* precision : {"int8", "int4"}) check_split(stories(), precision);
  }

  TEST_CASE("int8 tells the story that the exact weights tell") {
    if (stories().empty()) return;
    const Generated generated = generate(greedy_flags(stories(), "int8") + Flags{"--local"});
    REQUIRE(generated.status == 0);
    std::vector<TokenId> expected = story_ids();
    expected.resize(45);
    CHECK(generated.ids() == expected);
  }

  TEST_CASE("perplexity stays within the bounds of docs/quantisation.md") {
    if (stories().empty()) return;
    std::ifstream file(FARMESH_SOURCE_DIR "/tests/golden/story.txt");
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    REQUIRE_FALSE(text.empty());
    const auto perplexity = [&](const char* precision) {
      const Ended told =
          run({"model", "perplexity", stories(), "--precision", precision, "--json"}, text);
      REQUIRE(told.status == 0);
      return nlohmann::json::parse(told.output).at("perplexity").get<double>();
    };
    const double exact = perplexity("f32");
    CHECK(perplexity("bf16") < 1.01 * exact);
    CHECK(perplexity("int8") < 1.01 * exact);
    CHECK(perplexity("int4") < 1.15 * exact);
  }

  TEST_CASE("peers of int8 and int4 do not share a session") {
    const std::string model = any_model();
    const auto nodes = start_nodes(model, {{0, layers_of(model)}}, {"--precision", "int4"});
    const Generated generated = generate(greedy_flags(model, "int8") + peer_flags(nodes));
    CHECK(generated.status == cli::kMesh);
    CHECK(generated.last.at("error") == "numerics_mismatch");
  }

  TEST_CASE("a model's error is told matrix by matrix, and what it costs in perplexity") {
    const std::string model = any_model();
    const Ended report =
        run({"model", "quantize", model, "--precision", "int4", "--report", "--json"});
    REQUIRE(report.status == 0);
    std::istringstream lines(report.output);
    std::size_t matrices = 0;
    nlohmann::json last;
    for (std::string line; std::getline(lines, line);) {
      last = nlohmann::json::parse(line);
      if (!last.contains("matrix")) continue;
      ++matrices;
      CHECK(last.at("rms_error").get<double>() > 0);
      CHECK(last.at("rms_error").get<double>() < 0.2);
    }
    CHECK(matrices >= 4 * layers_of(model) + 1);
    CHECK(last.at("precision") == "int4");
    CHECK(last.at("bytes").get<std::uint64_t>() > 0);

    const std::string text = "Once upon a time there was a little fox. The fox was happy.";
    const auto perplexity = [&](const char* precision) {
      const Ended told =
          run({"model", "perplexity", model, "--precision", precision, "--json"}, text);
      REQUIRE(told.status == 0);
      return nlohmann::json::parse(told.output).at("perplexity").get<double>();
    };
    const double exact = perplexity("f32");
    CHECK(perplexity("int8") < exact * 1.05);
    CHECK(perplexity("int4") < exact * 1.5);
    CHECK(run({"model", "perplexity", model}, "").status == cli::kUsage);
  }
}

}  // namespace farmesh::test
