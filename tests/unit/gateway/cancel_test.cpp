// Requests that are watched and cancelled by their id, whichever API they came by; and what a
// coordinator counts of them.
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "gateway/live_turn.hpp"
#include "unit/gateway/scripted_model.hpp"

namespace farmesh::test {
namespace {

using nlohmann::json;

/// The events of a stream; `on_event` may do something about it meanwhile.
std::vector<json> hear(World& world, const std::string& path, const json& body,
                       const std::function<void(const json&)>& on_event) {
  std::vector<json> events;
  http::EventParser parser([&](const http::ReceivedEvent& event) {
    events.push_back(json::parse(event.data, nullptr, false));
    on_event(events.back());
    return true;
  });
  http::ClientRequest request;
  request.method = "POST";
  request.url = world.url(path);
  request.body = body.dump();
  const auto on_body = [&parser](std::string_view piece) { return bool(parser.feed(piece)); };
  REQUIRE(world.client.stream(request, {}, on_body));
  return events;
}

const json kChat{{"model", "short"},
                 {"messages", {{{"role", "user"}, {"content", "Hi"}}}},
                 {"stream", true},
                 {"stream_options", {{"include_usage", true}}}};

}  // namespace

TEST_SUITE("gateway/cancel") {
  TEST_CASE("an OpenAI call is told and cancelled by the id of its answer") {
    World world;
    world.model->hold_after = 3;
    std::string id;
    json told;
    const auto events = hear(world, "/v1/chat/completions", kChat, [&](const json& event) {
      if (!event.contains("choices")) return;
      id = event.at("id");
      if (event.at("choices").at(0).at("delta").value("content", "") != " a") return;
      told = world.get("/api/inference/" + id);
      CHECK(json::parse(world.send("DELETE", "/api/inference/" + id).body).at("status") ==
            "cancelled");
    });
    CHECK(told.at("status") == "active");
    CHECK(told.at("model_id") == "org/model");
    CHECK(world.model->cancelled == 1);
    // Its client is told, and no [DONE] says that the answer is whole.
    REQUIRE(events.size() == 5);  // the role, three tokens, the error
    CHECK(events.back().at("error").at("code") == "cancelled");
    const SessionRecord record = world.session(id);
    CHECK(record.status == SessionStatus::cancelled);
    CHECK(record.tokens_generated == 3);
    const json after = world.get("/api/inference/" + id);
    CHECK(after.at("status") == "cancelled");
    CHECK(after.at("text") == "Once upon a");
    CHECK(after.at("tokens_generated") == 3);
    CHECK(after.at("cost_far") == 0.0003);
    CHECK(after.at("nodes_used").size() == 2);
    CHECK(ledger::Credits(world.store).account("public")->reserved.is_zero());
  }

  TEST_CASE("a whole OpenAI answer that is cancelled costs nothing") {
    World world;
    world.model->hold_after = 2;
    std::thread other([&world] {
      for (;;) {
        const auto turns = world.coordinator->services().live.all();
        const bool held = !turns.empty() && world.model->started == 1;
        if (held &&
            world.send("DELETE", "/api/inference/" + turns[0]->request_id()).status == 200) {
          return;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
    });
    json body = kChat;
    body.erase("stream");
    body.erase("stream_options");
    const json refused = world.post("/v1/chat/completions", body, 499);
    other.join();
    CHECK(refused.at("error").at("code") == "cancelled");
    CHECK(ledger::Credits(world.store).account("public")->balance ==
          Far::from_units(Far::kUnitsPerFar));
  }

  TEST_CASE("a platform call that is cancelled from elsewhere pays for what was delivered") {
    World world;
    world.model->hold_after = 2;
    const auto events = hear(world, "/inference/generate", {{"prompt", "Hi"}, {"request_id", "r"}},
                             [&](const json& event) {
                               if (event.value("tokens_generated", 0) != 2) return;
                               CHECK(world.send("DELETE", "/api/inference/r").status == 200);
                             });
    CHECK(events.back().at("done") == true);
    CHECK(events.back().at("finish_reason") == "cancelled");
    CHECK(world.session("r").status == SessionStatus::cancelled);
    CHECK(world.session("r").tokens_generated == 2);
  }

  TEST_CASE("an OpenAI answer is told to whom it belongs, for an hour and then without its text") {
    World world;
    json body = kChat;
    body.erase("stream");
    body.erase("stream_options");
    body["n"] = 2;
    const std::string key = world.key({.infer = true}, *Far::parse("1"));
    const json reply = world.post("/v1/chat/completions", body, 200, key);
    const std::string path = "/api/inference/" + reply.at("id").get<std::string>();
    const json told = world.get(path, 200, key);
    CHECK(told.at("status") == "completed");
    CHECK(told.at("text") == "Once upon a time");  // of the first choice
    CHECK(told.at("tokens_generated") == 8);
    CHECK(told.at("finish_reason") == "stop");
    world.get(path, 404);
  }

  TEST_CASE("each event of a stream tells the cost so far, as a decimal") {
    World world;
    std::vector<std::string> costs;
    hear(world, "/v1/chat/completions", kChat, [&](const json& event) {
      if (event.contains("cost_far")) costs.push_back(event.at("cost_far"));
    });
    CHECK(costs == std::vector<std::string>{"0", "0.0001", "0.0002", "0.0003", "0.0004", "0.0004"});
  }

  TEST_CASE("the metrics have the published names and labels") {
    World world;
    world.model->cached_prompt_tokens = 2;
    hear(world, "/v1/chat/completions", kChat, [](const json&) {});
    const std::string text = world.send("GET", "/metrics").body;
    for (const char* line : {
             "far_mesh_inference_requests_total{model_id=\"org/model\",status=\"completed\","
             "tier=\"standard\"} 1",
             "far_mesh_inference_latency_seconds_count{model_id=\"org/model\"} 1",
             "far_mesh_time_to_first_token_seconds_count{model_id=\"org/model\"} 1",
             "far_mesh_time_per_output_token_seconds_count{model_id=\"org/model\"} 1",
             "far_mesh_tokens_generated_total{model_id=\"org/model\"} 4",
             "far_mesh_prompt_tokens_total{cache=\"hit\",model_id=\"org/model\"} 2",
             "far_mesh_prompt_tokens_total{cache=\"miss\",model_id=\"org/model\"} 1",
             "far_mesh_failovers_total{model_id=\"org/model\"} 0",
             "far_mesh_active_nodes{model_id=\"org/model\"} 2",
             "far_mesh_active_sessions{model_id=\"org/model\"} 0",
             "far_mesh_model_covered{model_id=\"org/model\"} 1",
             "far_mesh_queue_running 0",
             "far_mesh_queue_waiting 0",
             "far_mesh_payments_earned_far 0",
             "far_mesh_payments_confirmed_far 0",
             "far_mesh_payments_open_far 0",
             "far_mesh_payments_batches{status=\"confirmed\"} 0",
             "far_mesh_payments_batches{status=\"open\"} 0",
             "far_mesh_sessions_unsettled 0",
         }) {
      INFO(line, "\n", text);
      CHECK(text.find("\n" + std::string(line) + "\n") != std::string::npos);
    }
  }
}

}  // namespace farmesh::test
