// Grants and receipts: what a coordinator promises to pay for, and what a node says it did.
//
// Both are signed as exactly the bytes that travel, in fixed layouts with a version in front, so
// that whoever keeps the bytes can check the signature for ever. A grant travels in `open`, a
// receipt as the payload of a `receipt` frame. Signing is the caller's: identity::NodeKey signs
// `encode(grant)` under kGrantDomain and `encode(receipt)` under kReceiptDomain; a driver
// countersigns the same bytes under kCountersignDomain.
// Value types; safe from any thread. Little-endian throughout.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include <farmesh/money.hpp>
#include <farmesh/result.hpp>

#include "base/bytes.hpp"
#include "base/types.hpp"
#include "wire/messages.hpp"

namespace farmesh::wire {

inline constexpr std::string_view kGrantDomain = "farmesh grant v1";
inline constexpr std::string_view kReceiptDomain = "farmesh receipt v1";
inline constexpr std::string_view kCountersignDomain = "farmesh countersign v1";

/// A session of the ledger. Not the wire's SessionId: that one is a secret, this is written down.
using AccountId = std::array<std::uint8_t, 16>;  // a UUID
using KeyBytes = std::array<std::uint8_t, 32>;   // an Ed25519 public key
using SignatureBytes = std::array<std::uint8_t, 64>;

/// "Serve this session: I pay." Signed by the payer's coordinator.
struct Grant {
  AccountId account{};
  ModelHash model_hash;
  Far price_per_token;         // of all stages together
  Far price_per_prompt_token;  // that had to be computed
  std::uint32_t token_limit = 0;
  std::int64_t issued_ms = 0;  // since 1970, UTC
  std::int64_t expires_ms = 0;

  friend bool operator==(const Grant&, const Grant&) = default;
};

/// Tokens that passed a stage, by why they did. Only prefill and decode can earn.
struct TokenCounts {
  std::uint64_t prefill = 0;   // prompt tokens computed
  std::uint64_t cached = 0;    // prompt tokens found in cache
  std::uint64_t decode = 0;    // output tokens
  std::uint64_t replay = 0;    // computed again for another stage's sake
  std::uint64_t rejected = 0;  // drafts and hedges that were not used
  std::uint64_t standby = 0;   // kept ready beside another stage

  friend bool operator==(const TokenCounts&, const TokenCounts&) = default;
};

/// What a node did for a session with one run of layers, from the session's beginning: each
/// receipt replaces the one before, which has a smaller sequence. Signed by the node.
struct Receipt {
  AccountId account{};
  NodeId node_id{};
  Span span;          // empty: the head alone
  bool head = false;  // served embedding and logits too
  std::uint32_t sequence = 0;
  bool final = false;  // the session is closed on this node
  TokenCounts counts;
  std::int64_t made_ms = 0;  // since 1970, UTC

  friend bool operator==(const Receipt&, const Receipt&) = default;
};

inline constexpr std::size_t kGrantBytes = 1 + 16 + 32 + 8 + 8 + 4 + 8 + 8;
inline constexpr std::size_t kReceiptBytes = 1 + 16 + 32 + 4 + 4 + 1 + 4 + 6 * 8 + 8;
inline constexpr std::uint64_t kMaxCount = 1ull << 40;  // of tokens in a receipt

/// The bytes that are signed.
std::array<std::uint8_t, kGrantBytes> encode(const Grant& grant);
std::array<std::uint8_t, kReceiptBytes> encode(const Receipt& receipt);

/// Fail with receipt_invalid: another size or version, a negative price, an expiry before the
/// issue, a span or count out of bounds.
Result<Grant> decode_grant(std::span<const std::uint8_t> bytes);
Result<Receipt> decode_receipt(std::span<const std::uint8_t> bytes);

/// A grant as `open` carries it: the bytes, the payer's key, the signature.
struct SignedGrant {
  Grant grant;
  KeyBytes payer_key{};
  SignatureBytes signature{};
};
std::vector<std::uint8_t> encode(const SignedGrant& grant);
/// Decodes without checking the signature. Fails with receipt_invalid.
Result<SignedGrant> decode_signed_grant(std::span<const std::uint8_t> bytes);

/// A receipt as a frame carries it.
struct SignedReceipt {
  Receipt receipt;
  KeyBytes node_key{};
  SignatureBytes node_signature{};
};
inline constexpr std::size_t kSignedReceiptBytes = kReceiptBytes + 32 + 64;
std::vector<std::uint8_t> encode(const SignedReceipt& receipt);
/// Decodes without checking the signature. Fails with receipt_invalid.
Result<SignedReceipt> decode_signed_receipt(std::span<const std::uint8_t> bytes);

/// Sessions whose receipts a driver asks for again: the payload of its own `receipt` frame.
inline constexpr std::size_t kMaxAskedAccounts = 256;
std::vector<std::uint8_t> encode(std::span<const AccountId> accounts);
/// Fails with receipt_invalid: none, too many, or no whole number of them.
Result<std::vector<AccountId>> decode_accounts(std::span<const std::uint8_t> bytes);

/// A receipt as its driver judged it.
struct JudgedReceipt {
  SignedReceipt receipt;
  std::optional<KeyBytes> driver_key;  // nothing: the driver's step log disagrees
  SignatureBytes driver_signature{};   // under kCountersignDomain
};

}  // namespace farmesh::wire
