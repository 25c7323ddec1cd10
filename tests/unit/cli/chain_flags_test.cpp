// Chains by name and by number, and who sends on them.
#include "cli/chain_flags.hpp"

#include <fstream>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

namespace farmesh::cli {
namespace {

constexpr const char* kEscrow = "0x52908400098527886E0F7030069857D2E4169EE7";

ChainFlags on(const char* network) {
  ChainFlags flags;
  flags.network = network;
  flags.escrow = kEscrow;
  return flags;
}

}  // namespace

TEST_SUITE("cli/chain_flags") {
  TEST_CASE("networks have names, endpoints, and blocks after which what they say is final") {
    struct Known {
      const char* name;
      std::uint64_t chain_id, confirmations;
      std::size_t least_endpoints;
    };
    for (const Known& known :
         {Known{"anvil", 31'337, 1, 1}, Known{"bsc-testnet", 97, 10, 2}, Known{"bsc", 56, 15, 2}}) {
      const ChainFlags flags = on(known.name);
      const auto chosen = flags.chosen();
      REQUIRE_MESSAGE(chosen, known.name);
      CHECK(chosen->rpc.chain_id == known.chain_id);
      CHECK(chosen->rpc.endpoints.size() >= known.least_endpoints);
      CHECK(flags.confirmations() == known.confirmations);
      CHECK(evm::to_string(chosen->escrow) == kEscrow);
    }
  }

  TEST_CASE("the local network's escrow needs no name: the address book has it, and no other") {
    std::ifstream file(FARMESH_SOURCE_DIR "/contracts/addresses.json");
    const auto book = nlohmann::json::parse(file);
    REQUIRE(book.size() == 1);
    ChainFlags flags = on("anvil");
    flags.escrow.clear();
    const auto chosen = flags.chosen();
    REQUIRE(chosen);
    CHECK(evm::to_string(chosen->escrow) == book["anvil"]["escrow"]);
    CHECK(chosen->rpc.chain_id == book["anvil"]["chain_id"]);
    flags.escrow = kEscrow;
    CHECK(evm::to_string(flags.chosen()->escrow) == kEscrow);
  }

  TEST_CASE("endpoints that are named take the place of the network's") {
    ChainFlags flags = on("bsc");
    flags.rpc = {"https://one.example", "https://two.example"};
    CHECK(flags.chosen()->rpc.endpoints == flags.rpc);
    CHECK(flags.chosen()->rpc.chain_id == 56);
  }

  TEST_CASE("any other chain is one by its number and an endpoint") {
    ChainFlags flags = on("");
    flags.chain_id = 42;
    CHECK(flags.chosen().error().code == Errc::config_invalid);
    flags.rpc = {"https://one.example"};
    CHECK(flags.chosen()->rpc.chain_id == 42);
    CHECK(flags.confirmations() == 15);
    flags.chain_id = 0;
    CHECK(flags.chosen().error().code == Errc::config_invalid);
  }

  TEST_CASE("unknown names, numbers that do not fit them, and no escrow are refused") {
    CHECK(on("mainnet").chosen().error().code == Errc::config_invalid);
    ChainFlags other = on("bsc");
    other.chain_id = 97;
    CHECK(other.chosen().error().code == Errc::config_invalid);
    ChainFlags none = on("bsc");
    none.escrow.clear();
    CHECK(none.chosen().error().code == Errc::config_invalid);
    none.escrow = "0x1234";
    CHECK(none.chosen().error().code == Errc::wallet_invalid);
  }

  TEST_CASE("a sender is a key from a file or descriptor, or a program with an address") {
    SenderFlags flags;
    CHECK_FALSE(flags.given());
    CHECK(flags.open().error().code == Errc::config_invalid);
    flags.program = "/bin/true";
    CHECK(flags.open().error().code == Errc::config_invalid);
    flags.address = kEscrow;
    const auto signer = flags.open();
    REQUIRE(signer);
    CHECK(evm::to_string((*signer)->address()) == kEscrow);
  }

  TEST_CASE("a signer that says nothing, or no signature, or is not there, signs nothing") {
    const std::vector<std::uint8_t> preimage{1, 2, 3};
    for (const char* program : {"/bin/true", "/bin/false", "/bin/echo", "/nowhere/at/all"}) {
      SenderFlags flags;
      flags.program = program;
      flags.address = kEscrow;
      const auto signer = flags.open();
      REQUIRE(signer);
      const auto signature = evm::sign_checked(**signer, evm::Signable::personal_message, preimage);
      CHECK_MESSAGE(!signature, program);
    }
  }
}

}  // namespace farmesh::cli
