#include "cli/wallet_proof.hpp"

#include <filesystem>
#include <utility>

#include "base/log.hpp"
#include "base/mapped_file.hpp"
#include "cli/key_bind.hpp"

namespace farmesh::cli {
namespace {

Result<evm::SignedStatement> read_proof(const std::filesystem::path& file,
                                        const std::string& node_id) {
  const Result<std::string> text = read_text_file(file, evm::kMaxStatementBytes);
  if (!text) {
    return {Errc::config_invalid, "cannot read the wallet's statement: " + text.error().detail};
  }
  Result<evm::SignedStatement> read = evm::parse_signed_statement(*text);
  if (read && to_string(read->statement.node) != node_id) {
    return {Errc::wallet_statement_invalid, "it is for the node " +
                                                short_name(read->statement.node) + ", not for " +
                                                node_id.substr(0, 12)};
  }
  return read;
}

std::filesystem::path usual_file(const IdentityOptions& identity) {
  if (!identity.key_file.empty()) {
    return statement_file(std::filesystem::absolute(identity.key_file).parent_path());
  }
  return identity.data_dir.empty() ? std::filesystem::path() : statement_file(identity.data_dir);
}

}  // namespace

void WalletFlags::add_to(CLI::App& verb, Settings& settings) {
  settings.from_environment(
      verb.add_option("--wallet", wallet, "That is to be paid; it must have signed a statement")
          ->option_text("ADDRESS"),
      {"FAR_NODE_WALLET"});
  settings.from_environment(
      verb.add_option("--wallet-proof", proof_file,
                      "That statement, of farmesh key bind; default: the one beside the key")
          ->option_text("FILE"),
      {"FAR_NODE_WALLET_PROOF"});
}

Result<std::optional<evm::SignedStatement>> WalletFlags::proof(const IdentityOptions& identity,
                                                               const std::string& node_id) const {
  using Proof = std::optional<evm::SignedStatement>;
  std::optional<evm::Address> wanted;
  if (!wallet.empty()) {
    const Result<evm::Address> address = evm::parse_address(wallet);
    if (!address) return address.error();
    wanted = *address;
  }
  const bool named = !proof_file.empty();
  const std::filesystem::path file =
      named ? std::filesystem::path(proof_file) : usual_file(identity);
  std::error_code ignored;
  Result<evm::SignedStatement> read{Errc::config_invalid, "it has signed no statement"};
  if (named || std::filesystem::is_regular_file(file, ignored)) read = read_proof(file, node_id);
  if (read && wanted && read->statement.wallet != *wanted) {
    read = Error{Errc::wallet_statement_invalid,
                 "the statement is of another wallet, " + evm::to_string(read->statement.wallet)};
  }
  if (read) return Proof(*std::move(read));
  if (named) return read.error();
  if (wanted) {
    log(LogLevel::warning, "registry",
        "nothing is earned for " + evm::to_string(*wanted) + ": " + read.error().detail +
            " (farmesh key bind)");
  }
  return Proof();
}

}  // namespace farmesh::cli
