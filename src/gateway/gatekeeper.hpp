// Who asks, and how much they may: API keys, wallet logins, scopes, rate limits.
//
// Takes requests, gives Callers. Keys and nonces live in the ledger's database, so that several
// coordinators share them; rate limits are shared where RateLimits are. Thread-safe.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "evm/contract_wallet.hpp"
#include "gateway/caller.hpp"
#include "gateway/problem.hpp"
#include "gateway/rate_limiter.hpp"
#include "http/headers.hpp"
#include "http/request.hpp"
#include "ledger/access.hpp"

namespace farmesh::gateway {

struct GatekeeperOptions {
  bool open_to_public = false;  // requests without a key are served, on the public account
  /// An hour's requests of an address without a key, and of a key by its tier; 0: no limit.
  double public_requests = 100;
  double standard_requests = 1'000;
  double premium_requests = 10'000;
  double enterprise_requests = 0;
  double tokens_per_request = 1'000;  // an hour's tokens: this many for each of its requests
  double failures_per_hour = 100;     // wrong keys from one address
  std::chrono::seconds login_lifetime{3'600};
  evm::ContractWallets contract_wallets;  // of the escrow's chain; empty: only keys sign
};

/// A caller whose request was counted.
struct Admitted {
  Caller caller;
  http::Headers headers;  // RateLimit-*, for the answer
  std::string bucket;     // its tokens are charged to
  RateLimit tokens;
};

struct LoginChallenge {
  std::string nonce;
  std::string message;     // what the wallet signs
  std::string expires_at;  // ISO 8601, UTC
};

class Gatekeeper {
 public:
  /// Without a store everybody is the public; without `limits` they are this process's own.
  Gatekeeper(std::shared_ptr<ledger::Store> store, GatekeeperOptions options,
             std::shared_ptr<RateLimits> limits = nullptr);

  /// Fails with 401 (no key, or a wrong one) and 429 (too many wrong ones).
  Checked<Caller> authenticate(const http::Request& request);
  /// The same, for a request that generates: fails also with 403 (no scope) and 429 (too many).
  Checked<Admitted> admit(const http::Request& request);
  void charge_tokens(const Admitted& admitted, std::uint64_t tokens);
  /// A key was revoked: it is refused from now on here, elsewhere within seconds.
  void forget_keys();

  /// Fails with 400 (no wallet).
  Checked<LoginChallenge> challenge(const std::string& wallet);
  /// A bearer token for the wallet that signed `message`. Fails with 400, 401, and 503 where the
  /// wallet is a contract and its chain cannot be asked.
  Checked<std::string> log_in(const std::string& wallet, const std::string& message,
                              const std::string& signature);

 private:
  Checked<Caller> of_key(const std::string& key, const http::Request& request);

  struct Known {
    Caller caller;
    std::chrono::steady_clock::time_point until;
  };

  const std::shared_ptr<ledger::Store> store_;
  const GatekeeperOptions options_;
  const std::shared_ptr<RateLimits> limits_;
  std::mutex mutex_;
  std::map<std::string, Known> known_;  // by the hash of a key that was right a moment ago
};

}  // namespace farmesh::gateway
