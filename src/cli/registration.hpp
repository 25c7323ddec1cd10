// A node's entry in the registry: made once, kept alive by heartbeats, taken back at the end.
//
// Takes what is known of the node and its figures, gives them to the registry's HTTP
// (docs/http-api.md), signed by the node's key. Nothing depends on it: failures are logged, tried
// again, and never end anything. One thread of its own.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

#include <farmesh/peer.hpp>
#include <farmesh/result.hpp>

#include "cli/earnings.hpp"
#include "evm/wallet_statement.hpp"
#include "http/client.hpp"
#include "node/hardware.hpp"

namespace farmesh::cli {

/// What is registered.
struct NodeFacts {
  std::string node_id;     // 64 hexadecimal digits
  std::string public_key;  // 64 as well
  std::string model_id;
  Span layers;  // empty: none, such as of a head alone
  std::uint32_t num_layers = 0;
  std::string numerics_class;  // its precision is its first part
  std::string public_addr;
  std::string location;
  node::Hardware hardware;
  std::optional<evm::SignedStatement> wallet;
  /// The node key's signature, as Peer::sign() gives it.
  std::function<Result<std::string>(std::string_view domain, std::string_view message)> sign;
};

struct NodeFigures {
  std::uint32_t sessions = 0;
  std::uint64_t rows = 0;  // ever
  std::uint32_t layer_us = 0;
};

struct RegistrationOptions {
  std::string url;  // of the registry, "http://HOST:PORT"; a path in it is for a proxy to strip
  std::chrono::milliseconds heartbeat{30'000};
  std::chrono::milliseconds first_retry{2'000};  // doubles up to `heartbeat`
  /// What the node's wallet has earned, once registered and whenever that has changed; on the
  /// registration's thread. Empty: nobody wants to know.
  std::function<void(const Earnings&)> on_earnings{};
  std::chrono::milliseconds earnings_every{300'000};  // looked at
};

class Registration {
 public:
  /// Begins at once. `figures` is called on its thread, until it is destroyed.
  Registration(RegistrationOptions options, NodeFacts facts, std::function<NodeFigures()> figures);
  /// Ends a call under way, and tells the registry that the node serves no more.
  ~Registration();

 private:
  void run();
  /// False: register again.
  bool beat(bool healthy);
  bool enter();
  /// Asks what the wallet has earned, when it is time.
  void look_at_earnings();
  Result<http::ClientReply> post(const std::string& path, const std::string& body);
  void complain(const std::string& what);

  const RegistrationOptions options_;
  const NodeFacts facts_;
  const std::function<NodeFigures()> figures_;
  http::Client client_;
  http::Client farewell_;             // has little time
  http::Client* calling_ = &client_;  // of the two
  http::Cancellation cancellation_;   // of calls but the last
  std::int64_t last_signed_ms_ = 0;
  std::uint64_t last_rows_ = 0;
  std::chrono::steady_clock::time_point last_beat_;
  std::chrono::steady_clock::time_point next_earnings_{};
  std::string told_earnings_;
  std::string last_complaint_;  // told once, until something else is wrong
  bool reached_ = false;        // by the last call

  std::mutex mutex_;
  std::condition_variable changed_;
  bool ending_ = false;
  std::thread thread_;  // last: it uses the above
};

}  // namespace farmesh::cli
