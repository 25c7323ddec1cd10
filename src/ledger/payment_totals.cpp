#include "ledger/payment_totals.hpp"

namespace farmesh::ledger {

Result<PaymentTotals> payment_totals(Store& store) {
  return store.transact([](Database& db) -> Result<PaymentTotals> {
    const auto earned =
        db.query_one<Far>("SELECT coalesce(sum({total_earned_far}), 0) FROM far_nodes");
    if (!earned) return earned.error();
    const auto sums = db.query<std::int64_t, Far, bool>(
        "SELECT count(*), coalesce(sum({total_amount_far}), 0), status = 'confirmed' "
        "FROM far_payment_batches GROUP BY status = 'confirmed'");
    if (!sums) return sums.error();
    PaymentTotals totals;
    totals.earned = std::get<0>(**earned);
    for (const auto& [batches, amount, confirmed] : *sums) {
      (confirmed ? totals.confirmed : totals.open) = amount;
      (confirmed ? totals.confirmed_batches : totals.open_batches) = std::uint64_t(batches);
    }
    return totals;
  });
}

}  // namespace farmesh::ledger
