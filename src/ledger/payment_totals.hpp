// What nodes earned and were paid in all: a few sums, for metrics.
#pragma once

#include <cstdint>

#include "ledger/store.hpp"

namespace farmesh::ledger {

struct PaymentTotals {
  Far earned;     // by all nodes, ever
  Far confirmed;  // of that, on the chain
  Far open;       // in batches that are pending, submitted or failed
  std::uint64_t confirmed_batches = 0;
  std::uint64_t open_batches = 0;
};

Result<PaymentTotals> payment_totals(Store& store);

}  // namespace farmesh::ledger
