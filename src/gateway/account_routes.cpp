// Logins by wallet, API keys, and what a provider sees of its own earnings.
#include <algorithm>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fmt/chrono.h>
#include <fmt/format.h>

#include "gateway/account_codec.hpp"
#include "gateway/json_writer.hpp"
#include "gateway/live_turn.hpp"
#include "gateway/routes.hpp"
#include "gateway/services.hpp"
#include "ledger/node_registry.hpp"

namespace farmesh::gateway {
namespace {

void refuse(http::Responder& responder, const Problem& problem) {
  responder.json(problem.status, platform_error(problem));
}

std::string iso(LedgerTime time) {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", std::chrono::floor<std::chrono::seconds>(time));
}

void nonce(Services& services, const http::Request& request, http::Responder responder) {
  const std::string wallet(request.query.get("wallet").value_or(""));
  const Checked<LoginChallenge> challenge = services.gatekeeper.challenge(wallet);
  if (!challenge) return refuse(responder, challenge.problem());
  JsonWriter json;
  json.begin_object().field("nonce", challenge->nonce).field("message", challenge->message);
  responder.json(200, json.field("expires_at", challenge->expires_at).end_object().take());
}

void login(Services& services, const http::Request& request, http::Responder responder) {
  const Checked<LoginRequest> asked = parse_login(request.body);
  if (!asked) return refuse(responder, asked.problem());
  const Checked<std::string> token =
      services.gatekeeper.log_in(asked->wallet, asked->message, asked->signature);
  if (!token) return refuse(responder, token.problem());
  JsonWriter json;
  responder.json(200, json.begin_object().field("token", *token).end_object().take(),
                 {{"Cache-Control", "no-store"}});
}

/// An administrator, and a ledger to act on.
Checked<Caller> administrator(Services& services, const http::Request& request) {
  Checked<Caller> caller = services.gatekeeper.authenticate(request);
  if (!caller) return caller;
  if (!caller->is_admin) return Problem{403, "scope_missing", "This needs an admin key.", {}};
  return caller;
}

void write_key(JsonWriter& json, const ledger::ApiKey& key) {
  json.field("key_id", key.key_id).field("account", key.account).field("name", key.name);
  json.key("scopes").begin_array();
  if (key.scopes.infer) json.value("infer");
  if (key.scopes.provider) json.value("provider");
  if (key.scopes.admin) json.value("admin");
  json.end_array().field("tier", key.tier).field("created_at", iso(key.created_at));
  json.key("revoked_at");
  key.revoked_at ? json.value(iso(*key.revoked_at)) : json.null();
}

void create_key(Services& services, const http::Request& request, http::Responder responder) {
  const Checked<Caller> caller = administrator(services, request);
  if (!caller) return refuse(responder, caller.problem());
  const Checked<ledger::ApiKey> wanted = parse_key(request.body);
  if (!wanted) return refuse(responder, wanted.problem());
  const Result<ledger::NewApiKey> created = ledger::ApiKeys(services.store).create(*wanted);
  if (!created) return refuse(responder, problem_of(created.error()));
  JsonWriter json;
  json.begin_object().field("secret", created->secret);
  write_key(json, created->key);
  responder.json(201, json.end_object().take(), {{"Cache-Control", "no-store"}});
}

void list_keys(Services& services, const http::Request& request, http::Responder responder) {
  const Checked<Caller> caller = administrator(services, request);
  if (!caller) return refuse(responder, caller.problem());
  const auto keys =
      ledger::ApiKeys(services.store).list(std::string(request.query.get("account").value_or("")));
  if (!keys) return refuse(responder, problem_of(keys.error()));
  JsonWriter json;
  json.begin_object().key("keys").begin_array();
  for (const ledger::ApiKey& key : *keys) {
    json.begin_object();
    write_key(json, key);
    json.end_object();
  }
  responder.json(200, json.end_array().end_object().take());
}

void revoke_key(Services& services, const http::Request& request, http::Responder responder) {
  const Checked<Caller> caller = administrator(services, request);
  if (!caller) return refuse(responder, caller.problem());
  const std::string id(request.parameter("key_id"));
  const Result<void> revoked = ledger::ApiKeys(services.store).revoke(id);
  if (!revoked) return refuse(responder, problem_of(revoked.error()));
  services.gatekeeper.forget_keys();
  JsonWriter json;
  json.begin_object().field("key_id", id).field("status", "revoked").end_object();
  responder.json(200, json.take());
}

/// The earnings of the caller's own wallet.
Checked<ledger::WalletEarnings> own_earnings(Services& services, const http::Request& request) {
  const Checked<Caller> caller = services.gatekeeper.authenticate(request);
  if (!caller) return caller.problem();
  if (!caller->may_provide || caller->wallet.empty()) {
    return Problem{403, "scope_missing", "This needs a wallet that is logged in.", {}};
  }
  const auto earnings = ledger::NodeRegistry(services.store).earnings(caller->wallet);
  if (!earnings) return problem_of(earnings.error());
  return *earnings;
}

/// Requests under way here that pass one of these nodes.
std::size_t requests_over(Services& services, const std::vector<std::string>& node_ids) {
  const auto passes = [&node_ids](const std::shared_ptr<LiveTurn>& turn) {
    const std::vector<NodeUsed> used = turn->nodes_used();
    return std::ranges::any_of(used, [&node_ids](const NodeUsed& node) {
      return std::ranges::find(node_ids, node.node_id) != node_ids.end();
    });
  };
  const auto turns = services.live.all();
  return std::size_t(std::ranges::count_if(turns, passes));
}

void provider_stats(Services& services, const http::Request& request, http::Responder responder) {
  const Checked<ledger::WalletEarnings> earnings = own_earnings(services, request);
  if (!earnings) return refuse(responder, earnings.problem());
  JsonWriter json;
  json.begin_object().field("totalTokensServed", earnings->tokens);
  json.raw_field("totalEarnedFar", earnings->total.to_string());
  json.field("activeRequests", requests_over(services, earnings->node_ids));
  json.field("uptime", earnings->avg_uptime_percent);
  json.field("avgLatencyMs", earnings->avg_latency_ms.value_or(0));
  json.field("reliability_score", earnings->avg_uptime_percent / 100);
  json.field("total_requests_served", earnings->sessions)
      .field("failed_requests", earnings->failed_sessions);
  responder.json(200, json.end_object().take());
}

void provider_history(Services& services, const http::Request& request, http::Responder responder) {
  const Checked<ledger::WalletEarnings> earnings = own_earnings(services, request);
  if (!earnings) return refuse(responder, earnings.problem());
  JsonWriter json;
  json.begin_array();
  for (const ledger::DailyAmount& day : earnings->history) {
    json.begin_object().field("date", day.date).raw_field("amount", day.amount.to_string());
    json.end_object();
  }
  responder.json(200, json.end_array().take());
}

}  // namespace

void add_account_routes(http::Router& router, Services& services) {
  const auto to = [&services](auto handle) {
    return [&services, handle](const http::Request& request, http::Responder responder) {
      handle(services, request, std::move(responder));
    };
  };
  router.get("/api/auth/nonce", to(nonce));
  router.post("/api/auth/login", to(login));
  router.post("/api/keys", to(create_key));
  router.get("/api/keys", to(list_keys));
  router.add("DELETE", "/api/keys/{key_id}", to(revoke_key));
  router.get("/api/provider/stats", to(provider_stats));
  router.get("/api/provider/earnings/history", to(provider_history));
}

}  // namespace farmesh::gateway
