// The coordinator: HTTP requests in, turns of the hosted models and rows of the ledger out.
//
// Owns what the routes share and the thread that saves live sessions once a second. The router it
// gives refers to it: destroy the server first. Thread-safe after it is made.
#pragma once

#include <memory>
#include <string_view>

#include <farmesh/ledger.hpp>

#include "gateway/model_host.hpp"
#include "gateway/services.hpp"
#include "http/responder.hpp"
#include "http/router.hpp"
#include "http/server.hpp"

namespace farmesh::gateway {

class Coordinator {
 public:
  /// `models` outlives it; without a store nothing is metered and everybody is the public.
  /// Sessions that an earlier process of the same coordinator_id left are closed with what they
  /// had served.
  Coordinator(CoordinatorOptions options, ModelHost& models, std::shared_ptr<ledger::Store> store);
  ~Coordinator();

  http::Router router();
  /// A refusal in the shape of the API that `path` belongs to.
  static http::Reply render(const http::Problem& problem, std::string_view path);
  /// A line of log and a count for each answer; never a body.
  void finished(const http::Finished& finished);

  Services& services() noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace farmesh::gateway
