// Which proxy the environment names for a URL: HTTPS_PROXY, HTTP_PROXY, NO_PROXY, in either case.
#pragma once

#include <optional>
#include <string_view>

#include <farmesh/result.hpp>

#include "http/url.hpp"

namespace farmesh::http {

/// Nothing when the URL is to be asked directly. Fails with config_invalid when the variable holds
/// no http:// URL and no HOST:PORT.
Result<std::optional<Url>> proxy_for(const Url& url);

/// Whether `list` (NO_PROXY) names the host: "*", a domain and all below it, an address or prefix.
bool is_exempt(std::string_view list, std::string_view host);

}  // namespace farmesh::http
