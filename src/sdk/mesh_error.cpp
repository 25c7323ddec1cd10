#include <utility>

#include <farmesh/far_mesh.hpp>

#include "sdk/backend.hpp"

namespace farmesh {
namespace {

MeshFailure kind_of(Errc code) noexcept {
  switch (code) {
    case Errc::timeout:
    case Errc::deadline_passed: return MeshFailure::timeout;
    case Errc::bad_http:
    case Errc::frame_too_large: return MeshFailure::connection;
    case Errc::quota: return MeshFailure::rate_limited;
    case Errc::no_route:
    case Errc::head_unavailable:
    case Errc::span_unavailable:
    case Errc::session_unknown: return MeshFailure::unavailable;
    case Errc::model_not_found:
    case Errc::not_found: return MeshFailure::not_found;
    case Errc::insufficient_credit: return MeshFailure::payment_required;
    case Errc::join_refused:
    case Errc::grant_required: return MeshFailure::permission;
    case Errc::invalid_argument:
    case Errc::config_invalid:
    case Errc::context_exceeded:
    case Errc::template_unsupported:
    case Errc::address_invalid: return MeshFailure::invalid_request;
    default: break;
  }
  const auto number = static_cast<std::uint16_t>(code);
  if (number < 100) return MeshFailure::connection;
  return number >= 200 && number < 300 ? MeshFailure::unavailable : MeshFailure::failed;
}

}  // namespace

inline namespace FARMESH_ABI {

std::string_view name(MeshFailure kind) noexcept {
  switch (kind) {
    case MeshFailure::invalid_request: return "invalid_request";
    case MeshFailure::authentication: return "authentication";
    case MeshFailure::payment_required: return "payment_required";
    case MeshFailure::permission: return "permission";
    case MeshFailure::not_found: return "not_found";
    case MeshFailure::conflict: return "conflict";
    case MeshFailure::rate_limited: return "rate_limited";
    case MeshFailure::unavailable: return "unavailable";
    case MeshFailure::server: return "server";
    case MeshFailure::connection: return "connection";
    case MeshFailure::timeout: return "timeout";
    case MeshFailure::failed: return "failed";
  }
  return "failed";
}

std::string MeshError::to_string() const {
  std::string text = code.empty() ? std::string(name(kind)) : code;
  if (!message.empty()) text += ": " + message;
  if (!request_id.empty()) text += " (request " + request_id + ")";
  return text;
}

MeshError mesh_error(const Error& error) {
  MeshError told;
  told.kind = kind_of(error.code);
  told.code = name(error.code);
  told.message = error.detail;
  return told;
}

}  // namespace FARMESH_ABI

MeshError sdk::invalid_request(std::string message) {
  return mesh_error({Errc::invalid_argument, std::move(message)});
}

}  // namespace farmesh
