// Requests of nodes to the registry, signed by the node's key: what is signed, and whether it
// holds.
//
//   X-Far-Node-Key    the node's Ed25519 public key, 64 hexadecimal digits
//   X-Far-Signed-At   Unix time in milliseconds, by the node's clock
//   X-Far-Signature   128 hexadecimal digits
//
// Signed, under the domain kRequestDomain, is the text "METHOD PATH\nSIGNED-AT\nSHA-256", the path
// as on the request line without its query, the hash of the body's bytes in lower-case hexadecimal.
// Pure functions, safe from any thread. docs/http-api.md says the same to others.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/node_id.hpp"
#include "gateway/problem.hpp"
#include "http/headers.hpp"
#include "http/request.hpp"

namespace farmesh::gateway {

inline constexpr std::string_view kRequestDomain = "farmesh registry v1";
inline constexpr std::int64_t kRequestToleranceMs = 60'000;  // between two clocks

std::string signed_text(std::string_view method, std::string_view path, std::int64_t signed_ms,
                        std::string_view body);

/// `key` and `signature` in hexadecimal.
http::Headers signature_headers(std::string_view key, std::int64_t signed_ms,
                                std::string_view signature);

struct SignedRequest {
  NodeId node{};  // whose key it was
  std::int64_t signed_ms = 0;
};

/// Fails with 401: no signature, one that does not hold, or a clock that is off by more than
/// kRequestToleranceMs. Whether it came before is for the ledger to say.
Checked<SignedRequest> check_signature(const http::Request& request, std::int64_t now_ms);

}  // namespace farmesh::gateway
