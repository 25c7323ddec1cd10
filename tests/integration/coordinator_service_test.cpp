// A coordinator as an operator runs it: nodes found by the DHT, TLS, logs, and its orderly end.
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>
#include <signal.h>

#include "integration/coordinators.hpp"
#include "unit/http/certificate.hpp"

namespace farmesh::test {
namespace {

const std::string kTrace = "4bf92f3577b34da6a3ce929d0e0e4736";
const std::string kSecret = "zebra-quartz";

}  // namespace

TEST_SUITE("integration/coordinator_service") {
  TEST_CASE("nodes found by the DHT serve a stream over TLS that SIGTERM lets end") {
    const std::string model = any_model();
    const std::uint16_t port = free_port();
    const std::string bootstrap = "127.0.0.1:" + std::to_string(port);
    ::setenv("LOG_LEVEL", "debug", 1);  // of the nodes
    const std::vector<Span> halves = cli::even_split(layers_of(model), 2);
    std::vector<cli::NodeProcess> nodes =
        start_nodes(model, {halves[0]}, {"--dht-port", std::to_string(port)});
    for (cli::NodeProcess& node :
         start_nodes(model, {halves[1]}, {"--bootstrap", bootstrap, "--dht-port", "0"})) {
      nodes.push_back(std::move(node));
    }
    ::unsetenv("LOG_LEVEL");
    const http::test::Certificate certificate;
    auto coordinator =
        cli::ChildProcess::start({kProgram,          "coordinator",
                                  "--model",         "m=" + model,
                                  "--port",          "0",
                                  "--threads",       "1",
                                  "--bootstrap",     bootstrap,
                                  "--dht-port",      "0",
                                  "--tls-cert",      certificate.cert_file(),
                                  "--tls-key",       certificate.key_file(),
                                  "--ledger",        sqlite("service"),
                                  "--public-budget", "10",
                                  "--log-format",    "json"},
                                 {"XDG_DATA_HOME=" + scratch().string(), "LOG_LEVEL=info"});
    REQUIRE(coordinator);
    const auto line = coordinator->read_line(std::chrono::minutes(2));
    INFO("it said: ", coordinator->errors());
    REQUIRE(line.has_value());
    const std::string before = "listening on ";
    REQUIRE(line->starts_with(before + "https://"));
    const std::string url =
        line->substr(before.size(), line->find(' ', before.size()) - before.size());

    http::ClientOptions options;
    options.read_timeout = std::chrono::minutes(2);
    options.ca_file = certificate.cert_file();
    options.proxy_from_environment = false;
    http::Client client(options);
    CHECK(soon([&] {
      const auto ready = client.send({.url = url + "/ready"});
      return ready && ready->status == 200;
    }));
    json body = completion(5, 60);
    body["prompt"] = "Once upon a time " + kSecret;
    http::ClientRequest request;
    request.method = "POST";
    request.url = url + "/v1/completions";
    request.body = body.dump();
    request.headers.add("traceparent", "00-" + kTrace + "-00f067aa0ba902b7-01");
    std::vector<std::string> events;
    http::EventParser parser([&](const http::ReceivedEvent& event) {
      events.push_back(event.data);
      if (events.size() == 5) coordinator->signal(SIGTERM);
      return true;
    });
    std::string request_id;
    const auto on_head = [&](const http::ClientReply& head) {
      request_id = std::string(head.headers.get("X-Request-Id").value_or(""));
      return head.status == 200;
    };
    const auto on_body = [&](std::string_view piece) { return bool(parser.feed(piece)); };
    CHECK(client.stream(request, on_head, on_body));
    REQUIRE(events.size() > 10);
    CHECK(events.back() == "[DONE]");
    CHECK(json::parse(events[events.size() - 2]).at("usage").at("completion_tokens") == 60);
    CHECK(coordinator->wait() == 0);

    // Its log is JSON, names the request in every way, and never what it says.
    const std::string id = json::parse(events.front()).at("id");
    std::istringstream lines(coordinator->errors());
    bool told = false;
    for (std::string text; std::getline(lines, text);) {
      if (text.starts_with("farmesh: ")) continue;  // a word to the operator, as it ends
      const json entry = json::parse(text, nullptr, false);
      INFO(text);
      REQUIRE(entry.is_object());
      told =
          told || (entry.value("request_id", "") == id && entry.value("trace_id", "") == kTrace &&
                   entry.value("http_request_id", "") == request_id);
    }
    CHECK(told);
    CHECK_FALSE(request_id.empty());
    CHECK(coordinator->errors().find(kSecret) == std::string::npos);
    for (const cli::NodeProcess& node : nodes) {
      CHECK(node.process().errors().find(kTrace) != std::string::npos);
      CHECK(node.process().errors().find(kSecret) == std::string::npos);
    }
    check_receipts(sqlite("service"), /*nodes_died=*/false);
  }
}

}  // namespace farmesh::test
