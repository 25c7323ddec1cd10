// farmesh generate, alone and over peers: the same ids whichever way the model is cut.
#include <algorithm>
#include <future>
#include <optional>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <farmesh/farmesh.hpp>

#include "integration/program.hpp"

namespace farmesh::test {
namespace {

std::vector<std::string> story_flags(std::uint32_t tokens = 55) {
  return {"--model",       stories(), "--prompt",     kStoryPrompt,
          "--temperature", "0",       "--max-tokens", std::to_string(tokens),
          "--threads",     "1"};
}

// Every layer is served once, in order.
void check_hops(const Generated& generated, std::uint32_t layers) {
  std::uint32_t next = 0;
  for (const nlohmann::json& hop : generated.last.at("hops")) {
    CHECK(hop.at("span").at("start") == next);
    next = hop.at("span").at("end");
    CHECK(hop.at("ms").get<double>() > 0);
    CHECK_FALSE(hop.at("peer").get<std::string>().empty());
  }
  CHECK(next == layers);
}

}  // namespace

TEST_SUITE("integration/generate") {
  TEST_CASE("a model in one process gives the reference's 60 ids, and the whole account as JSON") {
    if (stories().empty()) return;
    const Generated generated = generate(story_flags() + std::vector<std::string>{"--local"});
    INFO(generated.errors);
    REQUIRE(generated.status == 0);
    CHECK(generated.ids() == story_ids());
    REQUIRE(generated.tokens.size() == 55);
    std::string text = kStoryPrompt;
    for (std::size_t i = 0; i < generated.tokens.size(); ++i) {
      CHECK(generated.tokens[i].at("id") == story_ids()[5 + i]);
      text += generated.tokens[i].at("text").get<std::string>();
    }
    CHECK(generated.last.at("text") == text);
    CHECK(text ==
          "Once upon a time, there was a little girl named Lily. She loved to play outside in the "
          "park. One day, she saw a big, red ball. She wanted to play with it, but it was too hig");
    CHECK(generated.last.at("prompt_tokens") == 5);
    CHECK(generated.last.at("tokens") == 55);
    CHECK(generated.last.at("seed").is_number_unsigned());
    CHECK(generated.last.at("ttft_ms").get<double>() > 0);
    CHECK(generated.last.at("tokens_per_second").get<double>() > 0);
    CHECK(generated.last.at("finish") == "length");
    check_hops(generated, kStoryLayers);
  }

  TEST_CASE("two, three and five peers give the same 60 ids") {
    if (stories().empty()) return;
    for (const std::uint32_t parts : {2u, 3u, 5u}) {
      const auto nodes = start_nodes(stories(), cli::even_split(kStoryLayers, parts));
      const Generated generated = generate(story_flags() + peer_flags(nodes));
      INFO(parts, " peers: ", generated.errors);
      REQUIRE(generated.status == 0);
      CHECK(generated.ids() == story_ids());
      CHECK(generated.last.at("hops").size() == parts);
      check_hops(generated, kStoryLayers);
    }
  }

  TEST_CASE("sixteen sessions at once over three peers each give the same 60 ids") {
    if (stories().empty()) return;
    const auto nodes = start_nodes(stories(), cli::even_split(kStoryLayers, 3));
    const auto model =
        DistributedModel::open({.folder = stories(), .peers = addresses(nodes), .threads = 1});
    REQUIRE(model);
    std::vector<std::future<std::vector<TokenId>>> turns;
    for (int i = 0; i < 16; ++i) {
      turns.push_back(std::async(std::launch::async, [&model] {
        auto session = model->open_session();
        GenerateOptions options;
        options.max_tokens = 55;
        options.sampling.temperature = 0;
        for (const Token& token : session->generate(kStoryPrompt, options)) (void)token;
        return session->ids();
      }));
    }
    for (auto& turn : turns) CHECK(turn.get() == story_ids());
  }

  TEST_CASE("a sampled text is a function of its seed, however the model is cut") {
    const std::string model = any_model();
    const auto nodes = start_nodes(model, cli::even_split(layers_of(model), 2));
    const std::vector<std::string> flags{"--model",      model, "--prompt",  "A fox", "--seed", "7",
                                         "--max-tokens", "24",  "--threads", "1"};
    const Generated whole = generate(flags + std::vector<std::string>{"--local"});
    const Generated split = generate(flags + peer_flags(nodes));
    REQUIRE(whole.status == 0);
    REQUIRE(split.status == 0);
    CHECK(whole.ids() == split.ids());
    CHECK(whole.last.at("seed") == 7);
  }

  TEST_CASE("tokens guessed ahead are the tokens of a run without, here and by a peer's head") {
    const std::string model = any_model();
    auto nodes = start_nodes(model, {{0, 1}}, {"--head"});
    for (auto& node : start_nodes(model, {{1, layers_of(model)}})) nodes.push_back(std::move(node));
    // Few words, so that they repeat.
    const std::vector<std::string> flags{
        "--model",       model, "--prompt",     "the cat and the dog and the cat and the dog",
        "--seed",        "7",   "--top-k",      "2",
        "--temperature", "1",   "--max-tokens", "60",
        "--threads",     "1"};
    const Generated plain = generate(flags + peer_flags(nodes));
    REQUIRE(plain.status == 0);
    for (const std::string head : {"", "--remote-head"}) {
      std::vector<std::string> guessing = flags + peer_flags(nodes);
      guessing.insert(guessing.end(), {"--max-draft", "8"});
      if (!head.empty()) guessing.push_back(head);
      const Generated guessed = generate(guessing);
      INFO(guessed.errors);
      REQUIRE(guessed.status == 0);
      CHECK(guessed.ids() == plain.ids());
      CHECK(guessed.last.at("text") == plain.last.at("text"));
    }
  }

  TEST_CASE("no tokens asked for: the prompt alone comes back") {
    const Generated generated =
        generate({"--model", any_model(), "--prompt", "A fox", "--max-tokens", "0"});
    INFO(generated.errors);
    REQUIRE(generated.status == 0);
    CHECK(generated.tokens.empty());
    CHECK(generated.last.at("text") == "A fox");
    CHECK(generated.last.at("tokens") == 0);
    CHECK(generated.ids().size() == generated.last.at("prompt_tokens"));
  }

  TEST_CASE("a million tokens asked for: the context is the end") {
    if (stories().empty()) return;
    const Generated generated =
        generate({"--model", stories(), "--prompt", kStoryPrompt, "--max-tokens", "1000000",
                  "--ignore-eos", "--temperature", "0"});
    INFO(generated.errors);
    REQUIRE(generated.status == 0);
    CHECK(generated.last.at("finish") == "length");
    CHECK(generated.ids().size() == 512);
  }

  TEST_CASE("the text ends before a stop string, and shows no part of it") {
    if (stories().empty()) return;
    const Generated generated =
        generate(story_flags() + std::vector<std::string>{"--stop", "to play"});
    REQUIRE(generated.status == 0);
    CHECK(generated.last.at("text") ==
          "Once upon a time, there was a little girl named Lily. She loved ");
    CHECK(generated.last.at("finish") == "stop");
  }

  TEST_CASE("log-probabilities name the token that greedy sampling takes first") {
    if (stories().empty()) return;
    const Generated generated =
        generate(story_flags(4) + std::vector<std::string>{"--logprobs", "3"});
    REQUIRE(generated.status == 0);
    for (const nlohmann::json& token : generated.tokens) {
      REQUIRE(token.at("top").size() == 3);
      CHECK(token.at("top")[0].at("id") == token.at("id"));
      CHECK(token.at("logprob") == token.at("top")[0].at("logprob"));
    }
  }
}

}  // namespace farmesh::test
