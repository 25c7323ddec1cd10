// What the coordinator says of itself: liveness, readiness, models, coverage, metrics, the page.
#include <string>
#include <utility>
#include <vector>

#include "gateway/embedded.hpp"
#include "gateway/json_writer.hpp"
#include "gateway/platform_codec.hpp"
#include "gateway/routes.hpp"
#include "gateway/services.hpp"

namespace farmesh::gateway {
namespace {

void refuse(http::Responder& responder, const Problem& problem) {
  responder.json(problem.status, platform_error(problem));
}

Checked<HostedModel*> asked_model(const Services& services, const http::Request& request) {
  return find_model(services, std::string(request.query.get("model_id").value_or("")));
}

std::vector<ModelRow> rows(const Services& services) {
  std::vector<ModelRow> rows;
  for (const auto& hosted : services.models.models()) rows.push_back(ModelHost::row(*hosted));
  return rows;
}

void ready(Services& services, const http::Request&, http::Responder responder) {
  const HostedModel* hosted = services.models.find("");
  const ModelState state = hosted == nullptr ? ModelState() : hosted->model->state();
  const std::vector<std::uint32_t> nodes = coverage(state);
  const bool covered = is_covered(state);
  JsonWriter json;
  json.begin_object().field("status", covered ? "ready" : "not_ready");
  json.field("model_id", hosted == nullptr ? std::string() : hosted->options.id);
  json.key("uncovered_layers").begin_array();
  for (std::size_t layer = 0; layer < nodes.size(); ++layer) {
    if (nodes[layer] == 0) json.value(layer);
  }
  responder.json(covered ? 200 : 503, json.end_array().end_object().take());
}

void mesh_status(Services& services, const http::Request& request, http::Responder responder) {
  const Checked<HostedModel*> model = asked_model(services, request);
  if (!model) return refuse(responder, model.problem());
  responder.json(200, mesh_status_reply(ModelHost::row(**model)));
}

/// How many nodes hold each layer: what the page draws.
void mesh_layers(Services& services, const http::Request& request, http::Responder responder) {
  const Checked<HostedModel*> model = asked_model(services, request);
  if (!model) return refuse(responder, model.problem());
  const ModelState state = (*model)->model->state();
  JsonWriter json;
  json.begin_object().field("model_id", (*model)->options.id);
  json.field("num_layers", state.summary.num_layers).key("nodes_per_layer").begin_array();
  for (const std::uint32_t nodes : coverage(state)) json.value(nodes);
  responder.json(200, json.end_array().end_object().take());
}

void metrics(Services& services, const http::Request&, http::Responder responder) {
  for (const ModelRow& row : rows(services)) {
    services.metrics.gauge("far_mesh_active_nodes", "Connected nodes", {{"model_id", row.model_id}})
        .set(row.active_nodes);
    services.metrics
        .gauge("far_mesh_active_sessions", "Requests under way", {{"model_id", row.model_id}})
        .set(row.active_sessions);
    services.metrics
        .gauge("far_mesh_model_covered", "1 when every layer has a node",
               {{"model_id", row.model_id}})
        .set(row.available ? 1 : 0);
  }
  services.metrics.gauge("far_mesh_queue_running", "Requests that generate")
      .set(double(services.queue.running()));
  services.metrics.gauge("far_mesh_queue_waiting", "Requests that wait for a place")
      .set(double(services.queue.waiting()));
  services.metrics.gauge("far_mesh_sessions_unsettled", "Ended sessions the ledger has yet to take")
      .set(double(services.unsettled.size()));
  http::Reply reply;
  reply.body = services.metrics.text();
  reply.content_type = http::Metrics::kContentType;
  responder.send(std::move(reply));
}

http::Reply page() {
  http::Reply reply;
  reply.body = std::string(kPageHtml);
  reply.content_type = "text/html; charset=utf-8";
  // Everything the page needs is in it, and it speaks to this server alone.
  reply.headers = {{"Content-Security-Policy",
                    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
                    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
                    "frame-ancestors 'none'"},
                   {"X-Content-Type-Options", "nosniff"},
                   {"Referrer-Policy", "no-referrer"},
                   {"Cache-Control", "no-cache"}};
  return reply;
}

}  // namespace

void add_status_routes(http::Router& router, Services& services) {
  const auto to = [&services](auto handle) {
    return [&services, handle](const http::Request& request, http::Responder responder) {
      handle(services, request, std::move(responder));
    };
  };
  router.get("/health", [&services](const http::Request&, http::Responder responder) {
    responder.json(200, health_reply(services.options.version));
  });
  router.get("/ready", to(ready));
  router.get("/mesh/status", to(mesh_status));
  router.get("/mesh/layers", to(mesh_layers));
  router.get("/models", [&services](const http::Request&, http::Responder responder) {
    responder.json(200, models_reply(rows(services)));
  });
  router.get("/api/inference/models", [&services](const http::Request&, http::Responder responder) {
    responder.json(200, api_models_reply(rows(services)));
  });
  router.get("/metrics", to(metrics));
  router.get("/openapi.json", [](const http::Request&, http::Responder responder) {
    responder.json(200, std::string(kOpenApiJson));
  });
  router.get("/", [](const http::Request&, http::Responder responder) { responder.send(page()); });
}

}  // namespace farmesh::gateway
