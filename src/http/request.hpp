// A request as handlers see it: whole, checked and bounded.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "http/headers.hpp"
#include "http/url.hpp"

namespace farmesh::http {

struct Request {
  std::string method;  // "GET"; HEAD is seen as such by the handler of GET
  std::string target;  // as on the request line
  std::string path;    // the target's path, still percent-coded
  std::string route;   // the pattern that matched, such as "/v1/models/{id}": a label for metrics
  Query query;
  Headers headers;
  std::string body;
  /// The client's address without a port: the connection's, or where that is a trusted proxy's,
  /// the last address of X-Forwarded-For that is not.
  std::string remote_address;
  /// X-Request-Id of the client when it is sound (1 to 128 of [A-Za-z0-9._-]), else a new one.
  /// Every reply carries it.
  std::string id;
  std::vector<std::pair<std::string, std::string>> parameters;  // of the pattern, decoded

  /// The value of `{name}` in the route's pattern; empty when there is none.
  std::string_view parameter(std::string_view name) const noexcept {
    for (const auto& [key, value] : parameters) {
      if (key == name) return value;
    }
    return {};
  }
  std::optional<std::string_view> header(std::string_view name) const noexcept {
    return headers.get(name);
  }
};

}  // namespace farmesh::http
