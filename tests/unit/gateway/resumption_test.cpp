// Streams that break and go on: the same words, and each token charged once.
#include "gateway/resumption.hpp"

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "gateway/session_cache.hpp"
#include "unit/gateway/scripted_model.hpp"

namespace farmesh::test {
namespace {

using nlohmann::json;

struct Heard {
  int status = 0;
  std::vector<http::ReceivedEvent> events;
  std::string body;
};

// Reads at most `wanted` events, then hangs up.
Heard hear(World& world, const std::string& method, const std::string& path, const json& body,
           const std::string& last = {}, std::size_t wanted = 1'000) {
  Heard heard;
  http::ClientRequest request;
  request.method = method;
  request.url = world.url(path);
  if (method == "POST") request.body = body.dump();
  if (!last.empty()) request.headers.add("Last-Event-ID", last);
  http::EventParser parser([&](const http::ReceivedEvent& event) {
    heard.events.push_back(event);
    return heard.events.size() < wanted;
  });
  const auto on_head = [&](const http::ClientReply& head) {
    heard.status = head.status;
    return true;
  };
  const auto on_body = [&](std::string_view piece) {
    heard.body += piece;
    return bool(parser.feed(piece));
  };
  (void)world.client.stream(request, on_head, on_body);
  return heard;
}

std::string words(const Heard& heard) {
  std::string text;
  for (const http::ReceivedEvent& event : heard.events) {
    const json data = json::parse(event.data, nullptr, false);
    if (data.is_object()) text += data.value("token", "");
  }
  return text;
}

void wait_until_quiet(World& world) {
  while (!world.coordinator->services().live.all().empty()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

std::uint64_t charged(World& world, const std::string& id) {
  std::uint64_t tokens = 0;
  for (unsigned link = 0;; ++link) {
    const auto record =
        ContributionLedger(world.store).session_of_request(gateway::session_request_id(id, link));
    if (!record) return tokens;
    CHECK(record->status != SessionStatus::active);
    tokens += record->tokens_generated;
  }
}

}  // namespace

TEST_SUITE("gateway/resumption") {
  TEST_CASE("ids of events are told apart from everything else") {
    using gateway::parse_event_id;
    CHECK(gateway::event_id("r:1", 7) == "r:1:7");
    REQUIRE(parse_event_id("r:1:7"));
    CHECK(parse_event_id("r:1:7")->request_id == "r:1");
    CHECK(parse_event_id("r:1:7")->items == 7);
    for (const char* wrong :
         {"", "r", "r:", ":1", "r:x", "r:-1", "r:1x", "r:99999999999999999999"}) {
      CHECK_FALSE(parse_event_id(wrong));
    }
    CHECK(gateway::session_request_id("r", 0) == "r");
    CHECK(gateway::session_request_id("r", 2) == "r +2");
    CHECK(gateway::session_request_id(std::string(255, 'x'), 9).size() <= 255);
  }

  TEST_CASE("a platform's stream that was cut goes on behind the last event") {
    World world;
    const json body{{"prompt", "Hi"}, {"request_id", "r1"}, {"seed", 3}};
    const Heard first = hear(world, "POST", "/inference/generate", body, {}, 2);
    CHECK(words(first) == "Once upon");
    CHECK(first.events.back().id == "r1:2");
    wait_until_quiet(world);
    const Heard rest = hear(world, "POST", "/inference/generate", body, "r1:2");
    CHECK(rest.status == 200);
    CHECK(words(rest) == " a time");
    const json done = json::parse(rest.events.back().data);
    CHECK(done.at("total_tokens") == 4);
    CHECK(done.at("cost_far") == "0.0004");
    CHECK(charged(world, "r1") == 4);
    CHECK(world.model->inputs.back().options.sampling.seed == 3);
    const auto audit = ContributionLedger(world.store).audit();
    REQUIRE(audit);
    CHECK(audit->findings.empty());
  }

  TEST_CASE("whatever the client has, it gets what follows, and pays for four tokens in all") {
    for (std::size_t has = 0; has <= 5; ++has) {
      World world;
      const json body{{"prompt", "Hi"}, {"request_id", "r"}};
      REQUIRE(hear(world, "POST", "/inference/generate", body).events.size() == 5);
      const Heard rest =
          hear(world, "POST", "/inference/generate", body, gateway::event_id("r", has));
      const std::vector<std::string> all{"Once", " upon", " a", " time"};
      std::string expected;
      for (std::size_t i = has; i < all.size(); ++i) expected += all[i];
      CHECK(words(rest) == expected);
      CHECK(json::parse(rest.events.back().data).at("done") == true);
      CHECK(charged(world, "r") == 4);
      CHECK(ledger::Credits(world.store).account("public")->reserved.is_zero());
    }
  }

  TEST_CASE("a chat of two choices goes on in both, with its usage and its end") {
    World world;
    const json body{{"model", "short"},
                    {"messages", {{{"role", "user"}, {"content", "Hi"}}}},
                    {"n", 2},
                    {"stream", true},
                    {"stream_options", {{"include_usage", true}}}};
    const Heard whole = hear(world, "POST", "/v1/chat/completions", body);
    const std::string id = json::parse(whole.events.front().data).at("id");
    CHECK(whole.events.front().id == id + ":0");
    // Each event but [DONE] is a place to go on from.
    for (std::size_t cut = 1; cut + 2 < whole.events.size(); ++cut) {
      const Heard rest = hear(world, "POST", "/v1/chat/completions", body, whole.events[cut].id);
      std::vector<std::string> expected, got;
      for (std::size_t i = cut + 1; i < whole.events.size(); ++i) {
        expected.push_back(whole.events[i].data);
      }
      for (const http::ReceivedEvent& event : rest.events) got.push_back(event.data);
      CHECK(got == expected);
    }
    CHECK(charged(world, id) == 8);
  }

  TEST_CASE("who cannot send the body again asks by the request's id") {
    World world;
    const json body{{"model", "short"}, {"prompt", "Hi"}, {"stream", true}};
    const Heard whole = hear(world, "POST", "/v1/completions", body);
    const std::string id = json::parse(whole.events.front().data).at("id");
    const std::string path = "/api/inference/" + id + "/events";
    CHECK(hear(world, "GET", path, {}).events.size() == whole.events.size());
    CHECK(hear(world, "GET", path, {}, id + ":3").events.size() == whole.events.size() - 3);
    CHECK(hear(world, "GET", "/api/inference/other/events", {}).status == 404);
  }

  TEST_CASE("the price of the start holds") {
    World world;
    const json body{{"prompt", "Hi"}, {"request_id", "r"}};
    (void)hear(world, "POST", "/inference/generate", body, {}, 1);
    wait_until_quiet(world);
    world.host.find("")->options.price_per_token = Far::from_units(99'000'000);
    const Heard rest = hear(world, "POST", "/inference/generate", body, "r:1");
    CHECK(json::parse(rest.events.back().data).at("cost_far") == "0.0004");
  }

  TEST_CASE("another body, another account and an unknown stream are refused") {
    World world;
    const json body{{"prompt", "Hi"}, {"request_id", "r"}};
    (void)hear(world, "POST", "/inference/generate", body);
    json other = body;
    other["prompt"] = "Ho";
    CHECK(hear(world, "POST", "/inference/generate", other, "r:1").status == 409);
    CHECK(hear(world, "POST", "/api/inference/chat", body, "r:1").status == 409);
    CHECK(hear(world, "POST", "/inference/generate", body, "s:1").status == 404);
    CHECK(hear(world, "POST", "/inference/generate", body, "nonsense").status == 404);
    const std::string key = world.key({.infer = true}, *Far::parse("1"));
    http::ClientRequest stranger;
    stranger.method = "POST";
    stranger.url = world.url("/inference/generate");
    stranger.body = body.dump();
    stranger.headers.add("Authorization", "Bearer " + key);
    stranger.headers.add("Last-Event-ID", "r:1");
    CHECK(world.client.send(stranger)->status == 404);
  }

  TEST_CASE("without a ledger streams go on as well") {
    World::Options options;
    options.metered = false;
    World world(options);
    const json body{{"prompt", "Hi"}, {"request_id", "r"}};
    (void)hear(world, "POST", "/inference/generate", body, {}, 2);
    CHECK(words(hear(world, "POST", "/inference/generate", body, "r:2")) == " a time");
  }
}

TEST_SUITE("gateway/session_cache") {
  gateway::CachedTurn turn(const std::string& id) {
    gateway::CachedTurn turn;
    turn.request_id = id;
    turn.writer = "w";
    turn.account = "public";
    turn.path = "/v1/completions";
    turn.body = std::string("{\"prompt\":\"\0\xff\"}", 15);
    turn.seed = 1ull << 53;
    turn.price_per_token = Far::from_units(10'000);
    turn.max_tokens = {4, 5};
    return turn;
  }

  TEST_CASE("a turn and its items come back as they were, by bytes and by id") {
    gateway::CachedTurn one = turn("a");
    const auto decoded = gateway::decode_turn(gateway::encode_turn(one));
    REQUIRE(decoded);
    CHECK(*decoded == one);
    CHECK_FALSE(gateway::decode_turn("nonsense"));
    CHECK_FALSE(gateway::decode_turn(""));

    gateway::MemorySessionCache cache;
    REQUIRE(cache.open(one));
    const std::vector<gateway::CachedItem> items{{0, 7}, {1, 8}, {0, gateway::CachedItem::kEnd}};
    CHECK(*cache.append("a", "w", 0, items) == true);
    CHECK(*cache.append("a", "w", 2, std::vector<gateway::CachedItem>{{0, 9}}) == true);
    CHECK((*cache.find("a"))->items == std::vector<gateway::CachedItem>{{0, 7}, {1, 8}, {0, 9}});
    CHECK_FALSE(cache.append("a", "w", 9, items));
    CHECK(*cache.append("a", "another", 0, items) == false);
    CHECK(*cache.append("b", "w", 0, items) == false);
    CHECK_FALSE(cache.find("b")->has_value());

    std::vector<gateway::CachedItem> placed{{5, 5}};
    REQUIRE(gateway::decode_items(gateway::encode_items(1, items), placed));
    CHECK(placed.size() == 4);
    CHECK_FALSE(gateway::decode_items(gateway::encode_items(9, items), placed));
    CHECK_FALSE(gateway::decode_items("\x83", placed));
  }

  TEST_CASE("it holds a bounded number of turns and bytes, the oldest go first") {
    gateway::MemorySessionCache few({.max_turns = 2});
    for (const char* id : {"a", "b"}) REQUIRE(few.open(turn(id)));
    CHECK(*few.append("a", "w", 0, std::vector<gateway::CachedItem>{{0, 1}}));
    REQUIRE(few.open(turn("c")));
    CHECK(few.find("a")->has_value());
    CHECK_FALSE(few.find("b")->has_value());

    gateway::MemorySessionCache small({.max_bytes = 100'000});
    for (int i = 0; i < 100; ++i) {
      gateway::CachedTurn large = turn(std::to_string(i));
      large.body = std::string(10'000, 'x');
      REQUIRE(small.open(large));
    }
    CHECK(small.bytes() < 120'000);
    CHECK(small.find("99")->has_value());
  }
}

}  // namespace farmesh::test
