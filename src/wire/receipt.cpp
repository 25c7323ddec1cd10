#include "wire/receipt.hpp"

#include <algorithm>

#include "base/assert.hpp"

namespace farmesh::wire {
namespace {

constexpr std::uint8_t kVersion = 1;

class Writer {
 public:
  explicit Writer(std::span<std::uint8_t> out) : out_(out) {}
  ~Writer() { FARMESH_ASSERT(out_.empty()); }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  template <class Integer>
  void integer(Integer value) {
    const auto bits = static_cast<std::uint64_t>(value);
    for (std::size_t i = 0; i < sizeof value; ++i) {
      out_[i] = static_cast<std::uint8_t>(bits >> (8 * i));
    }
    out_ = out_.subspan(sizeof value);
  }
  void bytes(std::span<const std::uint8_t> value) {
    std::ranges::copy(value, out_.begin());
    out_ = out_.subspan(value.size());
  }

 private:
  std::span<std::uint8_t> out_;
};

/// The size must have been checked.
class Reader {
 public:
  explicit Reader(std::span<const std::uint8_t> in) : in_(in) {}

  template <class Integer>
  Integer integer() {
    std::uint64_t bits = 0;
    for (std::size_t i = 0; i < sizeof(Integer); ++i) bits |= std::uint64_t{in_[i]} << (8 * i);
    in_ = in_.subspan(sizeof(Integer));
    return static_cast<Integer>(bits);
  }
  template <std::size_t Size>
  void bytes(std::array<std::uint8_t, Size>& out) {
    std::ranges::copy(in_.first(Size), out.begin());
    in_ = in_.subspan(Size);
  }

 private:
  std::span<const std::uint8_t> in_;
};

Error invalid(std::string_view what, std::string_view why) {
  return {Errc::receipt_invalid, std::string(what) + ": " + std::string(why)};
}

bool within_bounds(const TokenCounts& counts) {
  const std::uint64_t most = std::max({counts.prefill, counts.cached, counts.decode, counts.replay,
                                       counts.rejected, counts.standby});
  return most <= kMaxCount;
}

template <std::size_t Size>
std::vector<std::uint8_t> with_signature(const std::array<std::uint8_t, Size>& body,
                                         const KeyBytes& key, const SignatureBytes& signature) {
  std::vector<std::uint8_t> bytes(body.begin(), body.end());
  bytes.insert(bytes.end(), key.begin(), key.end());
  bytes.insert(bytes.end(), signature.begin(), signature.end());
  return bytes;
}

}  // namespace

std::array<std::uint8_t, kGrantBytes> encode(const Grant& grant) {
  std::array<std::uint8_t, kGrantBytes> bytes{};
  Writer out(bytes);
  out.integer(kVersion);
  out.bytes(grant.account);
  out.bytes(grant.model_hash.bytes);
  out.integer(grant.price_per_token.units());
  out.integer(grant.price_per_prompt_token.units());
  out.integer(grant.token_limit);
  out.integer(grant.issued_ms);
  out.integer(grant.expires_ms);
  return bytes;
}

Result<Grant> decode_grant(std::span<const std::uint8_t> bytes) {
  if (bytes.size() != kGrantBytes) return invalid("grant", "another size");
  Reader in(bytes);
  if (in.integer<std::uint8_t>() != kVersion) return invalid("grant", "another version");
  Grant grant;
  in.bytes(grant.account);
  in.bytes(grant.model_hash.bytes);
  grant.price_per_token = Far::from_units(in.integer<std::int64_t>());
  grant.price_per_prompt_token = Far::from_units(in.integer<std::int64_t>());
  grant.token_limit = in.integer<std::uint32_t>();
  grant.issued_ms = in.integer<std::int64_t>();
  grant.expires_ms = in.integer<std::int64_t>();
  if (grant.price_per_token.is_negative() || grant.price_per_prompt_token.is_negative()) {
    return invalid("grant", "a negative price");
  }
  if (grant.issued_ms < 0 || grant.expires_ms < grant.issued_ms) {
    return invalid("grant", "it expires before it was issued");
  }
  return grant;
}

std::array<std::uint8_t, kReceiptBytes> encode(const Receipt& receipt) {
  std::array<std::uint8_t, kReceiptBytes> bytes{};
  Writer out(bytes);
  out.integer(kVersion);
  out.bytes(receipt.account);
  out.bytes(receipt.node_id);
  out.integer(receipt.span.begin);
  out.integer(receipt.span.end);
  // Bit 0: the head was served. Bit 1: the last receipt of this node and session.
  out.integer(static_cast<std::uint8_t>((receipt.head ? 1 : 0) | (receipt.final ? 2 : 0)));
  out.integer(receipt.sequence);
  const TokenCounts& counts = receipt.counts;
  for (const std::uint64_t count : {counts.prefill, counts.cached, counts.decode, counts.replay,
                                    counts.rejected, counts.standby}) {
    out.integer(count);
  }
  out.integer(receipt.made_ms);
  return bytes;
}

Result<Receipt> decode_receipt(std::span<const std::uint8_t> bytes) {
  if (bytes.size() != kReceiptBytes) return invalid("receipt", "another size");
  Reader in(bytes);
  if (in.integer<std::uint8_t>() != kVersion) return invalid("receipt", "another version");
  Receipt receipt;
  in.bytes(receipt.account);
  in.bytes(receipt.node_id);
  receipt.span.begin = in.integer<std::uint32_t>();
  receipt.span.end = in.integer<std::uint32_t>();
  const auto flags = in.integer<std::uint8_t>();
  receipt.head = (flags & 1) != 0;
  receipt.final = (flags & 2) != 0;
  receipt.sequence = in.integer<std::uint32_t>();
  TokenCounts& counts = receipt.counts;
  for (std::uint64_t* count : {&counts.prefill, &counts.cached, &counts.decode, &counts.replay,
                               &counts.rejected, &counts.standby}) {
    *count = in.integer<std::uint64_t>();
  }
  receipt.made_ms = in.integer<std::int64_t>();
  const Span span = receipt.span;
  if (flags > 3) return invalid("receipt", "unknown flags");
  if (span.begin > span.end || span.end > kMaxLayers || (span.begin == span.end && span.end != 0)) {
    return invalid("receipt", "layers out of bounds");
  }
  if (span.empty() && !receipt.head) return invalid("receipt", "a stage that does nothing");
  if (receipt.sequence > 0x7fffffffu || receipt.made_ms < 0) {
    return invalid("receipt", "a number out of bounds");
  }
  if (!within_bounds(counts)) return invalid("receipt", "a count out of bounds");
  return receipt;
}

std::vector<std::uint8_t> encode(const SignedGrant& grant) {
  return with_signature(encode(grant.grant), grant.payer_key, grant.signature);
}

std::vector<std::uint8_t> encode(const SignedReceipt& receipt) {
  return with_signature(encode(receipt.receipt), receipt.node_key, receipt.node_signature);
}

Result<SignedGrant> decode_signed_grant(std::span<const std::uint8_t> bytes) {
  SignedGrant out;
  constexpr std::size_t kBytes = kGrantBytes + sizeof out.payer_key + sizeof out.signature;
  if (bytes.size() != kBytes) return invalid("grant", "another size");
  Result<Grant> grant = decode_grant(bytes.first(kGrantBytes));
  if (!grant) return grant.error();
  out.grant = *grant;
  Reader in(bytes.subspan(kGrantBytes));
  in.bytes(out.payer_key);
  in.bytes(out.signature);
  return out;
}

Result<SignedReceipt> decode_signed_receipt(std::span<const std::uint8_t> bytes) {
  SignedReceipt out;
  constexpr std::size_t kBytes = kReceiptBytes + sizeof out.node_key + sizeof out.node_signature;
  if (bytes.size() != kBytes) return invalid("receipt", "another size");
  Result<Receipt> receipt = decode_receipt(bytes.first(kReceiptBytes));
  if (!receipt) return receipt.error();
  out.receipt = *receipt;
  Reader in(bytes.subspan(kReceiptBytes));
  in.bytes(out.node_key);
  in.bytes(out.node_signature);
  return out;
}

std::vector<std::uint8_t> encode(std::span<const AccountId> accounts) {
  std::vector<std::uint8_t> bytes;
  for (const AccountId& account : accounts) {
    bytes.insert(bytes.end(), account.begin(), account.end());
  }
  return bytes;
}

Result<std::vector<AccountId>> decode_accounts(std::span<const std::uint8_t> bytes) {
  constexpr std::size_t kBytes = sizeof(AccountId);
  if (bytes.empty() || bytes.size() % kBytes != 0 || bytes.size() / kBytes > kMaxAskedAccounts) {
    return invalid("receipt", "another number of sessions asked for");
  }
  std::vector<AccountId> accounts(bytes.size() / kBytes);
  Reader in(bytes);
  for (AccountId& account : accounts) in.bytes(account);
  return accounts;
}

}  // namespace farmesh::wire
