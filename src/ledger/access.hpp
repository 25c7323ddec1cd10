// Who may ask: API keys, logins by wallet, and answers kept for repeated requests.
//
// Of a key only a salted hash is stored; the key itself is shown once, when it is made. Keys are
// 256 random bits, so a fast hash is enough: there is nothing to guess. Thread-safe.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ledger/store.hpp"

namespace farmesh::ledger {

/// What a key allows; a key has any number of them.
struct Scopes {
  bool infer = false;     // generate, on the account's credit
  bool provider = false;  // the account's nodes and earnings
  bool admin = false;     // keys, credits, everything
  friend bool operator==(const Scopes&, const Scopes&) = default;
};

struct ApiKey {
  std::string key_id;   // public; names the key in lists and logs
  std::string account;  // whose credit it spends: a wallet, or another account's id
  std::string name;     // for people
  Scopes scopes;
  std::string tier = "standard";  // standard, premium or enterprise
  LedgerTime created_at{};
  std::optional<LedgerTime> expires_at;
  std::optional<LedgerTime> revoked_at;
};

struct NewApiKey {
  ApiKey key;
  std::string secret;  // "far_<key id>_<64 hexadecimal digits>": never to be seen again
};

class ApiKeys {
 public:
  explicit ApiKeys(std::shared_ptr<Store> store) : store_(std::move(store)) {}

  /// An account of its own, "key:<key id>", when `account` is empty. Fails with invalid_argument.
  Result<NewApiKey> create(ApiKey wanted);
  /// The key that `secret` is. Fails with not_found: unknown, revoked or expired, in equal time.
  Result<ApiKey> authenticate(const std::string& secret);
  /// Of one account, or of all when it is empty; newest first.
  Result<std::vector<ApiKey>> list(const std::string& account = {});
  /// Revoking twice keeps the first time. Fails with not_found.
  Result<void> revoke(const std::string& key_id);

 private:
  std::shared_ptr<Store> store_;
};

struct LoginNonce {
  std::string nonce;
  LedgerTime expires_at{};
};

class LoginNonces {
 public:
  explicit LoginNonces(std::shared_ptr<Store> store) : store_(std::move(store)) {}

  Result<LoginNonce> issue(const std::string& wallet,
                           std::chrono::seconds lifetime = std::chrono::seconds(300));
  /// Uses it up. Fails with not_found: never issued to this wallet, expired, or used before.
  Result<void> consume(const std::string& nonce, const std::string& wallet);

 private:
  std::shared_ptr<Store> store_;
};

class IdempotencyKeys {
 public:
  static constexpr std::size_t kMaxResponse = 64u << 10;

  explicit IdempotencyKeys(std::shared_ptr<Store> store) : store_(std::move(store)) {}

  enum class State : std::uint8_t { fresh, running, answered };
  struct Seen {
    State state = State::fresh;
    std::string response;  // when answered
  };
  /// Marks the key as running when it is fresh. Fails with invalid_argument, or ledger_conflict:
  /// the key came before with another body.
  Result<Seen> begin(const std::string& account, const std::string& key,
                     const std::string& body_digest);
  /// Keeps the answer; the first one stays. Fails with not_found.
  Result<void> complete(const std::string& account, const std::string& key,
                        const std::string& response);
  /// Forgets a key whose request failed without an answer worth keeping.
  Result<void> abandon(const std::string& account, const std::string& key);
  /// Forgets keys and login nonces of before `before`.
  Result<void> expire(LedgerTime before);

 private:
  std::shared_ptr<Store> store_;
};

}  // namespace farmesh::ledger
