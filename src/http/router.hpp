// Takes a method and a path, gives the handler that answers.
//
// A pattern is a path with parameters: `/v1/models/{id}` takes one segment, in which %2F is an
// ordinary character of the value; `/v1/models/{id*}` takes one or more segments, so that a model's
// name may come with raw slashes or %2F. A star may be followed by more of the pattern:
// `/models/{id*}/nodes`. Literal segments win over parameters, those over stars.
//
// Filled before the server starts, read-only afterwards.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "http/request.hpp"
#include "http/responder.hpp"

namespace farmesh::http {

/// Runs on a worker thread and may block. What it throws becomes a 500.
using Handler = std::function<void(const Request&, Responder)>;

struct RouteOptions {
  std::size_t max_body_bytes = 64 * 1024;
  /// For handlers that hold their thread for as long as text is made, streamed or not: they run
  /// on threads of their own, at most ServerOptions::max_long_requests, and 503 beyond.
  bool long_running = false;
};

struct CorsOptions {
  std::vector<std::string> allowed_origins;  // "https://app.example", or "*" for any; none: no CORS
};

struct Route {
  std::string method;
  std::string pattern;
  Handler handler;
  RouteOptions options;
  std::vector<std::string> segments;
};

class Router {
 public:
  /// `method` in upper case. HEAD is answered by GET's handler, OPTIONS by the router. Patterns are
  /// the programmer's: a malformed or repeated one is an assertion.
  void add(std::string_view method, std::string_view pattern, Handler handler,
           RouteOptions options = {});
  void get(std::string_view pattern, Handler handler, RouteOptions options = {}) {
    add("GET", pattern, std::move(handler), options);
  }
  void post(std::string_view pattern, Handler handler, RouteOptions options = {}) {
    add("POST", pattern, std::move(handler), options);
  }

  struct Match {
    const Route* route = nullptr;  // null: 404, or 405 when `allowed` names methods
    std::vector<std::pair<std::string, std::string>> parameters;
    std::string allowed;       // "GET, HEAD, OPTIONS": the methods of this path, empty when unknown
    bool undecodable = false;  // the path matched, and a parameter is no percent-coded UTF-8
  };
  Match match(std::string_view method, std::string_view path) const;

 private:
  std::vector<Route> routes_;  // the most specific patterns first
};

}  // namespace farmesh::http
