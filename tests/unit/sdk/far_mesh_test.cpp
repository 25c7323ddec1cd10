#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <future>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>
#include <sys/wait.h>
#include <unistd.h>

#include <farmesh/far_mesh.hpp>

#include "unit/http/http_fixture.hpp"
#include "unit/sdk/scripted_server.hpp"

using namespace farmesh;
using namespace farmesh::test;
using namespace std::chrono_literals;

namespace {

ConnectOptions at(const ScriptedServer& server) {
  ::setenv("NO_PROXY", "127.0.0.1", 1);
  ConnectOptions options;
  options.api_key = "far_secret";
  options.base_url = server.url() + "/";
  options.model = "org/m";
  options.timeout = 10s;
  options.retry_wait = 0ms;
  return options;
}

FarMesh connect(ConnectOptions options) {
  MeshResult<FarMesh> mesh = FarMesh::connect(std::move(options));
  REQUIRE(mesh);
  return *std::move(mesh);
}

/// What the stream of these answers says, and how it ends.
struct Told {
  std::string text;
  std::optional<MeshError> error;
  MeshUsage usage;
  std::vector<std::string> requests;
};
Told tell(std::vector<Answer> answers) {
  const ScriptedServer server(std::move(answers));
  MeshStream stream = connect(at(server)).generate("Once");
  Told told;
  for (const std::string& text : stream) told.text += text;
  told.error = stream.error();
  told.usage = stream.usage();
  told.requests = server.requests();
  return told;
}

std::string code_of(const Told& told) { return told.error ? told.error->code : "none"; }

bool has(const std::string& request, const std::string& what) {
  return request.find(what) != std::string::npos;
}

std::size_t entries(const char* folder) {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder)) ++count;
  return count;
}

}  // namespace

TEST_SUITE("sdk/far_mesh") {
  TEST_CASE("an answer streams, with its usage, cost and nodes at the end") {
    const ScriptedServer server(
        Answers{{{kStreamHead, text_event(1, "Once"), text_event(2, " upon"), last_events(3)}}});
    MeshStream stream =
        connect(at(server)).generate("Say:", {.max_tokens = 2, .seed = 7, .stop = {"."}});
    const auto first = stream.next();
    REQUIRE(first);
    CHECK(*first == "Once");
    const auto whole = stream.text();
    REQUIRE(whole);
    CHECK(*whole == "Once upon");
    CHECK(*stream.text() == "Once upon");
    CHECK(stream.request_id() == "r");
    const MeshUsage usage = stream.usage();
    CHECK(usage.prompt_tokens == 3);
    CHECK(usage.tokens == 2);
    CHECK(usage.finish == FinishReason::length);
    CHECK(usage.cost == Far::parse("0.0002"));
    CHECK(usage.nodes_used == std::vector<NodeUse>{{"aa", {0, 2}}, {"aa", {4, 5}}});
    CHECK(usage.ttft_ms > 0);
    CHECK(usage.resumed == 0);

    const std::string request = server.requests().at(0);
    CHECK(request.starts_with("POST /v1/completions HTTP/1.1\r\n"));
    CHECK(has(request, "Authorization: Bearer far_secret\r\n"));
    const auto body = nlohmann::json::parse(request.substr(request.find("\r\n\r\n") + 4));
    CHECK(body["prompt"] == "Say:");
    CHECK(body["model"] == "org/m");
    CHECK(body["max_tokens"] == 2);
    CHECK(body["seed"] == 7);
    CHECK(body["stop"] == nlohmann::json::array({"."}));
    CHECK(body["stream"] == true);
  }

  TEST_CASE("a chat sends its messages, and its deltas are the text") {
    const ScriptedServer server(Answers{
        {{kStreamHead,
          event(0, R"({"id":"r","choices":[{"delta":{"role":"assistant","content":""}}]})"),
          event(1, R"({"id":"r","choices":[{"delta":{"content":"Hi"}}]})"), last_events(2)}}});
    MeshStream stream = connect(at(server)).chat({{"system", "Be brief."}, {"user", "Hello"}});
    CHECK(*stream.text() == "Hi");
    const std::string request = server.requests().at(0);
    CHECK(request.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"));
    CHECK(has(request, R"({"content":"Be brief.","role":"system"})"));
  }

  TEST_CASE("a stream that breaks in mid-token is gone on with, and no token comes twice") {
    const std::string second = text_event(2, " upon");
    const Told told =
        tell({{{kStreamHead, text_event(1, "Once"), second.substr(0, second.size() / 2)}},
              {{kStreamHead, second.substr(0, second.size() - 1)}},
              {{kStreamHead, second, text_event(3, " a"), last_events(4)}}});
    CHECK(code_of(told) == "none");
    CHECK(told.text == "Once upon a");
    CHECK(told.usage.resumed == 2);
    REQUIRE(told.requests.size() == 3);
    CHECK_FALSE(has(told.requests[0], "Last-Event-ID"));
    CHECK(has(told.requests[1], "Last-Event-ID: r:1\r\n"));
    CHECK(has(told.requests[2], "Last-Event-ID: r:1\r\n"));
  }

  TEST_CASE("a stream that breaks before its first event begins anew") {
    const Told told =
        tell({{{}}, {{kStreamHead}}, {{kStreamHead, text_event(1, "Once"), last_events(2)}}});
    CHECK(told.text == "Once");
    REQUIRE(told.requests.size() == 3);
    CHECK_FALSE(has(told.requests[2], "Last-Event-ID"));
  }

  TEST_CASE("a stream that only lacks its last word is complete") {
    std::string last = last_events(2);
    last.resize(last.find("data: [DONE]"));
    const Told told = tell({{{kStreamHead, text_event(1, "Once"), last}}});
    CHECK(code_of(told) == "none");
    CHECK(told.usage.cost == Far::parse("0.0002"));
    CHECK(told.requests.size() == 1);
  }

  TEST_CASE("a stream that cannot be gone on with fails behind what was told") {
    const Told told = tell({{{kStreamHead, text_event(1, "Once")}},
                            reply("404 Not Found", R"({"error":{"code":"stream_not_found"}})")});
    CHECK(told.text == "Once");
    CHECK(code_of(told) == "connection_lost");
    CHECK(told.error->kind == MeshFailure::connection);
    CHECK(told.error->request_id == "r");
    CHECK(has(told.error->message, "stream_not_found"));
  }

  TEST_CASE("who is told to come back later does, unless that is too late") {
    const std::string body = R"({"error":{"message":"Slow down.","code":"rate_limit_exceeded"}})";
    const Answer good{{kStreamHead, text_event(1, "Once"), last_events(2)}};
    CHECK(tell({reply("429 Too Many Requests", body, "Retry-After: 0\r\n"), good}).text == "Once");
    CHECK(tell({reply("503 Service Unavailable", body), good}).text == "Once");

    const Told told =
        tell({reply("429 Too Many Requests", body, "Retry-After: 3600\r\nX-Request-Id: x1\r\n")});
    CHECK(code_of(told) == "rate_limit_exceeded");
    CHECK(told.error->kind == MeshFailure::rate_limited);
    CHECK(told.error->retry_after == 3600s);
    CHECK(told.error->request_id == "x1");
    CHECK(told.error->to_string() == "rate_limit_exceeded: Slow down. (request x1)");
  }

  TEST_CASE("tries without progress are counted, and end") {
    const std::string busy = R"({"error":{"code":"busy"}})";
    const Told told = tell(std::vector<Answer>(6, reply("503 Service Unavailable", busy)));
    CHECK(code_of(told) == "busy");
    CHECK(told.requests.size() == 5);
  }

  TEST_CASE("a refusal has its kind, code and status, and is not asked again") {
    const auto refused = [](const std::string& status, const std::string& body) {
      const Told told = tell({reply(status, body), reply(status, body)});
      CHECK(told.requests.size() == 1);
      return *told.error;
    };
    const MeshError broke =
        refused("402 Payment Required",
                R"({"error":"No credit.","code":"insufficient_credit","request_id":"p1"})");
    CHECK(broke.kind == MeshFailure::payment_required);
    CHECK(broke.code == "insufficient_credit");
    CHECK(broke.message == "No credit.");
    CHECK(broke.request_id == "p1");
    CHECK(broke.status == 402);
    CHECK(refused("401 Unauthorized", "{}").kind == MeshFailure::authentication);
    CHECK(refused("403 Forbidden", "{}").kind == MeshFailure::permission);
    CHECK(refused("404 Not Found", "<html>").kind == MeshFailure::not_found);
    CHECK(refused("409 Conflict", "[]").kind == MeshFailure::conflict);
    CHECK(refused("400 Bad Request", "").kind == MeshFailure::invalid_request);
    CHECK(refused("500 Internal Server Error", "").code == "http_500");
    CHECK(refused("302 Found", "").kind == MeshFailure::server);
  }

  TEST_CASE("an error in mid-stream comes after the text before it") {
    const Told told =
        tell({{{kStreamHead, text_event(1, "Once"),
                "data: {\"error\":{\"message\":\"It broke.\",\"type\":\"server_error\","
                "\"code\":\"compute_failed\"}}\n\n"}}});
    CHECK(told.text == "Once");
    CHECK(code_of(told) == "compute_failed");
    CHECK(told.error->kind == MeshFailure::server);
  }

  TEST_CASE("what is no stream of events, no JSON or no UTF-8 is refused") {
    CHECK(code_of(tell({reply("200 OK", "{}")})) == "bad_http");
    CHECK(code_of(tell({{{kStreamHead, "data: {\"choices\":\n\n"}}})) == "bad_http");
    CHECK(code_of(tell({{{kStreamHead, "data: 7\n\n"}}})) == "bad_http");
    CHECK(code_of(tell({{{kStreamHead, event(1, R"({"choices":[7]})")}}})) == "bad_http");
    CHECK(code_of(tell({{{kStreamHead, text_event(1, "\xe2\x82")}}})) == "bad_http");
    CHECK(code_of(tell({{{kStreamHead, text_event(1, "\\ud83d")}}})) == "bad_http");
    CHECK(code_of(tell({{{kStreamHead, "data: " + std::string(2 << 20, 'x')}}})) ==
          "frame_too_large");
    CHECK(code_of(tell({{{"SSH-2.0-OpenSSH\r\n\r\n"}}})) == "bad_http");
  }

  TEST_CASE("a character that arrives in two packets is whole") {
    const std::string whole = text_event(1, "5 \xe2\x82\xac");
    const std::size_t cut = whole.find('\x82');
    const Told told =
        tell({{{kStreamHead, whole.substr(0, cut), whole.substr(cut), last_events(2)}}});
    CHECK(told.text == "5 \xe2\x82\xac");
  }

  TEST_CASE("closing ends a wait in another thread, twice and after the end too") {
    const ScriptedServer server(Answers{{{kStreamHead, text_event(1, "Once")}, true}});
    MeshStream stream = connect(at(server)).generate("x");
    CHECK(*stream.next() == "Once");
    CHECK_FALSE(stream.wait(0ms));
    auto waiting = std::async(std::launch::async, [&stream] { return stream.next(); });
    stream.close();
    const auto ended = waiting.get();
    REQUIRE(ended);
    CHECK_FALSE(ended->has_value());
    stream.close();
    CHECK(stream.usage().finish == FinishReason::cancelled);
    CHECK_FALSE(stream.error());
    CHECK(*stream.text() == "Once");
  }

  TEST_CASE("a stream that is never answered can be closed or dropped at once") {
    const ScriptedServer server(Answers{{{}, true}});
    const FarMesh mesh = connect(at(server));
    MeshStream stream = mesh.generate("x");
    stream.close();
    CHECK_FALSE(stream.next()->has_value());
    const MeshStream dropped = mesh.generate("x");
  }

  TEST_CASE("a thousand streams that were opened and dropped leave nothing") {
    const ScriptedServer server(Answers{{{}, true}});
    const std::size_t threads = entries("/proc/self/task"), files = entries("/proc/self/fd");
    {
      const FarMesh mesh = connect(at(server));
      for (int round = 0; round < 10; ++round) {
        std::vector<MeshStream> streams;
        for (int i = 0; i < 100; ++i) streams.push_back(mesh.generate("x"));
      }
    }
    // The server's own connection may stay.
    CHECK(http::test::eventually([&] {
      return entries("/proc/self/task") <= threads && entries("/proc/self/fd") <= files + 1;
    }));
  }

  TEST_CASE("an event loop is woken once, and may let the stream go from there") {
    const ScriptedServer server(
        Answers{{{kStreamHead, text_event(1, "Once"), text_event(2, " upon"), last_events(3)}}});
    auto stream = std::make_shared<MeshStream>(connect(at(server)).generate("x"));
    std::promise<std::string> woken;
    MeshStream* const waiting = stream.get();
    waiting->on_ready([&woken, stream = std::move(stream)]() mutable {
      std::string text = **stream->next();
      stream.reset();
      woken.set_value(text);
    });
    CHECK(woken.get_future().get() == "Once");
  }

  TEST_CASE("what no header or body can hold is refused before anything is sent") {
    ConnectOptions options;
    options.base_url = "http://127.0.0.1:9";
    const auto kind = [](const ConnectOptions& wrong) {
      const auto mesh = FarMesh::connect(wrong);
      return mesh ? MeshFailure::failed : mesh.error().kind;
    };
    options.api_key = "far_x\r\nX-Evil: 1";
    CHECK(kind(options) == MeshFailure::invalid_request);
    options.api_key = "far x";
    CHECK(kind(options) == MeshFailure::invalid_request);
    options.api_key = "far_x";
    for (const char* url :
         {"ftp://x", "localhost:8100", "http://", "http://a b", "http://x/?a=b"}) {
      options.base_url = url;
      CHECK(kind(options) == MeshFailure::invalid_request);
    }
    options.base_url = "http://127.0.0.1:9";
    options.model = "m";
    const FarMesh mesh = connect(options);
    MeshStream half = mesh.generate("half a \xe2\x82");
    CHECK(half.next().error().kind == MeshFailure::invalid_request);
    AskOptions warm;
    warm.sampling.temperature = NAN;
    MeshStream none = mesh.generate("x", warm);
    CHECK(none.next().error().kind == MeshFailure::invalid_request);
  }

  TEST_CASE("where nobody listens, a stream fails when its tries are over") {
    std::string url;
    { url = ScriptedServer(Answers{}).url(); }
    ConnectOptions options;
    options.base_url = url;
    options.model = "m";
    options.retry_wait = 0ms;
    options.max_retries = 2;
    MeshStream stream = connect(options).generate("x");
    CHECK(stream.next().error().code == "connection_refused");
    CHECK(stream.next().error().kind == MeshFailure::connection);
  }

  TEST_CASE("silence ends with timeout") {
    const ScriptedServer server(Answers{{{kStreamHead}, true}});
    ConnectOptions options = at(server);
    options.timeout = 30ms;
    MeshStream stream = connect(options).generate("x");
    CHECK(stream.next().error().kind == MeshFailure::timeout);
  }

  TEST_CASE("without a model the coordinator's default is asked for, once") {
    const Answer status =
        reply("200 OK", R"({"model_id":"org/default","active_nodes":2,"active_sessions":0,)"
                        R"("price_per_token_far":"0.0001","status":"connected"})");
    const Answer good{{kStreamHead, text_event(1, "Once"), last_events(2)}};
    const ScriptedServer server(Answers{status, good, good});
    ConnectOptions options = at(server);
    options.model.clear();
    const FarMesh mesh = connect(options);
    CHECK(*mesh.generate("x").text() == "Once");
    CHECK(*mesh.generate("x").text() == "Once");
    const auto requests = server.requests();
    REQUIRE(requests.size() == 3);
    CHECK(requests[0].starts_with("GET /mesh/status HTTP/1.1\r\n"));
    CHECK(has(requests[1], R"("model":"org/default")"));
  }

  TEST_CASE("models, status and earnings are told, every amount exactly") {
    const ScriptedServer server(Answers{
        reply("200 OK", R"({"models":[{"model_id":"m","active_nodes":3,)"
                        R"("price_per_token_far":"0.0001","status":"available"}]})"),
        reply("200 OK", R"({"model_id":"m","active_nodes":3,"active_sessions":1,)"
                        R"("price_per_token_far":"0.001","status":"disconnected"})"),
        reply("200 OK", R"({"wallet_address":"0xA","total_earned_far":90071992547.40993,)"
                        R"("total_tokens_served":5,"active_nodes":1,"avg_uptime_percent":99.5,)"
                        R"("pending_payout_far":3,"earnings_history":[{"date":"2026-11-23",)"
                        R"("amount_far":0.00000001}]})"),
        reply("200 OK", "[]")});
    const FarMesh mesh = connect(at(server));
    const auto models = mesh.models();
    REQUIRE(models);
    REQUIRE(models->size() == 1);
    CHECK(models->front().model_id == "m");
    CHECK(models->front().price_per_token == Far::parse("0.0001"));
    CHECK(models->front().available);
    const auto status = mesh.status();
    REQUIRE(status);
    CHECK(status->active_sessions == 1);
    CHECK_FALSE(status->connected);
    CHECK(has(server.requests().at(1), "GET /mesh/status?model_id=org%2Fm "));
    const auto earnings = mesh.earnings("0xA");
    REQUIRE(earnings);
    CHECK(earnings->total == Far::parse("90071992547.40993"));
    CHECK(earnings->pending == Far::parse("3"));
    CHECK(earnings->avg_uptime_percent == 99.5);
    CHECK(earnings->history.at(0).amount == Far::from_units(1));
    CHECK(mesh.models().error().code == "bad_http");
  }

  TEST_CASE("a forked child is refused, and may destroy what it has") {
    const ScriptedServer server(Answers{{{kStreamHead, text_event(1, "Once")}, true}});
    auto mesh = std::make_unique<FarMesh>(connect(at(server)));
    auto stream = std::make_unique<MeshStream>(mesh->generate("x"));
    CHECK(*stream->next() == "Once");
    const pid_t child = ::fork();
    if (child == 0) {
      const bool refused = !stream->next() && stream->next().error().code == "unsupported" &&
                           !mesh->models() && !mesh->generate("x").next();
      stream->close();
      stream.reset();
      mesh.reset();
      ::_exit(refused ? 0 : 1);
    }
    int status = -1;
    ::waitpid(child, &status, 0);
    CHECK(status == 0);
  }

  TEST_CASE("a mesh that cannot be opened says why") {
    const auto mesh = FarMesh::open({.folder = "/nowhere/at/all", .local = true});
    REQUIRE_FALSE(mesh);
    CHECK(mesh.error().kind == MeshFailure::not_found);
    CHECK(mesh.error().code == "model_not_found");
  }
}
