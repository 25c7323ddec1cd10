// The coordinator's routes, a file each group. Handlers keep the Services by reference: it outlives
// the server.
#pragma once

#include "http/request.hpp"
#include "http/responder.hpp"
#include "http/router.hpp"

namespace farmesh::gateway {

struct Services;

void add_openai_routes(http::Router& router, Services& services);
/// What its routes do, for a stream that is resumed by another route.
void answer_chat(Services& services, const http::Request& request, http::Responder responder);
void answer_completion(Services& services, const http::Request& request, http::Responder responder);
void add_platform_routes(http::Router& router, Services& services);
/// Logins, keys, and a provider's own numbers.
void add_account_routes(http::Router& router, Services& services);
/// What users sign for one request, taken down.
void add_reservation_routes(http::Router& router, Services& services);
/// /health, /ready, /mesh/status, /models, /metrics, /openapi.json, the page at /.
void add_status_routes(http::Router& router, Services& services);

}  // namespace farmesh::gateway
