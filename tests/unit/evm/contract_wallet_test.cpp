// Signatures of wallets that are contracts, asked of endpoints that answer by script.
#include "evm/contract_wallet.hpp"

#include <functional>
#include <thread>

#include <doctest/doctest.h>

#include "evm/json_rpc.hpp"
#include "evm/keccak.hpp"
#include "unit/evm/support.hpp"

namespace farmesh::evm {
namespace {

constexpr std::string_view kWallet = "0x3535353535353535353535353535353535353535";
constexpr std::string_view kYes =
    "0x1626ba7e00000000000000000000000000000000000000000000000000000000";

/// A chain with one contract on it.
struct OneContract {
  std::string code = "0x60";
  Json answer = kYes;  // of isValidSignature
  bool reverts = false;
  bool silent = false;  // the endpoint is away
  int asked = 0;
  Json call;  // the last one
  std::function<void()> during = [] {};

  HttpPost post() {
    return [this](const std::string&, const std::string& body) -> Result<HttpAnswer> {
      const Json request = Json::parse(body);
      if (silent) return Error{Errc::connection_lost, "the link broke"};
      Json reply = {{"jsonrpc", "2.0"}, {"id", request["id"]}};
      const std::string method = request["method"];
      if (method == "eth_chainId") {
        reply["result"] = "0x38";
      } else if (method == "eth_getCode") {
        reply["result"] = code;
      } else {
        ++asked;
        call = request["params"][0];
        during();
        if (reverts) {
          reply["error"] = {{"code", 3}, {"message", "execution reverted"}, {"data", "0x"}};
        } else {
          reply["result"] = answer;
        }
      }
      return HttpAnswer{200, reply.dump()};
    };
  }
  ContractWallets wallets() {
    RpcOptions options;
    options.endpoints = {"https://a.example"};
    options.chain_id = 56;
    return contract_wallets(options, post());
  }
};

const Bytes32 kDigest = keccak256("what is signed");

}  // namespace

TEST_SUITE("evm/contract_wallet") {
  TEST_CASE("a contract's yes is ERC-1271's word, to the question with digest and signature") {
    OneContract chain;
    const Bytes signature(130, 0x77);  // of two owners
    const auto yes = chain.wallets()(address(kWallet), kDigest, signature);
    REQUIRE(yes);
    CHECK(*yes);
    CHECK(chain.call["to"] == kWallet);
    const std::string data = chain.call.value("data", chain.call.value("input", ""));
    CHECK(data == "0x1626ba7e" + to_hex0x(kDigest).substr(2) + std::string(62, '0') + "40" +
                      std::string(62, '0') + "82" + to_hex0x(signature).substr(2) +
                      std::string(60, '0'));
  }

  TEST_CASE("no contract, a revert, another word and a short answer are no yes") {
    OneContract chain;
    SUBCASE("no contract") { chain.code = "0x"; }
    SUBCASE("a revert") { chain.reverts = true; }
    SUBCASE("no") { chain.answer = "0x" + std::string(64, '0'); }
    SUBCASE("a yes with something behind it") {
      chain.answer = std::string(kYes.substr(0, 65)) + "1";
    }
    SUBCASE("half a word") { chain.answer = kYes.substr(0, 10); }
    SUBCASE("nothing, as accounts without code answer") { chain.answer = "0x"; }
    const auto answer = chain.wallets()(address(kWallet), kDigest, Bytes(65, 1));
    REQUIRE(answer);
    CHECK_FALSE(*answer);
  }

  TEST_CASE("a signature beyond its bound is not carried to anybody") {
    OneContract chain;
    const auto answer =
        chain.wallets()(address(kWallet), kDigest, Bytes(kMaxSignatureBytes + 1, 1));
    REQUIRE(answer);
    CHECK_FALSE(*answer);
    CHECK(chain.asked == 0);
  }

  TEST_CASE("endpoints that are away are an error, not a no") {
    OneContract chain;
    chain.silent = true;
    const auto answer = chain.wallets()(address(kWallet), kDigest, Bytes(65, 1));
    REQUIRE_FALSE(answer);
    CHECK(answer.error().code == Errc::chain_unavailable);
  }

  TEST_CASE("who comes while another question is out is told so at once") {
    OneContract chain;
    const ContractWallets wallets = chain.wallets();
    Errc meanwhile{};
    chain.during = [&] {
      std::thread([&] { meanwhile = wallets(address(kWallet), kDigest, {}).error().code; }).join();
    };
    CHECK(wallets(address(kWallet), kDigest, Bytes(65, 1)));
    CHECK(meanwhile == Errc::busy);
  }

  TEST_CASE("a wallet's own key needs no chain; for another's signature its contract is asked") {
    const PrivateKey owner = PrivateKey::generate();
    const auto signature = sign(owner, kDigest).to_bytes();
    CHECK(*has_signed(owner.address(), kDigest, signature, nullptr));
    CHECK_FALSE(*has_signed(address(kWallet), kDigest, signature, nullptr));
    OneContract chain;
    CHECK(*has_signed(owner.address(), kDigest, signature, chain.wallets()));
    CHECK(chain.asked == 0);
    CHECK(*has_signed(address(kWallet), kDigest, signature, chain.wallets()));
    CHECK(chain.asked == 1);
  }
}

}  // namespace farmesh::evm
