#include "gateway/node_signature.hpp"

#include <charconv>
#include <span>
#include <utility>

#include <fmt/format.h>

#include "base/digest.hpp"
#include "identity/node_key.hpp"

namespace farmesh::gateway {
namespace {

constexpr const char* kKeyHeader = "X-Far-Node-Key";
constexpr const char* kTimeHeader = "X-Far-Signed-At";
constexpr const char* kSignatureHeader = "X-Far-Signature";

Problem refused(std::string code, std::string message) {
  return {401, std::move(code), std::move(message), {}};
}

}  // namespace

std::string signed_text(std::string_view method, std::string_view path, std::int64_t signed_ms,
                        std::string_view body) {
  return fmt::format("{} {}\n{}\n{}", method, path, signed_ms,
                     to_hex(sha256(std::as_bytes(std::span(body)))));
}

http::Headers signature_headers(std::string_view key, std::int64_t signed_ms,
                                std::string_view signature) {
  return {{kKeyHeader, std::string(key)},
          {kTimeHeader, std::to_string(signed_ms)},
          {kSignatureHeader, std::string(signature)}};
}

Checked<SignedRequest> check_signature(const http::Request& request, std::int64_t now_ms) {
  const auto key_text = request.header(kKeyHeader);
  const auto time_text = request.header(kTimeHeader);
  const auto signature_text = request.header(kSignatureHeader);
  if (!key_text || !time_text || !signature_text) {
    return refused("signature_missing",
                   fmt::format("This needs the node's signature: {}, {} and {}.", kKeyHeader,
                               kTimeHeader, kSignatureHeader));
  }
  identity::PublicKey key{};
  identity::Signature signature{};
  SignedRequest checked;
  const char* const end = time_text->data() + time_text->size();
  const auto [stop, failure] = std::from_chars(time_text->data(), end, checked.signed_ms);
  const bool well_formed = from_hex(*key_text, key) && from_hex(*signature_text, signature) &&
                           failure == std::errc() && stop == end && checked.signed_ms > 0;
  if (!well_formed) {
    return refused("signature_invalid", "A signature header is not what it should be.");
  }
  // Before the signature, which costs more.
  const std::int64_t ahead = checked.signed_ms - now_ms;
  if (ahead > kRequestToleranceMs || ahead < -kRequestToleranceMs) {
    return refused(
        "clock_off",
        fmt::format("Signed {} s {} of this server's clock; 60 s are tolerated.",
                    (ahead < 0 ? -ahead : ahead) / 1'000, ahead < 0 ? "behind" : "ahead"));
  }
  const std::string text =
      signed_text(request.method, request.path, checked.signed_ms, request.body);
  if (!identity::verify(key, kRequestDomain, as_view(text), signature)) {
    return refused("signature_invalid", "The node's key did not sign this request.");
  }
  checked.node = identity::node_id_of(key);
  return checked;
}

}  // namespace farmesh::gateway
