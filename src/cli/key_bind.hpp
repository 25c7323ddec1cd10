// farmesh key bind: which wallet a node earns for, said by the wallet itself.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include <farmesh/result.hpp>

#include "base/node_id.hpp"
#include "cli/verbs.hpp"
#include "evm/wallet_statement.hpp"

namespace farmesh::cli {

/// Beside the node's key: the words that wait for a signature, and the signed statement.
std::filesystem::path unsigned_statement_file(const std::filesystem::path& folder);
std::filesystem::path statement_file(const std::filesystem::path& folder);

struct BindRequest {
  std::string wallet;  // checked text
  std::string domain;
  std::uint64_t chain_id = 0;
  NodeId node{};
  std::filesystem::path folder;  // of the node's key
};

/// Writes words for the wallet to sign, in place of those that wait already, and gives them. Fails
/// with wallet_invalid, wallet_statement_invalid, io_error.
Result<std::string> start_binding(const BindRequest& request);

/// Checks `signature` ("0x…") over the words that wait and writes the signed statement in their
/// place. A node that was bound before is bound to the new wallet. Fails with config_invalid when
/// no words wait for `node`, wallet_signature_invalid, io_error; then nothing is changed.
Result<evm::WalletStatement> finish_binding(const std::filesystem::path& folder, const NodeId& node,
                                            std::string_view signature);

/// The verb `bind` under `key`.
void add_key_bind(CLI::App& key, Run& run);

}  // namespace farmesh::cli
