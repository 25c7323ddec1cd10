// The step log's bounds, its text in the database, and what it amounts to in money.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <farmesh/ledger.hpp>

#include "ledger/split.hpp"

namespace farmesh::ledger {

/// Fails with invalid_argument: node ids that are none, layers that overlap, a hop that does
/// nothing, more tokens than kMaxTokens or segments than kMaxSegments.
Result<void> check_work(const WorkLog& log);

/// {"prompt":[…],"output":[{"tokens":512,"route":[["<node id>",0,11,false],…]}]}: layers half-open,
/// then whether the head was served.
std::string encode_work(const WorkLog& log);
/// Fails with ledger_damaged.
Result<WorkLog> decode_work(std::string_view text);

/// What one party gets for a session.
struct Payout {
  std::string node_id;  // empty: the operator
  std::uint32_t tokens = 0;
  std::uint32_t prompt_tokens = 0;
  std::vector<std::uint32_t> layers;  // ascending
  Far payment;
};

struct Prices {
  Far per_token;
  Far per_prompt_token;
  std::uint32_t fee_bps = 0;  // of each price, rounded down
  SplitPolicy split = SplitPolicy::layer_units;
};

struct Settlement {
  std::uint32_t tokens = 0;
  std::uint32_t prompt_tokens = 0;
  Far cost;  // payments + fee, exactly
  Far fee;
  std::vector<Payout> payouts;  // in route order; the operator's only when it has tokens
};

/// Pay is tokens times price; the fee is taken from the price of a token, so that nothing is ever
/// rounded but that price. Fails with amount_invalid when the cost does not fit.
Result<Settlement> settle(const WorkLog& log, const Prices& prices);

}  // namespace farmesh::ledger
