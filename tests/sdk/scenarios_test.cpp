// tests/sdk/scenarios.json in C++, at a coordinator and over the peers themselves.
#include <chrono>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <farmesh/far_mesh.hpp>

#include "integration/program.hpp"

namespace farmesh::test {
namespace {

using nlohmann::json;

json scenarios() {
  std::ifstream file(FARMESH_SOURCE_DIR "/tests/sdk/scenarios.json");
  return json::parse(file).at("scenarios");
}

AskOptions options_of(const json& given) {
  AskOptions options;
  SamplingOptions& sampling = options.sampling;
  for (const auto& [key, value] : given.items()) {
    if (key == "model") options.model = value;
    if (key == "max_tokens") options.max_tokens = value;
    if (key == "temperature") sampling.temperature = value;
    if (key == "top_p") sampling.top_p = value;
    if (key == "top_k") sampling.top_k = value;
    if (key == "min_p") sampling.min_p = value;
    if (key == "repetition_penalty") sampling.repetition_penalty = value;
    if (key == "presence_penalty") sampling.presence_penalty = value;
    if (key == "frequency_penalty") sampling.frequency_penalty = value;
    if (key == "seed") options.seed = value.get<std::uint64_t>();
    if (key == "stop") options.stop = value.get<std::vector<std::string>>();
    if (key == "ignore_eos") options.ignore_eos = value;
    if (key == "max_cost_far") options.max_cost = Far::parse(value.get<std::string>());
    if (key == "logit_bias") {
      for (const auto& [token, bias] : value.items()) {
        sampling.logit_bias.push_back({std::uint32_t(std::stoul(token)), bias});
      }
    }
  }
  return options;
}

MeshStream start(const FarMesh& mesh, const json& scenario) {
  const AskOptions options = options_of(scenario.at("options"));
  if (scenario.contains("generate")) {
    std::string prompt;
    for (int i = 0; i < scenario.value("repeat", 1); ++i) {
      prompt += scenario["generate"].get<std::string>();
    }
    return mesh.generate(prompt, options);
  }
  if (scenario.contains("chat")) return mesh.chat(scenario["chat"].get<std::string>(), options);
  std::vector<ChatMessage> messages;
  for (const json& message : scenario.at("messages")) {
    messages.push_back({message.at("role"), message.at("content")});
  }
  return mesh.chat(messages, options);
}

using Texts = std::map<std::string, std::string>;

void play(const FarMesh& mesh, const json& scenario, Texts& texts, bool paid) {
  const std::string scenario_name = scenario.at("name");
  CAPTURE(scenario_name);
  const json& expect = scenario.at("expect");
  MeshStream stream = start(mesh, scenario);
  if (expect.contains("error")) {
    const auto text = stream.text();
    REQUIRE_FALSE(text);
    CHECK(name(text.error().kind) == expect["error"].get<std::string>());
    CHECK(text.error().code == expect["code"].get<std::string>());
    return;
  }
  std::string& text = texts[scenario_name];
  for (int pieces = 0;; ++pieces) {
    if (pieces == scenario.value("close_after", -1)) {
      stream.close();
      break;
    }
    const auto piece = stream.next();
    INFO((piece ? "" : piece.error().to_string()));
    REQUIRE(piece);
    if (!*piece) break;
    text += **piece;
  }
  const MeshUsage usage = stream.usage();
  if (expect.contains("tokens")) CHECK(usage.tokens == expect["tokens"].get<std::uint64_t>());
  if (expect.contains("finish")) CHECK(name(usage.finish) == expect["finish"].get<std::string>());
  if (expect.contains("cost_far")) {
    CHECK(usage.cost == (paid ? Far::parse(expect["cost_far"].get<std::string>()) : Far()));
  }
  if (expect.contains("same_as")) CHECK(text == texts.at(expect["same_as"]));
  if (expect.contains("starts_as")) CHECK(text.starts_with(texts.at(expect["starts_as"])));
  if (expect.contains("without")) {
    CHECK(text.find(expect["without"].get<std::string>()) == std::string::npos);
  }
}

}  // namespace

TEST_SUITE("sdk/scenarios") {
  TEST_CASE("at a coordinator, and over the peers themselves, every scenario holds") {
    const std::string model = any_model();
    const auto nodes = start_nodes(model, cli::even_split(layers_of(model), 2));
    auto coordinator = cli::ChildProcess::start(
        std::vector<std::string>{kProgram, "coordinator", "--model", "org/demo=" + model, "--port",
                                 "0", "--threads", "1", "--public-budget", "1000", "--public-rate",
                                 "0", "--ledger", (scratch() / "sdk.sqlite").string()} +
            peer_flags(nodes),
        {"XDG_DATA_HOME=" + scratch().string(), "LOG_LEVEL=warning", "NO_PROXY=127.0.0.1"});
    REQUIRE(coordinator);
    const auto line = coordinator->read_line(std::chrono::minutes(2));
    INFO("it said: ", coordinator->errors());
    REQUIRE(line.has_value());
    const std::string before = "listening on ";
    REQUIRE(line->starts_with(before));

    ConnectOptions there;
    there.base_url = line->substr(before.size(), line->find(' ', before.size()) - before.size());
    const auto remote = FarMesh::connect(there);
    REQUIRE(remote);
    const auto direct = FarMesh::open({.folder = model, .peers = addresses(nodes)});
    REQUIRE(direct);

    Texts told, told_directly;
    std::size_t played = 0;
    for (const json& scenario : scenarios()) {
      play(*remote, scenario, told, true);
      if (scenario.at("direct").get<bool>()) play(*direct, scenario, told_directly, false);
      ++played;
    }
    CHECK(played >= 25);
    for (const char* name : {"text", "a stop string", "a chat", "a conversation", "a seed"}) {
      CHECK(told.at(name) == told_directly.at(name));
    }
  }
}

}  // namespace farmesh::test
