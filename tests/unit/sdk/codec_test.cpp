#include "sdk/codec.hpp"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "sdk/exact_json.hpp"

using namespace farmesh;
using namespace farmesh::sdk;
using nlohmann::json;

TEST_SUITE("sdk/codec") {
  TEST_CASE("decimals stay the text they were, everything else is JSON as ever") {
    const json read = parse_exact(R"({"a":[0.1000,-2e3,7,-7,true,null,"x"],"b":{}})");
    CHECK(read ==
          json{{"a", {"0.1000", "-2e3", 7, -7, true, nullptr, "x"}}, {"b", json::object()}});
    CHECK(parse_exact("").is_discarded());
    CHECK(parse_exact("{\"a\":").is_discarded());
    CHECK(parse_exact(std::string(33, '[') + std::string(33, ']')).is_discarded());
    CHECK_FALSE(parse_exact(std::string(32, '[') + std::string(32, ']')).is_discarded());
  }

  TEST_CASE("options that change nothing are not sent, the others are") {
    Ask ask{std::string("x"), {}};
    const json plain = json::parse(*request_body(ask, "m"));
    CHECK_FALSE(plain.contains("seed"));
    CHECK_FALSE(plain.contains("top_k"));
    CHECK_FALSE(plain.contains("stop"));
    ask.options.seed = UINT64_MAX;
    ask.options.sampling.top_k = 5;
    ask.options.sampling.min_p = 0.5f;
    ask.options.sampling.repetition_penalty = 1.5f;
    ask.options.sampling.presence_penalty = 0.25f;
    ask.options.sampling.frequency_penalty = -0.25f;
    ask.options.sampling.logit_bias = {{7, -100}};
    ask.options.ignore_eos = true;
    ask.options.max_cost = Far::parse("0.01");
    const json full = json::parse(*request_body(ask, "m"));
    CHECK(full["seed"] == -1);  // the same 64 bits
    CHECK(full["top_k"] == 5);
    CHECK(full["min_p"] == 0.5);
    CHECK(full["repetition_penalty"] == 1.5);
    CHECK(full["presence_penalty"] == 0.25);
    CHECK(full["frequency_penalty"] == -0.25);
    CHECK(full["logit_bias"] == json{{"7", -100.0}});
    CHECK(full["ignore_eos"] == true);
    CHECK(full["max_cost_far"] == "0.01");
  }

  TEST_CASE("amounts that are none make a reply none") {
    CHECK_FALSE(read_status(R"({"model_id":"m","price_per_token_far":"x"})"));
    CHECK_FALSE(read_status("7"));
    CHECK_FALSE(read_models(R"({"models":[7]})"));
    CHECK_FALSE(read_models(R"({"models":[{"price_per_token_far":1e-4}]})"));
    CHECK_FALSE(read_earnings(R"({"total_earned_far":1})"));
    CHECK_FALSE(read_earnings(R"({"total_earned_far":1,"pending_payout_far":0,)"
                              R"("earnings_history":[{}]})"));
  }

  TEST_CASE("a chunk's usage is only what a coordinator can mean") {
    const auto chunk = read_chunk(R"({"choices":[],"usage":{"prompt_tokens":-1,"cost_far":7.5,)"
                                  R"("nodes_used":[{"node_id":1,"layers":[0,"x",1]},{},3]}})");
    REQUIRE(chunk);
    REQUIRE(chunk->usage);
    CHECK(chunk->usage->prompt_tokens == 0);
    CHECK_FALSE(chunk->usage->cost);
    CHECK(chunk->usage->nodes_used == std::vector<NodeUse>{{"", {0, 2}}});
    CHECK_FALSE(read_chunk("[]"));
    CHECK_FALSE(read_chunk("{}"));
    CHECK(read_chunk(R"({"error":"text"})")->error->kind == MeshFailure::server);
  }
}
