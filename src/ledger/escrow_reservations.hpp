// Money of one request that its user has signed for, set aside in the escrow on chain.
//
//   signed ──► open ──► served ──► authorized ──► settled
//     │          │        └────────────┴────────► returned   (nothing to pay, or too late)
//     └► refused └──────────────────────────────► returned   (never used)
//
// Signing sets the amount aside from the account's credit, so that nothing else is served on it.
// Credits::reserve() of the same request finds it, once it is open on chain; the end of the session
// charges at most the amount and notes the cost. Who talks to the chain is payout::Errands. A
// request has one reservation, for ever. Every call may be repeated. Thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ledger/store.hpp"

namespace farmesh::ledger {

enum class ReservationStatus : std::uint8_t {
  signed_for,  // by its user; not on chain yet
  open,
  served,      // the request has ended, and cost what it cost
  authorized,  // on chain the cost is fixed, and the rest is back with the user
  settled,     // charged by a confirmed batch
  returned,    // all of it is back with the user
  refused,     // the escrow would not open it
};
std::string_view name(ReservationStatus status) noexcept;

struct EscrowReservation {
  std::string request_id;   // 1 to 255 bytes
  std::string request_key;  // as the escrow knows it: 0x and 64 hexadecimal digits
  std::string account;      // an address in lower case
  Far amount;
  LedgerTime deadline{};                // on chain, whole seconds
  std::vector<std::uint8_t> signature;  // at most 1,024 bytes
  ReservationStatus status = ReservationStatus::signed_for;
  Far cost;                                 // once served
  std::optional<std::uint64_t> seen_block;  // where the chain first showed its next state
  std::string reason;                       // of one that was refused or returned
};

class EscrowReservations {
 public:
  explicit EscrowReservations(std::shared_ptr<Store> store) : store_(std::move(store)) {}

  /// Takes down what a user has signed; the signature was checked before. Fails with
  /// invalid_argument, amount_invalid, insufficient_credit, ledger_conflict when the request has
  /// another reservation, or quota when this would be more than `at_once` of the account's that
  /// wait to be served: opening one is a transaction that its user does not pay for.
  Result<EscrowReservation> sign(const EscrowReservation& reservation,
                                 std::size_t at_once = kAnyNumber);
  static constexpr std::size_t kAnyNumber = 1'000'000'000;
  /// Fails with not_found.
  Result<EscrowReservation> find(const std::string& request_id);

  /// Those that wait for the chain at `now`, oldest deadline first: signed, served, and whatever is
  /// past its deadline and not settled.
  Result<std::vector<EscrowReservation>> to_do(LedgerTime now, std::size_t limit);
  /// With a cost that no batch but this one charges; oldest deadline first.
  Result<std::vector<EscrowReservation>> to_charge(const std::string& batch_id);
  /// When the first of those ends whose cost is fixed and that no batch charges; after `from`.
  Result<std::optional<LedgerTime>> first_end(LedgerTime from);
  /// Live ones: what the escrow may hold beside balances.
  Result<std::vector<EscrowReservation>> live();
  /// Whether a batch that is not confirmed yet charges it.
  Result<bool> is_in_batch(const std::string& request_key);

  // Steps that the chain has made. One that does not follow changes nothing.
  Result<void> saw(const std::string& request_id, std::optional<std::uint64_t> block);
  Result<void> opened(const std::string& request_id);
  Result<void> authorized(const std::string& request_id, LedgerTime deadline);
  Result<void> returned(const std::string& request_id, const std::string& reason);
  Result<void> refused(const std::string& request_id, const std::string& reason);

 private:
  Result<void> end(const std::string& request_id, ReservationStatus status,
                   const std::string& reason);

  std::shared_ptr<Store> store_;
};

// Inside a transaction of another part of the ledger:

/// The request's reservation, locked until the transaction ends; nothing when it has none.
Result<std::optional<EscrowReservation>> locked_escrow_reservation(Database& db,
                                                                   const std::string& request_id);
/// The request has ended.
Result<void> escrow_reservation_served(Database& db, const std::string& request_id, Far cost,
                                       LedgerTime now);
/// A batch was confirmed, or forgotten by the chain: so are its charges.
Result<void> escrow_reservations_settled(Database& db, const std::string& batch_id, bool settled,
                                         LedgerTime now);

}  // namespace farmesh::ledger
