#include "cli/chain_flags.hpp"

#include <array>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string_view>
#include <utility>

#include <stdlib.h>
#include <unistd.h>

#include "cli/child_process.hpp"
#include "cli/exit_code.hpp"
#include "evm/http_post.hpp"
#include "evm/keystore.hpp"

namespace farmesh::cli {
namespace {

struct Network {
  std::string_view name;
  std::uint64_t chain_id;
  std::uint64_t confirmations;
  std::array<std::string_view, 3> endpoints;  // empty ones at the end
  std::string_view escrow;                    // known of the local one only
};

constexpr std::array<Network, 3> kNetworks = {{
    {"anvil",
     31'337,
     1,
     {"http://127.0.0.1:8545"},
     "0xe7f1725E7734CE288F8367e1Bb143E90bb3F0512"},  // contracts/addresses.json
    {"bsc-testnet",
     97,
     10,
     {"https://bsc-testnet-dataseed.bnbchain.org", "https://bsc-testnet.bnbchain.org"},
     ""},
    {"bsc",
     56,
     15,
     {"https://bsc-dataseed.bnbchain.org", "https://bsc-dataseed1.defibit.io",
      "https://bsc-dataseed1.ninicoin.io"},
     ""},
}};
constexpr std::uint64_t kConfirmationsElsewhere = 15;

const Network* find_network(std::string_view name) {
  for (const Network& network : kNetworks) {
    if (network.name == name) return &network;
  }
  return nullptr;
}

/// A signer in a process of its own: it gets the kind and a file with the preimage, and prints the
/// signature.
class ProgramSigner final : public evm::Signer {
 public:
  ProgramSigner(std::string program, const evm::Address& address)
      : program_(std::move(program)), address_(address) {}

  evm::Address address() const override { return address_; }

  Result<evm::Signature> sign_preimage(evm::Signable kind, evm::BytesView preimage) override {
    std::string file = (std::filesystem::temp_directory_path() / "farmesh-sign-XXXXXX").string();
    const int descriptor = ::mkstemp(file.data());  // mode 0600
    if (descriptor < 0) return Error{Errc::io_error, "no temporary file to sign"};
    ::close(descriptor);
    std::ofstream(file, std::ios::binary)
        .write(reinterpret_cast<const char*>(preimage.data()),
               static_cast<std::streamsize>(preimage.size()));
    const Result<std::string> line = ask(kind, file);
    std::filesystem::remove(file);
    return line ? evm::Signature::parse(*line) : line.error();
  }

 private:
  static const char* word(evm::Signable kind) {
    switch (kind) {
      case evm::Signable::personal_message: return "message";
      case evm::Signable::typed_data: return "typed-data";
      case evm::Signable::transaction: return "transaction";
    }
    return "?";
  }

  Result<std::string> ask(evm::Signable kind, const std::string& file) const {
    auto child = ChildProcess::start({program_, word(kind), file});
    if (!child) return child.error();
    const auto line = child->read_line(std::chrono::minutes(2));
    if (line && !line->empty()) return *line;
    return Error{Errc::wallet_signature_invalid, "the signer gave no signature"};
  }

  std::string program_;
  evm::Address address_;
};

}  // namespace

void ChainFlags::add_place_to(CLI::App& verb, Settings& settings) {
  verb.add_option("--network", network, "anvil, bsc-testnet or bsc")->option_text("NAME");
  verb.add_option("--chain-id", chain_id, "Of another chain, with --rpc")->option_text("ID");
  verb.add_option("--rpc", rpc, "JSON-RPC endpoint; repeatable, the next where one fails")
      ->allow_extra_args(false)
      ->option_text("URL");
  settings.from_environment(
      verb.add_option("--escrow", escrow, "The escrow's address")->option_text("ADDRESS"),
      {"ESCROW_CONTRACT_ADDRESS"});
}

void ChainFlags::add_to(CLI::App& verb, Settings& settings) {
  add_place_to(verb, settings);
  verb.add_option("--start-block", start_block, "The escrow's first block; 0: the chain's")
      ->option_text("N [0]");
}

std::uint64_t ChainFlags::confirmations() const noexcept {
  const Network* known = find_network(network);
  return known == nullptr ? kConfirmationsElsewhere : known->confirmations;
}

Result<payout::EscrowChainOptions> ChainFlags::chosen() const {
  payout::EscrowChainOptions options;
  options.rpc.endpoints = rpc;
  options.rpc.chain_id = chain_id;
  std::string_view place = escrow;
  if (!network.empty()) {
    const Network* known = find_network(network);
    if (known == nullptr) {
      return Error{Errc::config_invalid, "no network " + network + "; there are anvil, " +
                                             "bsc-testnet and bsc, and --chain-id with --rpc"};
    }
    if (chain_id != 0 && chain_id != known->chain_id) {
      return Error{Errc::config_invalid, network + " is chain " + std::to_string(known->chain_id)};
    }
    options.rpc.chain_id = known->chain_id;
    if (place.empty()) place = known->escrow;
    for (const std::string_view endpoint : known->endpoints) {
      if (rpc.empty() && !endpoint.empty()) options.rpc.endpoints.emplace_back(endpoint);
    }
  }
  if (options.rpc.endpoints.empty() || options.rpc.chain_id == 0) {
    return Error{Errc::config_invalid, "name the chain: --network, or --chain-id and --rpc"};
  }
  if (place.empty()) {
    return Error{Errc::config_invalid, "name the escrow: --escrow, or ESCROW_CONTRACT_ADDRESS"};
  }
  const auto address = evm::parse_address(place);
  if (!address) return address.error();
  options.escrow = *address;
  return options;
}

Result<std::unique_ptr<payout::Chain>> ChainFlags::open() const {
  auto options = chosen();
  if (!options) return options.error();
  return payout::open_escrow_chain(*std::move(options), evm::http_post());
}

void SenderFlags::add_to(CLI::App& verb) {
  verb.add_option("--keystore", keystore, "The sender's key, a web3 keystore")->option_text("FILE");
  verb.add_option("--password-file", password_file, "Its password")->option_text("FILE");
  verb.add_option("--password-fd", password_descriptor, "Its password, from a descriptor")
      ->option_text("N");
  verb.add_option("--key-fd", key_descriptor, "The key itself, from a descriptor")
      ->option_text("N");
  verb.add_option("--signer", program, "Program that signs instead, for --sender")
      ->option_text("PROGRAM");
  verb.add_option("--sender", address, "Address that --signer signs for")->option_text("ADDRESS");
}

bool SenderFlags::given() const noexcept {
  return !keystore.empty() || key_descriptor >= 0 || !program.empty();
}

Result<std::unique_ptr<evm::Signer>> SenderFlags::open() const {
  if (!program.empty()) {
    const auto who = evm::parse_address(address);
    if (!who) return Error{Errc::config_invalid, "--signer needs --sender, an address"};
    return std::unique_ptr<evm::Signer>(std::make_unique<ProgramSigner>(program, *who));
  }
  if (!given()) {
    return Error{Errc::config_invalid, "who sends? --keystore with --password-file, or --signer"};
  }
  auto key = evm::load_key({keystore, password_file, key_descriptor, password_descriptor});
  if (!key) return key.error();
  return std::unique_ptr<evm::Signer>(std::make_unique<evm::KeySigner>(*std::move(key)));
}

}  // namespace farmesh::cli
