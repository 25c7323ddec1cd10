// Flags that name a chain and the escrow on it, and the key that sends there.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <CLI/App.hpp>

#include <farmesh/result.hpp>

#include "cli/settings.hpp"
#include "evm/signer.hpp"
#include "payout/escrow_chain.hpp"

namespace farmesh::cli {

/// --network, --chain-id, --rpc, --escrow, --start-block. The escrow has to be named, but on the
/// local network: there it is where contracts/deploy.mjs puts it first.
struct ChainFlags {
  std::string network;
  std::uint64_t chain_id = 0;
  std::vector<std::string> rpc;
  std::string escrow;
  std::uint64_t start_block = 0;

  void add_to(CLI::App& verb, Settings& settings);
  /// All but --start-block, for who does not read blocks.
  void add_place_to(CLI::App& verb, Settings& settings);
  bool given() const noexcept { return !network.empty() || !rpc.empty(); }
  /// Blocks until a transaction counts as final there.
  std::uint64_t confirmations() const noexcept;

  /// Fail with config_invalid, wallet_invalid; open() with chain_unavailable, chain_mismatch too.
  Result<payout::EscrowChainOptions> chosen() const;
  Result<std::unique_ptr<payout::Chain>> open() const;
};

/// --keystore, --password-file, --password-fd, --key-fd, --signer, --sender.
struct SenderFlags {
  std::string keystore;
  std::string password_file;
  int password_descriptor = -1;
  int key_descriptor = -1;
  std::string program;
  std::string address;

  void add_to(CLI::App& verb);
  bool given() const noexcept;
  Result<std::unique_ptr<evm::Signer>> open() const;
};

}  // namespace farmesh::cli
