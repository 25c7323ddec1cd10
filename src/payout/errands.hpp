// Reservations on their way through the escrow: opened, their cost fixed, returned.
//
// Each errand is one transaction that the escrow takes once at most, whoever sends it, so what is
// to be done is read from ledger and chain each time; only the transaction under way is remembered.
// It holds the sender's next nonce: while there is one, no batch is sent, and the other way round.
// Confined to one thread; used by Payer under its lease.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "evm/signer.hpp"
#include "evm/transaction.hpp"
#include "ledger/escrow_reservations.hpp"
#include "ledger/payout_book.hpp"
#include "payout/chain.hpp"

namespace farmesh::payout {

struct ErrandOptions {
  std::uint64_t confirmations = 15;  // until what the chain shows is believed
  std::optional<evm::U256> max_fee_per_gas;
  std::chrono::milliseconds stuck_after = std::chrono::minutes(2);
  std::chrono::milliseconds retry_after = std::chrono::minutes(5);  // what the chain refused
};

class Errands {
 public:
  Errands(std::shared_ptr<ledger::Store> store, Chain& chain, evm::Signer& signer,
          ErrandOptions options);

  /// What was done, or is waited for; nothing when there is nothing. `alone`: no batch of this
  /// sender is on its way, and payout is not paused. Begins none unless it is their turn, too.
  Result<std::optional<std::string>> step(const ledger::Lease& lease, bool alone, bool their_turn);

 private:
  using Reservation = ledger::EscrowReservation;
  /// What is to be sent, sorted by the call that does it.
  struct Work {
    std::vector<Reservation> open;
    std::vector<Reservation> authorize;
    std::vector<Reservation> refund;
    std::vector<Reservation> reclaim;
    bool waits = false;  // some are on chain, not deep enough yet
  };

  Result<std::optional<std::string>> look_after(const ledger::Lease& lease,
                                                const ledger::StoredErrand& errand, bool alone);
  Result<Work> find_work();
  Result<void> sort(const Reservation& reservation, Work& work);
  Result<void> sort_signed(const Reservation& reservation, const EscrowHold& hold, Work& work);
  Result<void> sort_served(const Reservation& reservation, const EscrowHold& hold, Work& work);
  /// True once the chain has shown it for long enough.
  Result<bool> is_deep(const Reservation& reservation, Work& work);
  Result<std::optional<std::string>> begin(const ledger::Lease& lease, const Work& work);
  Result<bool> has_come_to_stand(const Reservation& reservation);
  /// Nothing when the chain refuses the call.
  Result<std::optional<std::string>> send(const ledger::Lease& lease, const evm::Bytes& data,
                                          const std::string& what, std::string& refusal);
  Result<void> sign_and_send(const ledger::Lease& lease, const evm::Transaction& transaction,
                             const std::string& what);
  bool rests(const std::string& request_id) const;
  LedgerTime now() const { return store_->now(); }

  std::shared_ptr<ledger::Store> store_;
  Chain& chain_;
  evm::Signer& signer_;
  ErrandOptions options_;
  ledger::EscrowReservations reservations_;
  ledger::PayoutBook book_;
  std::map<std::string, LedgerTime> refused_;  // requests whose call the chain refused, and when
};

}  // namespace farmesh::payout
