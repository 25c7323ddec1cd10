#include "payout/reservation.hpp"

#include <algorithm>
#include <chrono>

#include <nlohmann/json.hpp>

#include "evm/keccak.hpp"
#include "evm/wei.hpp"

namespace farmesh::payout {
namespace {

constexpr std::string_view kOpen = "openReservation(address,bytes32,uint256,uint64,bytes)";
constexpr std::string_view kAuthorize = "authorizeSettlements((address,bytes32,uint256)[])";
constexpr std::string_view kReclaim = "reclaimReservation(address,bytes32)";
constexpr std::string_view kSettle =
    "settleBatch(bytes32,(address,bytes32,uint256)[],(address,uint256)[],uint256)";

std::uint64_t seconds(LedgerTime time) {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::seconds>(time.time_since_epoch()).count());
}

Result<std::vector<Charge>> charges_of(const std::vector<ledger::EscrowReservation>& reservations) {
  std::vector<Charge> charges;
  for (const ledger::EscrowReservation& one : reservations) {
    const auto user = evm::parse_address(one.account);
    if (!user) return user.error();
    charges.push_back({*user, one.cost, request_key(one.request_id)});
  }
  return charges;
}

}  // namespace

evm::Bytes32 request_key(std::string_view request_id) { return evm::keccak256(request_id); }

evm::Reservation to_sign(const ledger::EscrowReservation& reservation, const evm::Address& user) {
  return {user, request_key(reservation.request_id), evm::to_wei(reservation.amount),
          seconds(reservation.deadline)};
}

std::string typed_data_json(const evm::Reservation& terms, std::uint64_t chain_id,
                            const evm::Address& escrow) {
  using Json = nlohmann::ordered_json;
  const auto member = [](const char* name, const char* type) {
    return Json{{"name", name}, {"type", type}};
  };
  const evm::TypedDomain domain = evm::escrow_domain(chain_id, escrow);
  const Json whole = {{"types",
                       {{"EIP712Domain",
                         {member("name", "string"), member("version", "string"),
                          member("chainId", "uint256"), member("verifyingContract", "address")}},
                        {"Reservation",
                         {member("user", "address"), member("requestId", "bytes32"),
                          member("amount", "uint256"), member("deadline", "uint64")}}}},
                      {"primaryType", "Reservation"},
                      {"domain",
                       {{"name", domain.name},
                        {"version", domain.version},
                        {"chainId", chain_id},
                        {"verifyingContract", evm::to_string(escrow)}}},
                      {"message",
                       {{"user", evm::to_string(terms.user)},
                        {"requestId", evm::to_hex0x(terms.request_id)},
                        {"amount", terms.amount.to_decimal()},
                        {"deadline", std::to_string(terms.deadline)}}}};
  return whole.dump();
}

Result<void> check_signature(const ledger::EscrowReservation& reservation, std::uint64_t chain_id,
                             const evm::Address& escrow, const evm::ContractWallets& contracts) {
  const auto user = evm::parse_address(reservation.account);
  if (!user) return user.error();
  const auto digest =
      evm::typed_digest(evm::escrow_domain(chain_id, escrow), typed(to_sign(reservation, *user)));
  if (!digest) return digest.error();
  const auto signed_by = evm::has_signed(*user, *digest, reservation.signature, contracts);
  if (!signed_by) return signed_by.error();
  if (*signed_by) return {};
  return Error{Errc::wallet_signature_invalid, "not signed by " + evm::to_string(*user)};
}

Result<evm::Bytes> encode_open(const ledger::EscrowReservation& reservation) {
  const auto user = evm::parse_address(reservation.account);
  if (!user) return user.error();
  const evm::Reservation terms = to_sign(reservation, *user);
  return evm::encode_call(kOpen, {terms.user, terms.request_id, terms.amount, terms.deadline,
                                  evm::AbiValue(reservation.signature)});
}

Result<evm::Bytes> encode_authorize(const std::vector<ledger::EscrowReservation>& served) {
  const auto charges = charges_of(served);
  if (!charges) return charges.error();
  return evm::encode_call(kAuthorize, {evm::AbiValue(charge_values(*charges))});
}

Result<evm::Bytes> encode_refund(const std::vector<ledger::EscrowReservation>& unused) {
  auto charges = charges_of(unused);
  if (!charges) return charges.error();
  std::string keys = "farmesh refund";
  for (Charge& charge : *charges) {
    charge.amount = Far();
    keys.append(charge.request.begin(), charge.request.end());
  }
  return evm::encode_call(
      kSettle, {evm::AbiValue(evm::keccak256(keys)), evm::AbiValue(charge_values(*charges)),
                evm::AbiValue(evm::AbiValue::Members()), evm::AbiValue(evm::U256())});
}

Result<evm::Bytes> encode_reclaim(const ledger::EscrowReservation& expired) {
  const auto user = evm::parse_address(expired.account);
  if (!user) return user.error();
  return evm::encode_call(kReclaim, {*user, request_key(expired.request_id)});
}

}  // namespace farmesh::payout
