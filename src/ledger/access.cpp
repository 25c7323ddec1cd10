#include "ledger/access.hpp"

#include <array>

#include "base/digest.hpp"
#include "ledger/checks.hpp"

namespace farmesh::ledger {
namespace {

constexpr std::size_t kMaxAccount = 42;
constexpr std::size_t kMaxText = 255;
constexpr std::string_view kPrefix = "far_";
constexpr std::size_t kKeyIdDigits = 16;
constexpr std::size_t kSecretDigits = 64;

template <std::size_t Bytes>
std::string random_hex() {
  std::array<std::uint8_t, Bytes> bytes;
  random_bytes(bytes);
  return to_hex(bytes);
}

std::int64_t to_bits(Scopes scopes) {
  return (scopes.infer ? 1 : 0) | (scopes.provider ? 2 : 0) | (scopes.admin ? 4 : 0);
}
Scopes from_bits(std::int64_t bits) { return {(bits & 1) != 0, (bits & 2) != 0, (bits & 4) != 0}; }

Sha256Digest hash_of(std::string_view secret, std::span<const std::uint8_t> salt) {
  return hmac_sha256(std::as_bytes(salt), as_view(secret));
}

/// Takes the same time wherever they differ.
bool equal(std::span<const std::uint8_t> a, std::span<const std::uint8_t> b) {
  if (a.size() != b.size()) return false;
  unsigned difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i) difference |= a[i] ^ unsigned { b[i] };
  return difference == 0;
}

constexpr std::string_view kKeyColumns =
    "SELECT key_id, account, name, scopes, tier, created_at, expires_at, revoked_at, salt, hash "
    "FROM far_api_keys ";
using KeyRow = std::tuple<std::string, std::string, std::string, std::int64_t, std::string,
                          LedgerTime, std::optional<LedgerTime>, std::optional<LedgerTime>,
                          std::vector<std::uint8_t>, std::vector<std::uint8_t>>;

Result<std::vector<KeyRow>> load_keys(Database& db, std::string_view where, Values values) {
  return db.query<std::string, std::string, std::string, std::int64_t, std::string, LedgerTime,
                  std::optional<LedgerTime>, std::optional<LedgerTime>, std::vector<std::uint8_t>,
                  std::vector<std::uint8_t>>(std::string(kKeyColumns) + std::string(where), values);
}

ApiKey key_of(const KeyRow& row) {
  ApiKey key;
  std::int64_t scopes = 0;
  std::tie(key.key_id, key.account, key.name, scopes, key.tier, key.created_at, key.expires_at,
           key.revoked_at, std::ignore, std::ignore) = row;
  key.scopes = from_bits(scopes);
  return key;
}

}  // namespace

Result<NewApiKey> ApiKeys::create(ApiKey wanted) {
  NewApiKey made{std::move(wanted), {}};
  ApiKey& key = made.key;
  key.key_id = random_hex<kKeyIdDigits / 2>();
  key.revoked_at.reset();
  if (key.account.empty()) key.account = "key:" + key.key_id;
  Result<void> good = check_text(key.account, kMaxAccount, "account");
  if (good) good = check_text(key.name, kMaxText, "name", true);
  if (!good) return good.error();
  if (key.tier != "standard" && key.tier != "premium" && key.tier != "enterprise") {
    return Error{Errc::invalid_argument, "tier is standard, premium or enterprise"};
  }
  made.secret = std::string(kPrefix) + key.key_id + "_" + random_hex<kSecretDigits / 2>();
  std::array<std::uint8_t, 16> salt;
  random_bytes(salt);
  const Sha256Digest hash = hash_of(made.secret, salt);
  return store_->transact([&](Database& db) -> Result<NewApiKey> {
    key.created_at = store_->now();
    const auto written = db.execute(
        "INSERT INTO far_api_keys (key_id, account, name, scopes, tier, salt, hash, created_at, "
        "expires_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (key_id) DO NOTHING",
        {key.key_id, key.account, key.name, to_bits(key.scopes), key.tier, Blob(salt), Blob(hash),
         key.created_at, or_null(key.expires_at)});
    if (!written) return written.error();
    return made;
  });
}

Result<ApiKey> ApiKeys::authenticate(const std::string& secret) {
  const Error refused{Errc::not_found, "no such key"};
  if (secret.size() != kPrefix.size() + kKeyIdDigits + 1 + kSecretDigits ||
      !secret.starts_with(kPrefix)) {
    return refused;
  }
  const std::string key_id = secret.substr(kPrefix.size(), kKeyIdDigits);
  if (!check_text(key_id, kKeyIdDigits, "key_id")) return refused;
  return store_->transact([&](Database& db) -> Result<ApiKey> {
    const auto rows = load_keys(db, "WHERE key_id = ?1", {key_id});
    if (!rows) return rows.error();
    if (rows->empty()) return refused;
    const KeyRow& row = rows->front();
    const Sha256Digest hash = hash_of(secret, std::get<8>(row));
    const ApiKey key = key_of(row);
    const bool valid = equal(hash, std::get<9>(row)) && !key.revoked_at &&
                       (!key.expires_at || store_->now() < *key.expires_at);
    return valid ? Result<ApiKey>(key) : refused;
  });
}

Result<std::vector<ApiKey>> ApiKeys::list(const std::string& account) {
  return store_->transact([&](Database& db) -> Result<std::vector<ApiKey>> {
    const auto rows = load_keys(db, "WHERE account = ?1 OR ?2 ORDER BY created_at DESC, key_id",
                                {account, account.empty()});
    if (!rows) return rows.error();
    std::vector<ApiKey> keys;
    for (const KeyRow& row : *rows) keys.push_back(key_of(row));
    return keys;
  });
}

Result<void> ApiKeys::revoke(const std::string& key_id) {
  const Result<void> good = check_text(key_id, kKeyIdDigits, "key_id");
  if (!good) return good;
  return store_->transact([&](Database& db) -> Result<void> {
    const auto revoked = db.execute(
        "UPDATE far_api_keys SET revoked_at = coalesce(revoked_at, ?2) WHERE key_id = ?1",
        {key_id, store_->now()});
    if (!revoked) return revoked.error();
    return *revoked == 1 ? Result<void>() : Error{Errc::not_found, "no such key"};
  });
}

Result<LoginNonce> LoginNonces::issue(const std::string& wallet, std::chrono::seconds lifetime) {
  const Result<void> good = check_text(wallet, kMaxAccount, "wallet");
  if (!good) return good.error();
  const LoginNonce nonce{random_hex<16>(), store_->now() + lifetime};
  return store_->transact([&](Database& db) -> Result<LoginNonce> {
    const auto written = db.execute(
        "INSERT INTO far_login_nonces (nonce, wallet_address, expires_at) VALUES (?1, ?2, ?3) "
        "ON CONFLICT (nonce) DO NOTHING",
        {nonce.nonce, wallet, nonce.expires_at});
    if (!written) return written.error();
    return nonce;
  });
}

Result<void> LoginNonces::consume(const std::string& nonce, const std::string& wallet) {
  Result<void> good = check_text(nonce, 64, "nonce");
  if (good) good = check_text(wallet, kMaxAccount, "wallet");
  if (!good) return good;
  return store_->transact([&](Database& db) -> Result<void> {
    const auto used = db.execute(
        "UPDATE far_login_nonces SET used_at = ?3 WHERE nonce = ?1 AND wallet_address = ?2 AND "
        "used_at IS NULL AND expires_at > ?4",
        {nonce, wallet, store_->now(), store_->now()});
    if (!used) return used.error();
    return *used == 1 ? Result<void>() : Error{Errc::not_found, "no fresh nonce"};
  });
}

Result<IdempotencyKeys::Seen> IdempotencyKeys::begin(const std::string& account,
                                                     const std::string& key,
                                                     const std::string& body_digest) {
  Result<void> good = check_text(account, kMaxAccount, "account");
  if (good) good = check_text(key, kMaxText, "idempotency key");
  if (good) good = check_text(body_digest, 64, "body_digest");
  if (!good) return good.error();
  return store_->transact([&](Database& db) -> Result<Seen> {
    const auto written = db.execute(
        "INSERT INTO far_idempotency_keys (account, idempotency_key, body_digest, created_at) "
        "VALUES (?1, ?2, ?3, ?4) ON CONFLICT (account, idempotency_key) DO NOTHING",
        {account, key, body_digest, store_->now()});
    if (!written) return written.error();
    if (*written == 1) return Seen{};
    const auto row = db.query_one<std::string, std::optional<std::string>>(
        "SELECT body_digest, response FROM far_idempotency_keys WHERE account = ?1 AND "
        "idempotency_key = ?2",
        {account, key});
    if (!row) return row.error();
    if (!*row || std::get<0>(**row) != body_digest) {
      return Error{Errc::ledger_conflict, "this key came before with another body"};
    }
    const auto& response = std::get<1>(**row);
    return response ? Seen{State::answered, *response} : Seen{State::running, {}};
  });
}

Result<void> IdempotencyKeys::complete(const std::string& account, const std::string& key,
                                       const std::string& response) {
  const Result<void> good = check_prose(response, kMaxResponse, "response");
  if (!good) return good;
  return store_->transact([&](Database& db) -> Result<void> {
    const auto kept = db.execute(
        "UPDATE far_idempotency_keys SET response = coalesce(response, ?3) WHERE account = ?1 "
        "AND idempotency_key = ?2",
        {account, key, response});
    if (!kept) return kept.error();
    return *kept == 1 ? Result<void>() : Error{Errc::not_found, "no such idempotency key"};
  });
}

Result<void> IdempotencyKeys::abandon(const std::string& account, const std::string& key) {
  return store_->transact([&](Database& db) -> Result<void> {
    const auto gone = db.execute(
        "DELETE FROM far_idempotency_keys WHERE account = ?1 AND idempotency_key = ?2 AND "
        "response IS NULL",
        {account, key});
    return gone ? Result<void>() : gone.error();
  });
}

Result<void> IdempotencyKeys::expire(LedgerTime before) {
  return store_->transact([&](Database& db) -> Result<void> {
    auto gone = db.execute("DELETE FROM far_idempotency_keys WHERE created_at < ?1", {before});
    if (gone) gone = db.execute("DELETE FROM far_login_nonces WHERE expires_at < ?1", {before});
    return gone ? Result<void>() : gone.error();
  });
}

}  // namespace farmesh::ledger
