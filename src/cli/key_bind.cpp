#include "cli/key_bind.hpp"

#include <chrono>
#include <fstream>
#include <memory>
#include <system_error>

#include <CLI/App.hpp>
#include <fmt/format.h>

#include "base/digest.hpp"
#include "base/mapped_file.hpp"
#include "cli/exit_code.hpp"
#include "cli/flags.hpp"
#include "identity/node_key.hpp"
#include "node/own_identity.hpp"

namespace farmesh::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxSignatureFile = 4'096;

/// Readers see the old text or the new one.
Result<void> write_whole(const fs::path& file, const std::string& text) {
  const fs::path part = file.string() + ".part";
  std::error_code failure;
  fs::create_directories(file.parent_path(), failure);
  {
    std::ofstream out(part, std::ios::binary | std::ios::trunc);
    out << text;
    out.close();
    if (!out) return Error{Errc::io_error, "cannot write " + part.string()};
  }
  fs::rename(part, file, failure);
  if (failure) return Error{Errc::io_error, "cannot write " + file.string()};
  return {};
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const std::size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

struct BindFlags {
  std::string wallet;
  std::string domain = "farmesh";
  std::uint64_t chain_id = 56;
  std::string signature_file;
  std::string data_dir = node::data_folder().string();
  std::string key_file;

  fs::path key() const {
    return key_file.empty() ? fs::path(data_dir) / "node.key" : fs::path(key_file);
  }
};

int ask_wallet(const BindFlags& flags, const NodeId& node, const fs::path& folder) {
  const Result<std::string> words =
      start_binding({flags.wallet, flags.domain, flags.chain_id, node, folder});
  if (!words) return report(words.error());
  fmt::print("{}\n", *words);
  fmt::print(stderr,
             "\nSign exactly these words with the wallet (personal_sign, EIP-191), put the 0x… "
             "signature\ninto a file, then: farmesh key bind --signature-file FILE\n");
  return kSuccess;
}

int take_signature(const BindFlags& flags, const NodeId& node, const fs::path& folder) {
  const Result<std::string> signature = read_text_file(flags.signature_file, kMaxSignatureFile);
  if (!signature) {
    return report({Errc::config_invalid, "cannot read the signature: " + signature.error().detail});
  }
  const Result<evm::WalletStatement> bound = finish_binding(folder, node, trimmed(*signature));
  if (!bound) return report(bound.error());
  fmt::print("node {} earns for {}\n{}\n", short_name(node), to_string(bound->wallet),
             statement_file(folder).string());
  return kSuccess;
}

int bind(const BindFlags& flags) {
  if (flags.wallet.empty() == flags.signature_file.empty()) {
    return report({Errc::invalid_argument,
                   "either --wallet, for the words to sign, or --signature-file with what the "
                   "wallet made of them"});
  }
  if (flags.data_dir.empty() && flags.key_file.empty()) {
    return report({Errc::config_invalid, "there is no home folder: give --data-dir or --key"});
  }
  const Result<identity::NodeKey> key = identity::NodeKey::load_or_create(flags.key());
  if (!key) return report(key.error());
  const fs::path folder = fs::absolute(flags.key()).parent_path();
  return flags.wallet.empty() ? take_signature(flags, key->id(), folder)
                              : ask_wallet(flags, key->id(), folder);
}

}  // namespace

fs::path unsigned_statement_file(const fs::path& folder) {
  return folder / "wallet-statement.unsigned";
}
fs::path statement_file(const fs::path& folder) { return folder / "wallet-statement.txt"; }

Result<std::string> start_binding(const BindRequest& request) {
  const Result<evm::Address> wallet = evm::parse_address(request.wallet);
  if (!wallet) return wallet.error();
  evm::WalletStatement statement;
  statement.domain = request.domain;
  statement.chain_id = request.chain_id;
  statement.node = request.node;
  statement.wallet = *wallet;
  statement.date = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
  random_bytes(statement.nonce);
  Result<std::string> words = evm::statement_text(statement);
  if (!words) return words;
  const Result<void> written = write_whole(unsigned_statement_file(request.folder), *words);
  if (!written) return written.error();
  return words;
}

Result<evm::WalletStatement> finish_binding(const fs::path& folder, const NodeId& node,
                                            std::string_view signature) {
  const fs::path waiting = unsigned_statement_file(folder);
  const Result<std::string> words = read_text_file(waiting, evm::kMaxStatementBytes);
  if (!words) {
    return Error{Errc::config_invalid, "no words wait for a signature: begin with --wallet"};
  }
  Result<evm::WalletStatement> statement = evm::parse_statement_text(*words);
  if (!statement) return statement;
  if (statement->node != node) {
    return Error{Errc::config_invalid, "the words that wait are for another node's key"};
  }
  const Result<evm::Signature> made = evm::Signature::parse(signature);
  if (!made) return made.error();
  const Result<std::string> text = evm::signed_statement_text({*statement, *made});
  if (!text) return text.error();
  // What every reader of it will do.
  if (const auto read = evm::parse_signed_statement(*text); !read) return read.error();
  if (const auto written = write_whole(statement_file(folder), *text); !written) {
    return written.error();
  }
  std::error_code ignored;  // it would be signed once more, at worst
  fs::remove(waiting, ignored);
  return statement;
}

void add_key_bind(CLI::App& key, Run& run) {
  const auto flags = std::make_shared<BindFlags>();
  CLI::App* verb = key.add_subcommand("bind", "Let a wallet say that this node earns for it");
  verb->add_option("--wallet", flags->wallet, "Print the words that this wallet is to sign")
      ->option_text("ADDRESS");
  verb->add_option("--signature-file", flags->signature_file,
                   "Check the wallet's signature and keep the signed statement")
      ->option_text("FILE");
  add_option_with_default(*verb, "--chain", flags->chain_id, "Id of the chain that pays", "ID");
  add_option_with_default(*verb, "--domain", flags->domain, "Network that pays", "NAME");
  verb->add_option("--data-dir", flags->data_dir,
                   "Folder that keeps the key; default $XDG_DATA_HOME/farmesh")
      ->option_text("DIR");
  verb->add_option("--key", flags->key_file, "This key file instead; made if missing")
      ->option_text("FILE");
  verb->footer(R"(
Examples:
  farmesh key bind --wallet 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed
  farmesh key bind --signature-file signature.txt)");
  verb->callback([flags, &run] { run = [flags] { return bind(*flags); }; });
}

}  // namespace farmesh::cli
