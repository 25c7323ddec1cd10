#include "gateway/gatekeeper.hpp"

#include <span>
#include <utility>

#include <fmt/chrono.h>
#include <fmt/format.h>

#include "base/digest.hpp"
#include "evm/address.hpp"
#include "evm/signature.hpp"

namespace farmesh::gateway {
namespace {

// A key that was revoked elsewhere works so much longer at most.
constexpr std::chrono::seconds kKeyMemory{15};
constexpr std::size_t kMaxKnownKeys = 10'000;
constexpr std::chrono::hours kHour{1};
constexpr std::string_view kGreeting = "Far Labs Login: ";
constexpr std::string_view kNonceLine = "\nNonce: ";

Problem unauthorised(std::string code, std::string message) {
  return {401, std::move(code), std::move(message), {}};
}

std::string hash_of(const std::string& text) {
  return to_hex(sha256(std::as_bytes(std::span(text))));
}

std::string bearer_of(const http::Request& request) {
  if (const auto value = request.header("Authorization")) {
    constexpr std::string_view kScheme = "bearer ";
    if (value->size() > kScheme.size() &&
        http::equal_ignoring_case(value->substr(0, kScheme.size()), kScheme)) {
      return std::string(http::trim(value->substr(kScheme.size())));
    }
    return std::string(*value);  // another scheme is a wrong key, not none
  }
  return std::string(request.header("X-API-Key").value_or(""));
}

Caller caller_of(const ledger::ApiKey& key) {
  Caller caller;
  caller.account = key.account;
  if (evm::parse_address(key.account)) caller.wallet = key.account;
  caller.tier = key.tier;
  caller.may_infer = key.scopes.infer;
  caller.may_provide = key.scopes.provider;
  caller.is_admin = key.scopes.admin;
  return caller;
}

}  // namespace

Gatekeeper::Gatekeeper(std::shared_ptr<ledger::Store> store, GatekeeperOptions options,
                       std::shared_ptr<RateLimits> limits)
    : store_(std::move(store)),
      options_(std::move(options)),
      limits_(limits ? std::move(limits) : std::make_shared<RateLimiter>()) {}

Checked<Caller> Gatekeeper::of_key(const std::string& key, const http::Request& request) {
  const std::string hash = hash_of(key);
  const auto now = std::chrono::steady_clock::now();
  {
    const std::lock_guard lock(mutex_);
    const auto at = known_.find(hash);
    if (at != known_.end() && at->second.until > now) return at->second.caller;
  }
  const RateLimit failures{options_.failures_per_hour, kHour};
  const std::string bucket = "failures:" + request.remote_address;
  const RateVerdict verdict = limits_->take(bucket, failures);
  if (!verdict.allowed) {
    return Problem{429,
                   "rate_limit_exceeded",
                   "Too many wrong keys from this address.",
                   {},
                   int(verdict.retry_after.count())};
  }
  const Result<ledger::ApiKey> found = ledger::ApiKeys(store_).authenticate(key);
  if (!found && found.error().code != Errc::not_found &&
      found.error().code != Errc::invalid_argument) {
    return problem_of(found.error());
  }
  if (!found) return unauthorised("invalid_api_key", "Incorrect API key provided.");
  limits_->charge(bucket, failures, -1);
  const std::lock_guard lock(mutex_);
  if (known_.size() >= kMaxKnownKeys) known_.clear();
  known_[hash] = {caller_of(*found), now + kKeyMemory};
  return caller_of(*found);
}

Checked<Caller> Gatekeeper::authenticate(const http::Request& request) {
  const std::string key = bearer_of(request);
  if (!store_) return Caller{};
  // OpenAI's clients always send a key. Where the public is welcome, one that cannot be ours is
  // none.
  const bool has_key = !key.empty() && (key.starts_with("far_") || !options_.open_to_public);
  if (has_key) return of_key(key, request);
  if (options_.open_to_public) return Caller{};
  return unauthorised("missing_api_key",
                      "This server wants an API key: Authorization: Bearer YOUR_KEY.");
}

Checked<Admitted> Gatekeeper::admit(const http::Request& request) {
  Checked<Caller> caller = authenticate(request);
  if (!caller) return caller.problem();
  if (!caller->may_infer) {
    return Problem{403, "scope_missing", "This key may not generate.", {}};
  }
  Admitted admitted;
  admitted.caller = *std::move(caller);
  const std::string& account = admitted.caller.account;
  const bool is_public = account == kPublicAccount;
  const double requests = is_public                              ? options_.public_requests
                          : admitted.caller.tier == "enterprise" ? options_.enterprise_requests
                          : admitted.caller.tier == "premium"    ? options_.premium_requests
                                                                 : options_.standard_requests;
  const std::string who = is_public ? "address:" + request.remote_address : "account:" + account;
  const RateVerdict verdict = limits_->take(who, {requests, kHour});
  if (verdict.limit > 0) {
    admitted.headers.add("RateLimit-Limit", std::to_string(verdict.limit));
    admitted.headers.add("RateLimit-Remaining", std::to_string(verdict.remaining));
    admitted.headers.add("RateLimit-Reset", std::to_string(verdict.reset.count()));
  }
  if (!verdict.allowed) {
    return Problem{429,
                   "rate_limit_exceeded",
                   fmt::format("The limit of {} requests an hour is reached.", verdict.limit),
                   {},
                   int(verdict.retry_after.count())};
  }
  admitted.bucket = "tokens:" + who;
  admitted.tokens = {requests * options_.tokens_per_request, kHour};
  const RateVerdict tokens = limits_->take(admitted.bucket, admitted.tokens);
  if (!tokens.allowed) {
    return Problem{429,
                   "rate_limit_exceeded",
                   fmt::format("The limit of {} tokens an hour is reached.", tokens.limit),
                   {},
                   int(tokens.retry_after.count())};
  }
  return admitted;
}

void Gatekeeper::charge_tokens(const Admitted& admitted, std::uint64_t tokens) {
  limits_->charge(admitted.bucket, admitted.tokens, double(tokens));
}

void Gatekeeper::forget_keys() {
  const std::lock_guard lock(mutex_);
  known_.clear();
}

Checked<LoginChallenge> Gatekeeper::challenge(const std::string& wallet) {
  const Result<evm::Address> address = evm::parse_address(wallet);
  if (!address) {
    return invalid_request("wallet_invalid", "Not a wallet address with a right checksum.",
                           "wallet");
  }
  if (!store_) return Problem{503, "ledger_unavailable", "This server keeps no accounts.", {}};
  const auto issued = ledger::LoginNonces(store_).issue(evm::to_lower_case(*address));
  if (!issued) return problem_of(issued.error());
  LoginChallenge challenge;
  challenge.nonce = issued->nonce;
  challenge.expires_at = fmt::format("{:%Y-%m-%dT%H:%M:%SZ}",
                                     std::chrono::floor<std::chrono::seconds>(issued->expires_at));
  challenge.message = fmt::format("{}{}{}{}\nExpires: {}", kGreeting, evm::to_string(*address),
                                  kNonceLine, challenge.nonce, challenge.expires_at);
  return challenge;
}

Checked<std::string> Gatekeeper::log_in(const std::string& wallet, const std::string& message,
                                        const std::string& signature) {
  const Result<evm::Address> address = evm::parse_address(wallet);
  if (!address) {
    return invalid_request("wallet_invalid", "Not a wallet address with a right checksum.",
                           "wallet_address");
  }
  if (!store_) return Problem{503, "ledger_unavailable", "This server keeps no accounts.", {}};
  const auto refused = [] {
    return unauthorised("login_refused",
                        "The message needs a fresh nonce, signed by this wallet: "
                        "GET /api/auth/nonce?wallet=ADDRESS gives one.");
  };
  const std::size_t at = message.find(kNonceLine);
  if (!message.starts_with(kGreeting) || at == std::string::npos) return refused();
  const Result<evm::Address> named =
      evm::parse_address(message.substr(kGreeting.size(), at - kGreeting.size()));
  const std::size_t begin = at + kNonceLine.size();
  const std::string nonce = message.substr(begin, message.find('\n', begin) - begin);
  const Result<evm::Bytes> given = evm::parse_hex0x(signature, evm::kMaxSignatureBytes);
  if (!named || *named != *address || !given) return refused();
  const Result<bool> is_signed =
      evm::has_signed(*address, evm::personal_digest(message), *given, options_.contract_wallets);
  if (!is_signed) {
    return Problem{503, std::string(farmesh::name(is_signed.error().code)),
                   "The chain that this wallet is a contract of cannot be asked now.", "signature",
                   5};
  }
  if (!*is_signed) return refused();
  const std::string account = evm::to_lower_case(*address);
  const Result<void> fresh = ledger::LoginNonces(store_).consume(nonce, account);
  if (!fresh && fresh.error().code == Errc::ledger_unavailable) return problem_of(fresh.error());
  if (!fresh) return refused();

  ledger::ApiKey wanted;
  wanted.account = account;
  wanted.name = "login";
  wanted.scopes = {.infer = true, .provider = true};
  wanted.expires_at = store_->now() + options_.login_lifetime;
  const Result<ledger::NewApiKey> created = ledger::ApiKeys(store_).create(wanted);
  if (!created) return problem_of(created.error());
  return created->secret;
}

}  // namespace farmesh::gateway
