// The platform's forms, as published.
#include "gateway/platform_codec.hpp"

#include <string>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

namespace farmesh::gateway {
namespace {

using nlohmann::json;

Problem refusal(const json& body) {
  const Checked<PlatformRequest> request = parse_platform_request(body.dump());
  INFO(body.dump());
  REQUIRE_FALSE(request);
  return request.problem();
}

}  // namespace

TEST_SUITE("gateway/platform_codec") {
  TEST_CASE("a prompt alone has the published defaults") {
    const Checked<PlatformRequest> request = parse_platform_request(R"({"prompt":"Hi"})");
    REQUIRE(request);
    CHECK(request->prompt == "Hi");
    CHECK(request->max_tokens == 512);
    CHECK(request->generate.sampling.temperature == 0.7f);
    CHECK(request->generate.sampling.top_p == 0.9f);
    CHECK(request->stream);
    CHECK(request->model.empty());
  }

  TEST_CASE("model, model_id and id are one field") {
    for (const char* key : {"model", "model_id", "id"}) {
      const auto request = parse_platform_request(json{{"prompt", "Hi"}, {key, "m"}}.dump());
      REQUIRE(request);
      CHECK(request->model == "m");
    }
    CHECK(parse_platform_request(R"({"prompt":"","model":"m","id":"m"})"));
    CHECK(refusal({{"prompt", "Hi"}, {"model", "a"}, {"model_id", "b"}}).code == "invalid_value");
  }

  TEST_CASE("a wrong field is named") {
    CHECK(refusal(json::object()).param == "prompt");
    CHECK(refusal({{"prompt", 1}}).param == "prompt");
    CHECK(refusal({{"prompt", "a"}, {"max_tokens", "5"}}).param == "max_tokens");
    CHECK(refusal({{"prompt", "a"}, {"max_tokens", -1}}).param == "max_tokens");
    CHECK(refusal({{"prompt", "a"}, {"temperature", true}}).param == "temperature");
    CHECK(refusal({{"prompt", "a"}, {"user_wallet", "0x12"}}).param == "user_wallet");
    const std::string wallet = "0x52908400098527886E0F7030069857D2E4169EE7";
    CHECK(parse_platform_request(json{{"prompt", "a"}, {"user_wallet", wallet}}.dump()));
    std::string mistyped = wallet;
    mistyped[13] = 'e';  // EIP-55 tells the case of each letter
    CHECK(refusal({{"prompt", "a"}, {"user_wallet", mistyped}}).code == "wallet_invalid");
    CHECK(refusal({{"prompt", "a"}, {"request_id", "a b"}}).param == "request_id");
    CHECK(refusal({{"prompt", "a"}, {"request_id", std::string(256, 'a')}}).param == "request_id");
    CHECK(refusal({{"prompt", "a"}, {"unheard", 1}}).param == "unheard");
  }

  TEST_CASE("the events of a stream carry amounts as decimal strings") {
    CHECK(platform_token_event("Quantum", "r1", 1, Far::from_units(10'000)) ==
          R"({"token":"Quantum","request_id":"r1","tokens_generated":1,"cost_far":"0.0001"})");
    CHECK(platform_done_event({"r1", 512, Far::from_units(5'120'000), 1234, "stop"}) ==
          R"({"done":true,"request_id":"r1","total_tokens":512,"cost_far":"0.0512",)"
          R"("latency_ms":1234,"finish_reason":"stop"})");
    CHECK(platform_error({400, "invalid_value", "No.", ""}, "r1") ==
          R"({"error":"No.","code":"invalid_value","request_id":"r1"})");
  }

  TEST_CASE("a whole answer carries amounts as exact number literals, and full lists of layers") {
    PlatformAnswer answer{
        "r1",   "org/m",         "Hi", 512, Far::from_units(9'007'199'254'740'993), 17,
        "stop", {{"n1", {0, 3}}}};
    CHECK(platform_answer(answer) ==
          R"({"request_id":"r1","model_id":"org/m","text":"Hi","tokens_generated":512,)"
          R"("cost_far":90071992.54740993,"latency_ms":17,"finish_reason":"stop",)"
          R"("nodes_used":[{"node_id":"n1","layers":[0,1,2]}]})");
  }

  TEST_CASE("the lists of models") {
    const ModelRow row{"org/m", "m", 3, 2, 12.345, 15.0, Far::from_units(10'000), true};
    CHECK(mesh_status_reply(row) == R"({"model_id":"org/m","active_nodes":3,"active_sessions":2,)"
                                    R"("price_per_token_far":"0.0001","status":"connected"})");
    CHECK(models_reply({&row, 1}) ==
          R"({"models":[{"model_id":"org/m","active_nodes":3,"price_per_token_far":"0.0001",)"
          R"("status":"available"}]})");
    CHECK(api_models_reply({&row, 1}) ==
          R"({"models":[{"id":"org/m","name":"m","active_nodes":3,"avg_latency_ms":12.3,)"
          R"("price_per_token_far":0.0001,"min_vram_gb":15}]})");
    CHECK(health_reply("0.1.0") ==
          R"({"status":"healthy","service":"far-mesh-coordinator","version":"0.1.0"})");
  }
}

}  // namespace farmesh::gateway
