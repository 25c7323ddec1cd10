// int8 and int4 weights and int8 caches through the whole program: the same text however a model is
// cut, and whoever dies.
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <signal.h>

#include <farmesh/farmesh.hpp>

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

/// The model's text in one process, and the same over two peers of that precision and cache.
void check_split(const std::string& model, const std::string& precision, const Flags& kv = {}) {
  CAPTURE(model);
  CAPTURE(precision);
  const Generated alone = generate(greedy_flags(model, precision) + kv + Flags{"--local"});
  INFO(alone.errors);
  REQUIRE(alone.status == 0);
  const auto nodes = start_nodes(model, cli::even_split(layers_of(model), 2),
                                 Flags{"--precision", precision} + kv);
  const Generated split = generate(greedy_flags(model, precision) + kv + peer_flags(nodes));
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

  TEST_CASE("text with an int8 cache over two peers is that of one process") {
    const Flags kv{"--kv", "int8"};
    for (const char* precision : {"bf16", "int4"}) check_split(any_model(), precision, kv);
    if (!stories().empty()) check_split(stories(), "f32", kv);
  }

  TEST_CASE("where a peer with an int8 cache dies another one takes over, and none of bf16 does") {
    const std::string folder = any_model();
    GenerateOptions greedy;
    greedy.max_tokens = 64;
    greedy.sampling.temperature = 0;
    greedy.ignore_eos = true;
    const auto local = DistributedModel::open(
        {.folder = folder, .local = true, .kv = KvFormat::int8, .threads = 1});
    REQUIRE(local);
    auto alone = local->open_session();
    for (const Token& token : alone->generate(kStoryPrompt, greedy)) (void)token;

    const std::vector<Span> spans = cli::even_split(layers_of(folder), 2);
    std::vector<cli::NodeProcess> nodes = start_nodes(folder, spans, {"--kv", "int8"});
    for (auto& spare : start_nodes(folder, spans, {"--kv", "int8"})) {
      nodes.push_back(std::move(spare));
    }
    for (auto& other : start_nodes(folder, spans)) nodes.push_back(std::move(other));
    const auto model = DistributedModel::open(
        {.folder = folder, .peers = addresses(nodes), .kv = KvFormat::int8, .threads = 1});
    REQUIRE(model);
    CHECK(model->info().numerics_class.ends_with("/kv-int8"));
    auto session = model->open_session({.buffer_tokens = 1});
    TokenStream stream = session->generate(kStoryPrompt, greedy);
    for (const Token& token : stream) {
      (void)token;
      const Usage usage = stream.usage();
      if (usage.tokens != 20) continue;
      for (cli::NodeProcess& node : nodes) {
        if (node.address() == usage.hops[1].peer) node.process().signal(SIGKILL);
      }
    }
    CHECK_FALSE(stream.error());
    CHECK(stream.usage().recoveries > 0);
    CHECK_FALSE(stream.usage().numerics_changed);
    CHECK(session->ids() == alone->ids());
    for (const PeerStatus& peer : model->info().peers) {
      const bool other = peer.address == nodes[4].address() || peer.address == nodes[5].address();
      CHECK((peer.refused && peer.refused->code == Errc::numerics_mismatch) == other);
    }
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
    const auto perplexity = [&](const char* precision, const Flags& kv = {}) {
      const Flags asked{"model", "perplexity", stories(), "--precision", precision, "--json"};
      const Ended told = run(asked + kv, text);
      REQUIRE(told.status == 0);
      return nlohmann::json::parse(told.output).at("perplexity").get<double>();
    };
    const double exact = perplexity("f32");
    const double bf16 = perplexity("bf16");
    const double int8 = perplexity("int8");
    const double int4 = perplexity("int4");
    CHECK(bf16 < 1.01 * exact);
    CHECK(int8 < 1.01 * exact);
    CHECK(int4 < 1.15 * exact);
    const Flags narrow{"--kv", "int8"};
    CHECK(perplexity("f32", narrow) < 1.01 * exact);
    CHECK(perplexity("bf16", narrow) < 1.01 * bf16);
    CHECK(perplexity("int8", narrow) < 1.01 * int8);
    CHECK(perplexity("int4", narrow) < 1.01 * int4);
    for (const char* stages : {"1", "3", "5"}) {
      const Flags rounded{"--activations", "int8", "--stages", stages};
      CHECK(perplexity("f32", rounded) < 1.01 * exact);
      CHECK(perplexity("bf16", rounded) < 1.01 * bf16);
      CHECK(perplexity("int8", rounded) < 1.01 * int8);
      CHECK(perplexity("int4", rounded) < 1.01 * int4);
    }
  }

  TEST_CASE("rows that travel in int8 tell the same after a peer is killed") {
    const std::string folder = any_model();
    GenerateOptions greedy;
    greedy.max_tokens = 48;
    greedy.sampling.temperature = 0;
    greedy.ignore_eos = true;
    const std::vector<Span> spans = cli::even_split(layers_of(folder), 2);
    std::vector<cli::NodeProcess> nodes = start_nodes(folder, spans);
    for (auto& spare : start_nodes(folder, spans)) nodes.push_back(std::move(spare));
    const auto model =
        DistributedModel::open({.folder = folder, .peers = addresses(nodes), .threads = 1});
    REQUIRE(model);
    const SessionOptions options{.buffer_tokens = 1, .activations = Activations::int8};
    auto calm = model->open_session(options);
    for (const Token& token : calm->generate(kStoryPrompt, greedy)) (void)token;
    REQUIRE(calm->ids().size() > 48);

    auto session = model->open_session(options);
    TokenStream stream = session->generate(kStoryPrompt, greedy);
    for (const Token& token : stream) {
      (void)token;
      const Usage usage = stream.usage();
      if (usage.tokens != 20) continue;
      for (cli::NodeProcess& node : nodes) {
        if (node.address() == usage.hops[1].peer) node.process().signal(SIGKILL);
      }
    }
    CHECK_FALSE(stream.error());
    CHECK(stream.usage().recoveries > 0);
    CHECK(session->ids() == calm->ids());
    CHECK(run({"generate", "--model", folder, "--activations", "f32"}).status == cli::kUsage);
  }

  TEST_CASE("peers of int8 and int4 do not share a session") {
    const std::string model = any_model();
    const auto nodes = start_nodes(model, {{0, layers_of(model)}}, {"--precision", "int4"});
    const Generated generated = generate(greedy_flags(model, "int8") + peer_flags(nodes));
    CHECK(generated.status == cli::kMesh);
    CHECK(generated.last.at("error") == "numerics_mismatch");
  }

  TEST_CASE("peers of another cache do not share a session, and no other cache is known") {
    const std::string model = any_model();
    const auto nodes = start_nodes(model, {{0, layers_of(model)}}, {"--kv", "int8"});
    const Generated generated = generate(greedy_flags(model, "bf16") + peer_flags(nodes));
    CHECK(generated.status == cli::kMesh);
    CHECK(generated.last.at("error") == "numerics_mismatch");
    for (const char* unknown : {"int4", "i8", ""}) {
      CHECK(run({"generate", "--model", model, "--kv", unknown}).status == cli::kUsage);
      CHECK(run({"node", "--model", model, "--kv", unknown}).status == cli::kUsage);
    }
  }

  TEST_CASE("a device that is not there is refused by name, and so is a word for none") {
    const std::string model = any_model();
    const Flags asked{"--model", model, "--device", "cuda:63"};
    for (const Flags& verb : {Flags{"generate", "--prompt", "a", "--local"},
                              Flags{"node", "--layers", "0:1", "--ephemeral"}}) {
      const Ended refused = run(verb + asked);
      CHECK(refused.status == cli::kModel);
      CHECK(refused.errors.find("engine_unavailable: cuda:63") != std::string::npos);
    }
    for (const char* unknown : {"gpu", "cuda:", "cuda:x", "cuda:64", ""}) {
      CHECK(run({"generate", "--model", model, "--device", unknown}).status == cli::kUsage);
      CHECK(run({"node", "--model", model, "--device", unknown}).status == cli::kUsage);
    }
    Flags named = greedy_flags(model, "bf16") + Flags{"--local", "--device", "cpu"};
    CHECK(generate(named).status == 0);
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

  TEST_CASE("perplexity is measured in other numerics, and on the device that is named") {
    const Flags verb{"model", "perplexity", any_model(), "--json", "--precision"};
    const std::string text = "Once upon a time there was a little fox. The fox was happy.";
    const auto measured = [&](const Flags& more) {
      const Ended told = run(verb + Flags{"f32"} + more, text);
      REQUIRE(told.status == 0);
      return nlohmann::json::parse(told.output);
    };
    const nlohmann::json exact = measured({"--device", "cpu"});
    const nlohmann::json fast = measured({"--numerics", "fast"});
    CHECK(exact.at("numerics") == "exact");
    CHECK(fast.at("numerics") == "fast");
    CHECK(fast.at("perplexity").get<double>() ==
          doctest::Approx(exact.at("perplexity").get<double>()).epsilon(1e-4));
    const Ended absent = run(verb + Flags{"bf16", "--device", "cuda:63"}, text);
    CHECK(absent.status == cli::kModel);
    CHECK(absent.errors.find("engine_unavailable: cuda:63") != std::string::npos);
    CHECK(run(verb + Flags{"int8", "--numerics", "fast"}, text).status == cli::kModel);
  }
}

}  // namespace farmesh::test
