#include "http/router.hpp"

#include <algorithm>
#include <span>

#include "base/assert.hpp"

namespace farmesh::http {
namespace {

using Parameters = std::vector<std::pair<std::string, std::string>>;

std::vector<std::string> split(std::string_view path) {
  std::vector<std::string> segments;
  while (path.starts_with('/')) {
    path.remove_prefix(1);
    const std::size_t end = std::min(path.find('/'), path.size());
    segments.emplace_back(path.substr(0, end));
    path.remove_prefix(end);
  }
  return segments;
}

bool is_parameter(std::string_view segment) { return segment.starts_with('{'); }
bool is_star(std::string_view segment) { return segment.ends_with("*}"); }

std::string name_of(std::string_view segment) {
  return std::string(segment.substr(1, segment.size() - (is_star(segment) ? 3 : 2)));
}

/// Sorts before what is less specific; equal patterns with other parameter names compare equal.
std::string specificity(const std::vector<std::string>& segments) {
  std::string key;
  for (const std::string& segment : segments) {
    key += !is_parameter(segment) ? "0" + segment : is_star(segment) ? "2" : "1";
    key += '\0';
  }
  return key + '3';  // what goes on after a parameter is more specific than what ends there
}

/// Whether the path's segments fit the pattern's; `values` gets the parameters, still encoded.
bool fit(std::span<const std::string> pattern, std::span<const std::string> path,
         Parameters& values) {
  if (pattern.empty()) return path.empty();
  if (path.size() < pattern.size()) return false;
  if (!is_parameter(pattern[0])) {
    return pattern[0] == path[0] && fit(pattern.subspan(1), path.subspan(1), values);
  }
  const std::size_t most = is_star(pattern[0]) ? path.size() - pattern.size() + 1 : 1;
  std::string value;
  for (std::size_t taken = 1; taken <= most; ++taken) {
    value += (taken > 1 ? "/" : "") + path[taken - 1];
    const std::size_t before = values.size();
    values.emplace_back(name_of(pattern[0]), value);
    if (!value.empty() && fit(pattern.subspan(1), path.subspan(taken), values)) return true;
    values.resize(before);
  }
  return false;
}

}  // namespace

void Router::add(std::string_view method, std::string_view pattern, Handler handler,
                 RouteOptions options) {
  FARMESH_ASSERT(pattern.starts_with('/') && handler && method != "HEAD" && method != "OPTIONS");
  Route route{std::string(method), std::string(pattern), std::move(handler), options,
              split(pattern)};
  int stars = 0;
  for (const std::string& segment : route.segments) {
    FARMESH_ASSERT(!is_parameter(segment) || (segment.ends_with('}') && !name_of(segment).empty()));
    stars += is_star(segment);
  }
  FARMESH_ASSERT(stars <= 1);  // so that matching never tries more than a path's segments
  const std::string key = specificity(route.segments);
  const auto place = std::ranges::lower_bound(
      routes_, key, {}, [](const Route& r) { return specificity(r.segments); });
  for (auto same = place; same != routes_.end() && specificity(same->segments) == key; ++same) {
    FARMESH_ASSERT(same->method != method);
  }
  routes_.insert(place, std::move(route));
}

Router::Match Router::match(std::string_view method, std::string_view path) const {
  const std::vector<std::string> segments = split(path);
  const std::string_view wanted = method == "HEAD" ? "GET" : method;
  Match match;
  for (const Route& route : routes_) {
    Parameters values;
    if (!fit(route.segments, segments, values)) continue;
    if (match.allowed.find(route.method) == std::string::npos) {
      match.allowed += route.method + (route.method == "GET" ? ", HEAD, " : ", ");
    }
    if (match.route != nullptr || route.method != wanted) continue;
    match.route = &route;
    match.parameters = std::move(values);
  }
  if (!match.allowed.empty()) match.allowed += "OPTIONS";
  for (auto& [name, value] : match.parameters) {
    auto decoded = percent_decode(value);
    match.undecodable = match.undecodable || !decoded;
    if (decoded) value = std::move(*decoded);
  }
  return match;
}

}  // namespace farmesh::http
