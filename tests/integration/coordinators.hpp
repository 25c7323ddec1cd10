// Coordinators as processes, clients that listen to them, and what their ledgers must then say.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>
#include <signal.h>

#include "gateway/resumption.hpp"
#include "http/client.hpp"
#include "http/event_parser.hpp"
#include "integration/program.hpp"
#include "ledger/credits.hpp"
#include "ledger/receipts.hpp"
#include "ledger/session_rows.hpp"
#include "ledger/store.hpp"

namespace farmesh::test {

using nlohmann::json;
using std::chrono::steady_clock;

inline const Far kPrice = *Far::parse("0.0001");

class Coordinator {
 public:
  Coordinator(const std::string& model, const std::vector<std::string>& more)
      : process_(start(model, more)) {
    const auto line = process_.read_line(std::chrono::minutes(2));
    INFO("it said: ", process_.errors());
    REQUIRE(line.has_value());
    const std::string before = "listening on ";
    REQUIRE(line->starts_with(before));
    url_ = line->substr(before.size(), line->find(' ', before.size()) - before.size());
  }

  const std::string& url() const { return url_; }
  void kill() { process_.signal(SIGKILL); }
  int stop() {
    process_.signal(SIGTERM);
    return process_.wait();
  }

 private:
  static cli::ChildProcess start(const std::string& model, const std::vector<std::string>& more) {
    auto process = cli::ChildProcess::start(
        std::vector<std::string>{kProgram, "coordinator", "--model", "m=" + model, "--port", "0",
                                 "--threads", "1", "--public-budget", "1000", "--public-rate",
                                 "0"} +
            more,
        {"XDG_DATA_HOME=" + scratch().string(), "LOG_LEVEL=warning"});
    REQUIRE(process);
    return *std::move(process);
  }

  cli::ChildProcess process_;
  std::string url_;
};

inline json completion(std::uint64_t seed, std::uint32_t tokens) {
  return {{"model", "m"},       {"prompt", "Once upon a time"},
          {"seed", seed},       {"max_tokens", tokens},
          {"stream", true},     {"ignore_eos", true},
          {"temperature", 0.8}, {"stream_options", {{"include_usage", true}}}};
}

// A client that hears one stream, perhaps in several parts.
class Listener {
 public:
  explicit Listener(json body) : body_(std::move(body)) {}

  /// False when the stream broke before its end.
  bool hear(const std::string& url, const std::function<void()>& on_event = {}) {
    http::ClientRequest request;
    request.method = "POST";
    request.url = url + "/v1/completions";
    request.body = body_.dump();
    if (!last_id_.empty()) request.headers.add("Last-Event-ID", last_id_);
    http::EventParser parser([&](const http::ReceivedEvent& event) {
      take(event);
      if (on_event) on_event();
      return true;
    });
    http::Client client{{.read_timeout = std::chrono::minutes(2), .proxy_from_environment = false}};
    const auto on_head = [this](const http::ClientReply& head) {
      status_ = head.status;
      return true;
    };
    const auto on_body = [&](std::string_view piece) {
      if (status_ != 200) refusal_ += piece;
      return bool(parser.feed(piece));
    };
    (void)client.stream(request, on_head, on_body);
    return done_;
  }

  const std::string& text() const { return text_; }
  const std::string& id() const { return id_; }
  const std::string& refusal() const { return refusal_; }
  const std::string& last_id() const { return last_id_; }
  const json& usage() const { return usage_; }

 private:
  void take(const http::ReceivedEvent& event) {
    if (event.data == "[DONE]") {
      done_ = true;
      return;
    }
    const json chunk = json::parse(event.data, nullptr, false);
    if (!chunk.is_object() || chunk.contains("error")) {
      refusal_ += event.data;
      return;
    }
    last_id_ = event.id;
    id_ = chunk.at("id");
    for (const json& choice : chunk.at("choices")) text_ += choice.at("text").get<std::string>();
    if (chunk.contains("usage") && chunk["usage"].is_object()) usage_ = chunk["usage"];
  }

  const json body_;
  std::string text_, id_, last_id_, refusal_;
  json usage_;
  int status_ = 0;
  bool done_ = false;
};

inline std::string whole_text(const std::string& url, json body) {
  body["stream"] = false;
  body.erase("stream_options");
  http::Client client{{.read_timeout = std::chrono::minutes(5), .proxy_from_environment = false}};
  const auto reply =
      client.send({.method = "POST", .url = url + "/v1/completions", .body = body.dump()});
  REQUIRE(reply);
  INFO(reply->body);
  REQUIRE(reply->status == 200);
  return json::parse(reply->body).at("choices").at(0).at("text");
}

inline std::shared_ptr<ledger::Store> store_at(const std::string& url) {
  LedgerOptions options;
  options.url = url;
  auto store = ledger::Store::open(std::move(options));
  REQUIRE(store);
  return *store;
}

// Tokens charged for a request in all its sessions, which must have ended and add up.
inline std::uint64_t charged(ContributionLedger& book, const std::string& request_id) {
  std::uint64_t tokens = 0;
  for (unsigned link = 0;; ++link) {
    const auto session = book.session_of_request(gateway::session_request_id(request_id, link));
    if (!session) return tokens;
    CHECK(session->status != SessionStatus::active);
    CHECK(session->total_cost == *kPrice.times(session->tokens_generated));
    std::uint64_t shares = session->operator_tokens;
    for (const Contribution& share : session->contributions) shares += share.tokens;
    CHECK(shares == session->tokens_generated);
    tokens += session->tokens_generated;
  }
}

inline void check_books(const std::string& ledger, std::uint64_t tokens_in_all) {
  const auto store = store_at(ledger);
  const auto report = ContributionLedger(store).audit();
  REQUIRE(report);
  for (const AuditFinding& finding : report->findings) {
    FAIL_CHECK(finding.table << " " << finding.row << " " << finding.what);
  }
  const auto credit = ledger::Credits(store).account("public");
  REQUIRE(credit);
  CHECK(credit->reserved.is_zero());
  CHECK(credit->balance == *Far::parse("1000")->minus(*kPrice.times(std::int64_t(tokens_in_all))));
}

// Every node's newest receipt against the step log of its session, token by token. Where nodes
// died, some receipts are old or missing; none may claim more than the log, and none is disputed.
inline void check_receipts(const std::string& ledger, bool nodes_died) {
  struct Found {
    std::uint64_t exact = 0, old = 0, missing = 0;
  };
  using Place = std::pair<std::string, Span>;
  const auto store = store_at(ledger);
  CHECK(ContributionLedger(store).open_disputes()->empty());
  const auto found = store->transact([](ledger::Database& db) -> Result<Found> {
    Found found;
    const auto ids = db.query<std::string>("SELECT id FROM far_mesh_sessions");
    if (!ids) return ids.error();
    for (const auto& [id] : *ids) {
      const Result<WorkLog> log = ledger::load_work(db, id);
      const auto receipts = ledger::load_receipts(db, id);
      if (!log || !receipts) return Error{Errc::ledger_damaged, id};
      std::map<Place, std::uint64_t> logged;
      for (const WorkSegment& segment : log->output) {
        for (const WorkHop& hop : segment.route)
          logged[{hop.node_id, hop.layers}] += segment.tokens;
      }
      std::map<Place, ledger::StoredReceipt> newest;
      for (const ledger::StoredReceipt& stored : *receipts) {
        CHECK(stored.driver_key.has_value());
        newest[{to_string(stored.receipt.receipt.node_id), stored.receipt.receipt.span}] = stored;
      }
      for (const auto& [place, tokens] : logged) {
        const auto last = newest.find(place);
        if (last == newest.end()) {
          ++found.missing;
          continue;
        }
        const std::uint64_t claimed = last->second.receipt.receipt.counts.decode;
        CHECK(claimed <= tokens);
        ++(claimed == tokens ? found.exact : found.old);
      }
    }
    return found;
  });
  REQUIRE(found);
  std::cerr << "receipts: " << found->exact << " exact, " << found->old << " old, "
            << found->missing << " missing\n";
  CHECK(found->exact > 0);
  if (!nodes_died) CHECK(found->old + found->missing == 0);
}

/// A ledger in this process's folder.
inline std::string sqlite(const std::string& name) {
  return (scratch() / (name + ".sqlite")).string();
}

}  // namespace farmesh::test
