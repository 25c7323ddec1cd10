#include "gateway/registry.hpp"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <utility>

#include <fmt/format.h>

#include "base/log.hpp"
#include "evm/wallet_statement.hpp"
#include "gateway/json_writer.hpp"
#include "gateway/node_signature.hpp"
#include "http/url.hpp"

namespace farmesh::gateway {
namespace {

constexpr std::chrono::seconds kMinute{60};
constexpr std::chrono::seconds kHour{3'600};
constexpr std::chrono::seconds kCoverageLife{5};  // heartbeats are many, nodes move seldom
constexpr std::size_t kMaxCoverages = 256;

http::Reply json_reply(std::string body, int status = 200) {
  http::Reply reply;
  reply.status = status;
  reply.body = std::move(body);
  return reply;
}

http::Reply refusal(const Problem& problem) {
  http::Reply reply = json_reply(platform_error(problem), problem.status);
  if (problem.retry_after_s > 0) {
    reply.headers.add("Retry-After", std::to_string(problem.retry_after_s));
  }
  return reply;
}

/// The registry's own words for what the ledger says.
Problem registry_problem(const Error& error) {
  if (error.code == Errc::ledger_conflict) {
    return {
        409, "request_replayed", "This node has signed a request no earlier than this one.", {}};
  }
  if (error.code == Errc::not_found) {
    return {404, "node_unknown", "This node has not registered here.", "node_id"};
  }
  Problem problem = problem_of(error);
  if (problem.status == 503) problem.message = "The registry's database does not answer.";
  return problem;
}

/// The wallet itself says that this node earns for it, and says so for this network.
Checked<bool> check_wallet(const RegistrationBody& body,
                           const evm::StatementExpectation& expected) {
  if (!body.wallet) return true;
  if (body.statement.empty()) {
    return Problem{403, "wallet_statement_missing",
                   "A wallet must say itself that this node earns for it: farmesh key bind.",
                   "wallet_statement"};
  }
  std::string text = body.statement;
  if (!body.wallet_signature.empty()) {
    const auto words = evm::parse_statement_text(text);
    const auto signature = evm::Signature::parse(body.wallet_signature);
    if (!words || !signature) {
      return invalid_request("wallet_statement_invalid",
                             words ? signature.error().detail : words.error().detail,
                             words ? "signature" : "wallet_statement");
    }
    const Result<std::string> whole = evm::signed_statement_text({*words, *signature});
    if (!whole) return invalid_request("wallet_statement_invalid", whole.error().detail);
    text = *whole;
  }
  const auto read = evm::parse_signed_statement(text);
  if (!read) {
    const bool forged = read.error().code == Errc::wallet_signature_invalid;
    return Problem{forged ? 403 : 400, std::string(name(read.error().code)), read.error().detail,
                   forged ? "signature" : "wallet_statement"};
  }
  if (read->statement.wallet != *body.wallet) {
    return Problem{403, "wallet_refused", "The statement is another wallet's.", "wallet_address"};
  }
  const Result<void> fits = evm::check_statement(read->statement, expected);
  if (!fits) {
    return Problem{403, std::string(name(fits.error().code)), fits.error().detail,
                   "wallet_statement"};
  }
  return true;
}

std::size_t limit_of(const http::Request& request) {
  const std::string_view text = request.query.get("limit").value_or("");
  std::size_t limit = kMaxListedNodes;
  std::from_chars(text.data(), text.data() + text.size(), limit);
  return std::min(limit, kMaxListedNodes);
}

}  // namespace

Registry::Registry(RegistryOptions options, std::shared_ptr<ledger::Store> store)
    : options_(std::move(options)), store_(std::move(store)) {}

std::int64_t Registry::now_ms() const { return store_->now().time_since_epoch().count(); }

std::string Registry::full_id(const std::string& model) const {
  return options_.full_id && !model.empty() ? options_.full_id(model) : model;
}

/// What every route has in common: the address's share, a database, the shape of a refusal.
http::Handler Registry::handler(Handle handle) {
  return [this, handle](const http::Request& request, http::Responder responder) {
    const RateVerdict share = limiter_.take("requests:" + request.remote_address,
                                            {options_.requests_per_minute, kMinute});
    if (!share.allowed) {
      return responder.send(refusal({429,
                                     "rate_limit_exceeded",
                                     "Too many requests from this address.",
                                     {},
                                     int(share.retry_after.count())}));
    }
    if (!store_) {
      return responder.send(
          refusal({503, "ledger_unavailable", "This server keeps no registry.", {}}));
    }
    Checked<http::Reply> reply = (this->*handle)(request);
    responder.send(reply ? *std::move(reply) : refusal(reply.problem()));
  };
}

Checked<RegisteredReply> Registry::admit(const http::Request& request) {
  const RateVerdict share = limiter_.take("registrations:" + request.remote_address,
                                          {options_.registrations_per_hour, kHour});
  if (!share.allowed) {
    return Problem{429,
                   "rate_limit_exceeded",
                   "Too many registrations from this address.",
                   {},
                   int(share.retry_after.count())};
  }
  Checked<RegistrationBody> body = parse_registration(request.body);
  if (!body) return body.problem();
  const Checked<SignedRequest> by = check_signature(request, now_ms());
  if (!by) return by.problem();
  const std::string id = to_string(by->node);
  if (!body->node.node_id.empty() && body->node.node_id != id) {
    return Problem{403, "node_id_mismatch", "Another node's key signed this request.", "node_id"};
  }
  const evm::StatementExpectation expected{options_.wallet_domain, options_.chain_id, by->node,
                                           std::chrono::floor<std::chrono::seconds>(store_->now())};
  if (const Checked<bool> earns = check_wallet(*body, expected); !earns) return earns.problem();

  ledger::NodeRegistration node = std::move(body->node);
  node.node_id = id;
  node.signed_ms = by->signed_ms;
  if (node.model) node.model->model_id = full_id(node.model->model_id);
  const Result<std::string> row = ledger::NodeRegistry(store_).register_node(node);
  if (!row) return registry_problem(row.error());

  RegisteredReply reply;
  reply.node_id = id;
  reply.bootstrap = options_.bootstrap_nodes;
  reply.discovery_url = options_.public_url;
  if (reply.discovery_url.empty()) {
    const auto url = http::parse_url("http://" + std::string(request.header("Host").value_or("")));
    if (url) reply.discovery_url = "http://" + url->authority();
  }
  if (!node.model) {
    reply.message = "Send span and total_layers as well, to be listed under the model.";
  }
  return reply;
}

Checked<http::Reply> Registry::register_node(const http::Request& request) {
  const Checked<RegisteredReply> reply = admit(request);
  if (!reply) return reply.problem();
  return json_reply(registered_reply(*reply));
}

Checked<http::Reply> Registry::register_older(const http::Request& request) {
  const Checked<RegisteredReply> reply = admit(request);
  if (!reply) return reply.problem();
  return json_reply(older_registered_reply(*reply), 201);
}

Checked<http::Reply> Registry::heartbeat(const http::Request& request) {
  Checked<ledger::Heartbeat> read = parse_heartbeat(request.body);
  if (!read) return read.problem();
  return beat(request, *std::move(read));
}

Checked<http::Reply> Registry::older_heartbeat(const http::Request& request) {
  Checked<ledger::Heartbeat> read = parse_older_heartbeat(request.body);
  if (!read) return read.problem();
  read->node_id = request.parameter("node_id");
  return beat(request, *std::move(read));
}

Checked<http::Reply> Registry::beat(const http::Request& request, ledger::Heartbeat beat) {
  const Checked<SignedRequest> by = check_signature(request, now_ms());
  if (!by) return by.problem();
  if (beat.node_id != to_string(by->node)) {
    return Problem{403, "node_id_mismatch", "Another node's key signed this request.", "node_id"};
  }
  beat.signed_ms = by->signed_ms;
  beat.model_id = full_id(beat.model_id);
  const Result<void> taken = ledger::NodeRegistry(store_).heartbeat(beat);
  if (!taken) return registry_problem(taken.error());
  return json_reply(heartbeat_reply(should_move(beat)));
}

/// A layer of its model has nobody, and every layer of its own has another node.
bool Registry::should_move(const ledger::Heartbeat& beat) {
  if (beat.model_id.empty() || !beat.healthy) return false;
  const std::lock_guard lock(mutex_);
  const LedgerTime now = store_->now();
  const auto known = coverage_.find(beat.model_id);
  if (known == coverage_.end() || now - known->second.at >= kCoverageLife) {
    const auto nodes = ledger::NodeRegistry(store_).active_nodes(beat.model_id);
    if (!nodes) return false;
    if (coverage_.size() >= kMaxCoverages) coverage_.clear();
    coverage_[beat.model_id] = coverage_of(*nodes, now);
  }
  const Coverage& coverage = coverage_[beat.model_id];
  const auto own = coverage.spans.find(beat.node_id);
  if (own == coverage.spans.end() || std::ranges::count(coverage.holders, 0u) == 0) return false;
  for (std::uint32_t layer = own->second.begin; layer < own->second.end; ++layer) {
    if (coverage.holders[layer] < 2) return false;
  }
  return true;
}

Registry::Coverage Registry::coverage_of(const std::vector<ledger::ListedNode>& nodes,
                                         LedgerTime now) {
  Coverage coverage{now, {}, {}};
  for (const ledger::ListedNode& node : nodes) {
    const std::size_t layers = std::max(node.model.total_layers, node.model.layers.end);
    if (coverage.holders.size() < layers) coverage.holders.resize(layers);
    coverage.spans[node.node_id] = node.model.layers;
    for (std::uint32_t layer = node.model.layers.begin; layer < node.model.layers.end; ++layer) {
      ++coverage.holders[layer];
    }
  }
  return coverage;
}

Checked<http::Reply> Registry::earnings(const http::Request& request) {
  const Result<evm::Address> wallet = evm::parse_address(request.parameter("wallet"));
  if (!wallet) {
    return invalid_request("wallet_invalid", "Not a wallet address, or one with a wrong checksum.",
                           "wallet");
  }
  const auto earned = ledger::NodeRegistry(store_).earnings(evm::to_lower_case(*wallet));
  if (!earned) return registry_problem(earned.error());
  return json_reply(earnings_reply(*wallet, *earned));
}

Checked<http::Reply> Registry::active(const http::Request& request) {
  const std::string model = full_id(std::string(request.parameter("model_id")));
  const std::string location(request.query.get("location").value_or(""));
  const auto nodes = ledger::NodeRegistry(store_).active_nodes(model, location);
  if (!nodes) return registry_problem(nodes.error());
  return json_reply(active_nodes_reply(model, *nodes, limit_of(request)));
}

Checked<http::Reply> Registry::older_active(const http::Request& request) {
  const std::string model = full_id(std::string(request.query.get("model_id").value_or("")));
  const auto nodes = ledger::NodeRegistry(store_).active_nodes(model);
  if (!nodes) return registry_problem(nodes.error());
  return json_reply(older_active_nodes_reply(*nodes, limit_of(request)));
}

Checked<http::Reply> Registry::layers(const http::Request& request) {
  const std::string model = full_id(std::string(request.parameter("model_id")));
  const auto holders = ledger::NodeRegistry(store_).coverage(model);
  if (!holders) return registry_problem(holders.error());
  return json_reply(layers_reply(model, *holders));
}

Checked<http::Reply> Registry::stats(const http::Request&) {
  const auto stats = ledger::NodeRegistry(store_).stats();
  if (!stats) return registry_problem(stats.error());
  return json_reply(stats_reply(*stats, store_->now()));
}

void Registry::add_routes(http::Router& router) {
  const http::RouteOptions bounded{kMaxRegistryBody};
  router.post("/api/nodes/register-distributed", handler(&Registry::register_node), bounded);
  router.post("/api/nodes/register", handler(&Registry::register_older), bounded);
  router.post("/api/nodes/heartbeat", handler(&Registry::heartbeat), bounded);
  router.add("PUT", "/api/nodes/{node_id}/heartbeat", handler(&Registry::older_heartbeat), bounded);
  router.get("/api/nodes/earnings/{wallet}", handler(&Registry::earnings));
  router.get("/api/nodes/active", handler(&Registry::older_active));
  router.get("/api/discovery/nodes/active/{model_id*}", handler(&Registry::active));
  router.get("/api/discovery/layers/{model_id*}", handler(&Registry::layers));
  router.get("/api/stats", handler(&Registry::stats));
  router.get("/api/dht/bootstrap", [this](const http::Request&, http::Responder responder) {
    responder.json(200, bootstrap_reply(options_.bootstrap_nodes, options_.version));
  });
}

void Registry::add_service_routes(http::Router& router) {
  router.get("/health", [this](const http::Request&, http::Responder responder) {
    JsonWriter json;
    json.begin_object().field("status", "healthy").field("service", "far-mesh-discovery");
    responder.json(200, json.field("version", options_.version).end_object().take());
  });
  router.get("/metrics", [this](const http::Request&, http::Responder responder) {
    if (const auto stats = ledger::NodeRegistry(store_).stats(); stats) {
      metrics_.gauge("far_registry_active_nodes", "Nodes with a heartbeat in two minutes")
          .set(stats->active_nodes);
      metrics_.gauge("far_registry_nodes", "Nodes that ever registered").set(stats->total_nodes);
    }
    http::Reply reply = json_reply(metrics_.text());
    reply.content_type = http::Metrics::kContentType;
    responder.send(std::move(reply));
  });
}

void Registry::finished(const http::Finished& finished) {
  const std::string route(finished.route.empty() ? "none" : finished.route);
  metrics_
      .counter("far_mesh_http_requests_total", "HTTP requests that were answered",
               {{"route", route}, {"status", std::to_string(finished.status)}})
      .add();
  log(LogLevel::debug, "registry",
      fmt::format("{} {} {} {} ms request {}", finished.method, route, finished.status,
                  finished.duration.count() / 1000, finished.request_id));
}

Result<void> Registry::mark_stale() {
  const auto stale = ledger::NodeRegistry(store_).mark_stale();
  if (!stale) return stale.error();
  if (*stale > 0) log(LogLevel::info, "registry", fmt::format("{} nodes went offline", *stale));
  return {};
}

Result<void> Registry::forget_strangers() {
  const auto forgotten = ledger::NodeRegistry(store_).forget_strangers();
  if (!forgotten) return forgotten.error();
  if (*forgotten > 0) log(LogLevel::info, "registry", fmt::format("forgot {} nodes", *forgotten));
  return {};
}

}  // namespace farmesh::gateway
