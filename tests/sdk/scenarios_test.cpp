// tests/sdk/scenarios.json in C++, at a coordinator and over the peers themselves.
#include <chrono>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <farmesh/far_mesh.hpp>

#include "base/secret_file.hpp"
#include "integration/program.hpp"
#include "support/redis_server.hpp"

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

/// `interrupt` is what `kill_after` asks for.
void play(const FarMesh& mesh, const json& scenario, Texts& texts, bool paid,
          const std::function<void()>& interrupt) {
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
    if (pieces == scenario.value("kill_after", -1)) interrupt();
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
  CHECK((usage.resumed > 0) == scenario.contains("kill_after"));
  if (expect.contains("same_as")) CHECK(text == texts.at(expect["same_as"]));
  if (expect.contains("starts_as")) CHECK(text.starts_with(texts.at(expect["starts_as"])));
  if (expect.contains("without")) {
    CHECK(text.find(expect["without"].get<std::string>()) == std::string::npos);
  }
}

/// A coordinator over `nodes` that comes back as it was.
class Coordinator {
 public:
  Coordinator(const std::string& model, const std::vector<cli::NodeProcess>& nodes)
      : redis_(RedisServer::start()),
        command_(std::vector<std::string>{kProgram, "coordinator", "--model", "org/demo=" + model,
                                          "--port", std::to_string(free_port()), "--threads", "1",
                                          "--public-budget", "1000", "--public-rate", "0",
                                          "--ledger", (scratch() / "sdk.sqlite").string()} +
                 peer_flags(nodes)) {
    if (redis_) {
      const auto key = scratch() / "sdk.key";
      REQUIRE(create_secret_file(key, "what both lives of the coordinator know"));
      command_ = command_ +
                 std::vector<std::string>{"--redis", redis_->url(), "--shared-key", key.string()};
    }
    start();
  }

  const std::string& url() const { return url_; }
  bool can_come_back() const { return redis_ != nullptr; }
  void kill_and_start() {
    process_.reset();
    start();
  }

 private:
  void start() {
    auto process = cli::ChildProcess::start(command_, {"XDG_DATA_HOME=" + scratch().string(),
                                                       "LOG_LEVEL=warning", "NO_PROXY=127.0.0.1"});
    REQUIRE(process);
    process_ = *std::move(process);
    const auto line = process_->read_line(std::chrono::minutes(2));
    INFO("it said: ", process_->errors());
    REQUIRE(line.has_value());
    const std::string before = "listening on ";
    REQUIRE(line->starts_with(before));
    url_ = line->substr(before.size(), line->find(' ', before.size()) - before.size());
  }

  const std::unique_ptr<RedisServer> redis_;
  std::vector<std::string> command_;
  std::optional<cli::ChildProcess> process_;
  std::string url_;
};

}  // namespace

TEST_SUITE("sdk/scenarios") {
  TEST_CASE("at a coordinator, and over the peers themselves, every scenario holds") {
    const std::string model = any_model();
    const auto nodes = start_nodes(model, cli::even_split(layers_of(model), 2));
    Coordinator coordinator(model, nodes);
    ConnectOptions there;
    there.base_url = coordinator.url();
    there.max_retries = 20;
    const auto remote = FarMesh::connect(there);
    REQUIRE(remote);
    const auto direct = FarMesh::open({.folder = model, .peers = addresses(nodes)});
    REQUIRE(direct);
    ModelOptions ahead{.folder = model, .peers = addresses(nodes)};
    ahead.draft_model = model;
    const auto guessed = FarMesh::open(ahead);
    REQUIRE(guessed);

    Texts told, told_directly, told_ahead;
    std::size_t played = 0;
    for (const json& scenario : scenarios()) {
      if (scenario.contains("kill_after") && !coordinator.can_come_back()) {
        MESSAGE("skipped: there is no Redis here");
        continue;
      }
      play(*remote, scenario, told, true, [&coordinator] { coordinator.kill_and_start(); });
      if (scenario.at("direct").get<bool>()) {
        play(*direct, scenario, told_directly, false, {});
        play(*guessed, scenario, told_ahead, false, {});
      }
      ++played;
    }
    CHECK(played >= 30);
    for (const char* name : {"text", "a stop string", "a chat", "a conversation", "a seed"}) {
      CHECK(told.at(name) == told_directly.at(name));
      CHECK(told.at(name) == told_ahead.at(name));
    }
  }
}

}  // namespace farmesh::test
