#include "http/proxy.hpp"

#include <cstdlib>
#include <string>

#include "http/headers.hpp"
#include "http/ip_address.hpp"

namespace farmesh::http {
namespace {

std::string_view variable(const char* lower, const char* upper) {
  for (const char* name : {lower, upper}) {
    const char* value = std::getenv(name);
    if (value != nullptr && *value != '\0') return value;
  }
  return {};
}

}  // namespace

Result<std::optional<Url>> proxy_for(const Url& url) {
  const std::string_view setting =
      url.secure() ? variable("https_proxy", "HTTPS_PROXY") : variable("http_proxy", "HTTP_PROXY");
  if (setting.empty() || is_exempt(variable("no_proxy", "NO_PROXY"), url.host)) {
    return std::optional<Url>();
  }
  const bool bare = setting.find("://") == std::string_view::npos;
  auto proxy = parse_url(bare ? "http://" + std::string(setting) : std::string(setting));
  if (!proxy || proxy->secure()) {
    return Error{Errc::config_invalid, "the environment's proxy is no http:// URL"};
  }
  return std::optional<Url>(std::move(*proxy));
}

bool is_exempt(std::string_view list, std::string_view host) {
  bool exempt = false;
  for_each_element(list, [&](std::string_view element) {
    if (element == "*") exempt = true;
    const auto address = IpAddress::parse(host);
    if (address) {
      const auto set = IpSet::parse({std::string(element)});
      exempt = exempt || (set && set->contains(*address));
      return;
    }
    while (element.starts_with('.')) element.remove_prefix(1);
    if (element.empty() || host.size() < element.size()) return;
    const std::size_t before = host.size() - element.size();
    exempt = exempt || (equal_ignoring_case(host.substr(before), element) &&
                        (before == 0 || host[before - 1] == '.'));
  });
  return exempt;
}

}  // namespace farmesh::http
