#include "gateway/problem.hpp"

#include "gateway/json_writer.hpp"

namespace farmesh::gateway {
namespace {

struct Row {
  int status;
  std::string_view code;
  int retry_after_s;
};

// What is not named here is our own failure.
Row row_of(Errc code) {
  switch (code) {
    case Errc::invalid_argument: return {400, "invalid_value", 0};
    case Errc::context_exceeded: return {400, "context_length_exceeded", 0};
    case Errc::template_unsupported: return {400, "template_unsupported", 0};
    case Errc::unsupported: return {400, "unsupported", 0};
    case Errc::insufficient_credit: return {402, name(code), 0};
    case Errc::ledger_conflict: return {409, name(code), 0};
    case Errc::not_found: return {404, name(code), 0};
    case Errc::ledger_unavailable: return {503, name(code), 5};
    case Errc::model_not_found: return {404, "model_not_found", 0};
    case Errc::session_unknown: return {404, "not_found", 0};
    case Errc::quota: return {429, "rate_limit_exceeded", 1};
    case Errc::cancelled: return {499, "cancelled", 0};
    case Errc::busy:
    case Errc::no_cache_space:
    case Errc::too_many_sessions:
    case Errc::deadline_passed: return {503, name(code), 1};
    case Errc::no_route:
    case Errc::head_unavailable:
    case Errc::span_unavailable:
    case Errc::connection_refused:
    case Errc::connection_lost:
    case Errc::next_hop_lost:
    case Errc::closed: return {503, name(code), 5};
    case Errc::timeout: return {504, name(code), 5};
    default: return {500, name(code), 0};
  }
}

}  // namespace

Problem invalid_request(std::string code, std::string message, std::string param) {
  return {400, std::move(code), std::move(message), std::move(param)};
}

Problem problem_of(const Error& error) {
  const Row row = row_of(error.code);
  std::string message = error.detail.empty() ? std::string(name(error.code)) : error.detail;
  // What lies behind these may name peers or files: it is the operator's, and in the log.
  if (row.status == 503 || row.status == 504) {
    message = "The mesh cannot serve this request now (" + std::string(name(error.code)) + ").";
  } else if (row.status == 500) {
    message = "The server failed to answer this request.";
  }
  return {row.status, std::string(row.code), std::move(message), {}, row.retry_after_s};
}

std::string_view openai_type(int status) noexcept {
  switch (status) {
    case 401: return "authentication_error";
    case 402: return "insufficient_quota";
    case 403: return "permission_error";
    case 429: return "rate_limit_error";
    case 503: return "overloaded_error";
    default: return status >= 500 ? "server_error" : "invalid_request_error";
  }
}

std::string openai_error(const Problem& problem) {
  JsonWriter json;
  json.begin_object().key("error").begin_object();
  json.field("message", problem.message).field("type", openai_type(problem.status));
  json.key("param");
  problem.param.empty() ? json.null() : json.value(problem.param);
  json.field("code", problem.code).end_object().end_object();
  return json.take();
}

std::string platform_error(const Problem& problem, std::string_view request_id) {
  JsonWriter json;
  json.begin_object().field("error", problem.message).field("code", problem.code);
  if (!problem.param.empty()) json.field("param", problem.param);
  if (!request_id.empty()) json.field("request_id", request_id);
  return json.end_object().take();
}

}  // namespace farmesh::gateway
