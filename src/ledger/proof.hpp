// What nodes prove of a session whose driver is gone.
//
// Takes the step log as it was saved last and the receipts that nodes signed since, gives the log
// that they prove together: every stage of a route must have seen a token go on. Pure functions.
#pragma once

#include <cstdint>
#include <span>

#include <farmesh/ledger.hpp>

#include "wire/receipt.hpp"

namespace farmesh::ledger {

struct ProofTerms {
  std::uint32_t num_layers = 0;
  std::uint64_t most_tokens = 0;  // of output; what was saved is not cut
  std::uint64_t most_prompt_tokens = 0;
  std::uint64_t repeated_tokens = 0;  // of output, that every stage counts and nobody owes again
};

struct Proof {
  WorkLog log;
  /// Every stage of the last route has said its last: no later receipt adds to this.
  bool complete = false;
};

/// `receipts`: checked, of this session; what is not a node's last word counts for nothing. A stage
/// of the operator's own signs nothing and agrees with the rest. A session of which nothing was
/// saved is proven only if the receipts of its nodes are one route and no more.
Proof prove(const WorkLog& saved, std::span<const wire::Receipt> receipts, const ProofTerms& terms);

}  // namespace farmesh::ledger
