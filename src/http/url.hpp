// URLs of http and https, percent-coding and query strings, read strictly (RFC 3986).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <farmesh/result.hpp>

namespace farmesh::http {

struct Url {
  std::string scheme;     // "http" or "https"
  std::string user_info;  // "user:password", percent-decoded; empty when absent
  std::string host;       // lower case; an IPv6 address without its brackets
  std::uint16_t port = 0;
  std::string path;   // as written, begins with '/'
  std::string query;  // as written, without '?'

  bool secure() const noexcept { return scheme == "https"; }
  /// "host:port", with brackets around IPv6; the scheme's own port is left out.
  std::string authority() const;
  /// Path and query, as a request line has them.
  std::string target() const;
  /// Without user and password.
  std::string to_string() const;
};

/// Fails with invalid_argument: another scheme, spaces, control characters, a bad host, port or
/// escape, more than 8 KB. A fragment is dropped.
Result<Url> parse_url(std::string_view text);

/// What a Location header means when it came in answer to `base`.
Result<Url> resolve(const Url& base, std::string_view reference);

/// Nothing when an escape is damaged, or when the outcome is no UTF-8 or holds a control character
/// other than tab and line feed.
std::optional<std::string> percent_decode(std::string_view text, bool plus_is_space = false);

/// Escapes everything but letters, digits and "-._~".
std::string percent_encode(std::string_view text);

/// The parameters of a query, decoded, in order.
class Query {
 public:
  using Parameter = std::pair<std::string, std::string>;

  /// The first of that name, or nothing.
  std::optional<std::string_view> get(std::string_view name) const noexcept;

  std::vector<Parameter> parameters;
};

/// Reads "a=1&b=two+words". Nothing when percent_decode refuses a part, or above 256 parameters.
std::optional<Query> parse_query(std::string_view text);

/// Visible ASCII with sound escapes: what may stand in a path or query on the way.
bool is_sendable(std::string_view text) noexcept;

bool is_utf8(std::string_view text) noexcept;

}  // namespace farmesh::http
