// The demo of money: a deposit, a session on three nodes, a batch that pays them.
#pragma once

#include <cstdint>
#include <string>

#include <farmesh/result.hpp>

namespace farmesh::cli {

struct PaymentDemoOptions {
  std::string model;  // folder
  std::uint32_t layers = 0;
  std::string prompt = "Once upon a time";
  std::uint32_t max_tokens = 120;
};

/// Tells it on standard output. True when chain and ledger agree to the last unit. The chain and
/// its contracts are those of contracts/with_chain.mjs, named in the environment. Fails with
/// config_invalid where there is none.
Result<bool> show_payments(const PaymentDemoOptions& options);

}  // namespace farmesh::cli
