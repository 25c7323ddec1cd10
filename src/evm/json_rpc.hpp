// JSON-RPC 2.0 over the endpoints of one chain: who is asked, in which order, and what an error
// means. Inside evm/ only: rpc.hpp has the typed face.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "evm/rpc.hpp"

namespace farmesh::evm {

using Json = nlohmann::json;

class JsonRpc {
 public:
  JsonRpc(const RpcOptions& options, HttpPost post);

  /// Reads a result where the caller wants it. A failure counts as the endpoint's: the next one is
  /// asked.
  using Reader = std::function<Result<void>(const Json&)>;

  Result<void> call(std::string_view method, const Json& parameters, const Reader& read);

 private:
  struct Endpoint {
    std::string url;
    std::string host;  // all that is ever shown of the URL
    bool chain_checked = false;
    TimePoint rests_until{};
  };

  std::vector<Endpoint*> order();
  Result<void> ask_checked(Endpoint& endpoint, std::string_view method, const Json& parameters,
                           const Reader& read);
  Result<void> ask(Endpoint& endpoint, std::string_view method, const Json& parameters,
                   const Reader& read);

  std::vector<Endpoint> endpoints_;
  std::uint64_t chain_id_;
  Duration rest_;
  std::function<TimePoint()> now_;
  HttpPost post_;
  std::uint64_t next_id_ = 1;
};

/// The host of a URL: without user, path and query, where keys stand.
std::string host_of(std::string_view url);

/// What a JSON-RPC error object means: one of our codes, with its words made printable and, for a
/// revert, its reason.
Error read_rpc_error(const Json& error);

}  // namespace farmesh::evm
