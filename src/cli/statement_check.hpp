// A statement of earnings that somebody has shown, computed again without his ledger.
//
// Takes the lines of `farmesh ledger statement --json`, and a chain: shares and costs follow from
// step logs and prices, receipts from their signatures, and what was paid stands in the chain.
#pragma once

#include <string>

#include <farmesh/ledger.hpp>

#include "payout/chain.hpp"

namespace farmesh::cli {

/// `wallet` is whose statement it is. Tells each difference. Fails with io_error when there is no
/// file, config_invalid when it is no statement, wallet_invalid, or as the chain does.
Result<AuditReport> check_statement(const std::string& file, const std::string& wallet,
                                    payout::Chain& chain);

}  // namespace farmesh::cli
