// --wallet and --wallet-proof: which wallet a node earns for, as that wallet has said.
#pragma once

#include <optional>
#include <string>

#include <CLI/App.hpp>

#include <farmesh/identity.hpp>
#include <farmesh/result.hpp>

#include "cli/settings.hpp"
#include "evm/wallet_statement.hpp"

namespace farmesh::cli {

struct WalletFlags {
  std::string wallet;
  std::string proof_file;

  void add_to(CLI::App& verb, Settings& settings);

  /// The statement of --wallet-proof, else the one beside the node's key, if that is for this node
  /// and wallet. Nothing without one: the node then earns for nobody yet. Fails with
  /// config_invalid, wallet_invalid, wallet_statement_invalid or wallet_signature_invalid for what
  /// was named.
  Result<std::optional<evm::SignedStatement>> proof(const IdentityOptions& identity,
                                                    const std::string& node_id) const;
};

}  // namespace farmesh::cli
