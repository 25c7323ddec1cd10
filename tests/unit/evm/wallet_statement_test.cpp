#include "evm/wallet_statement.hpp"

#include <fstream>
#include <iterator>

#include <doctest/doctest.h>

#include "base/digest.hpp"
#include "unit/evm/support.hpp"

namespace farmesh::evm {
namespace {

using namespace std::chrono_literals;

PrivateKey wallet_key() {
  return key("4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318");
}

WalletStatement example() {
  WalletStatement statement;
  statement.domain = "farmesh.example";
  statement.chain_id = 56;
  for (std::size_t i = 0; i < 32; ++i) statement.node[i] = static_cast<std::uint8_t>(i + 1);
  statement.wallet = wallet_key().address();
  statement.date = std::chrono::sys_days(std::chrono::year(2026) / 11 / 23) + 8h + 15min + 2s;
  for (std::size_t i = 0; i < 16; ++i) statement.nonce[i] = static_cast<std::uint8_t>(0xa0 + i);
  return statement;
}

std::string signed_text(const WalletStatement& statement, const PrivateKey& by) {
  const std::string words = *statement_text(statement);
  return *signed_statement_text({statement, sign(by, personal_digest(words))});
}

std::string with(std::string text, std::string_view from, std::string_view to) {
  const std::size_t at = text.find(from);
  FARMESH_ASSERT(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

}  // namespace

TEST_SUITE("evm/wallet_statement") {
  TEST_CASE("the words are those of docs/evm.md, to the letter") {
    std::ifstream file(FARMESH_SOURCE_DIR "/docs/evm.md");
    const std::string page{std::istreambuf_iterator<char>(file), {}};
    CHECK(page.find("\n" + signed_text(example(), wallet_key())) != std::string::npos);
  }

  TEST_CASE("a signed statement comes back as it was made") {
    const std::string text = signed_text(example(), wallet_key());
    const Result<SignedStatement> read = parse_signed_statement(text);
    REQUIRE(read);
    CHECK(read->statement == example());
    CHECK(*signed_statement_text(*read) == text);
    CHECK(text.size() <= kMaxStatementBytes);
  }

  TEST_CASE("another wallet's signature is refused") {
    const Result<SignedStatement> read =
        parse_signed_statement(signed_text(example(), PrivateKey::generate()));
    REQUIRE_FALSE(read);
    CHECK(read.error().code == Errc::wallet_signature_invalid);
  }

  TEST_CASE("no letter of a signed statement can be changed, left out or added") {
    const std::string text = signed_text(example(), wallet_key());
    for (std::size_t i = 0; i < text.size(); ++i) {
      std::string changed = text;
      changed[i] = static_cast<char>(changed[i] ^ 1);
      CHECK_FALSE(parse_signed_statement(changed));
      CHECK_FALSE(parse_signed_statement(text.substr(0, i)));
      CHECK_FALSE(parse_signed_statement(text.substr(0, i) + ' ' + text.substr(i)));
    }
  }

  TEST_CASE("a statement has one spelling, even where the words would mean the same") {
    const std::string words = *statement_text(example());
    REQUIRE(parse_statement_text(words));
    for (const auto& [from, to] :
         {std::pair{"Chain: 56", "Chain: 056"}, std::pair{"Chain: 56", "Chain: +56"},
          std::pair{"Chain: 56", "Chain: 0"},
          std::pair{"Date: 2026-11-23T08", "Date: 2026-11-23 08"},
          std::pair{"Date: 2026-11-23T08", "Date: 2026-11-31T08"},
          std::pair{"Date: 2026-11-23T08", "Date: 2026-11-22T32"},
          std::pair{"Date: 2026", "Date: -026"}, std::pair{"farmesh.example", "Farmesh.example"},
          std::pair{"Nonce: a0", "Nonce: A0"}, std::pair{"Wallet: 0x2c75", "Wallet: 0x2C75"},
          std::pair{"Node: 0102", "Node: 010"}, std::pair{"\nNonce", "\n\nNonce"}}) {
      CHECK_FALSE_MESSAGE(parse_statement_text(with(words, from, to)).has_value(), to);
    }
    CHECK_FALSE(parse_statement_text(words + "\n"));
    CHECK_FALSE(parse_statement_text(std::string(100'000, 'x')));
  }

  TEST_CASE("a field that cannot be written gives no text") {
    WalletStatement no_domain = example();
    no_domain.domain = "two words";
    WalletStatement no_chain = example();
    no_chain.chain_id = 0;
    WalletStatement no_wallet = example();
    no_wallet.wallet = {};
    WalletStatement too_late = example();
    too_late.date += std::chrono::years(9'000);
    for (const WalletStatement& statement : {no_domain, no_chain, no_wallet, too_late}) {
      const Result<std::string> text = statement_text(statement);
      REQUIRE_FALSE(text);
      CHECK(text.error().code == Errc::wallet_statement_invalid);
    }
  }

  TEST_CASE("a reader takes only what is meant for its domain, chain and node, at its time") {
    const WalletStatement statement = example();
    const StatementExpectation expected{.domain = "farmesh.example",
                                        .chain_id = 56,
                                        .node = statement.node,
                                        .now = statement.date + std::chrono::years(3)};
    CHECK(check_statement(statement, expected));

    StatementExpectation other_domain = expected, other_chain = expected, other_node = expected,
                         earlier = expected;
    other_domain.domain = "elsewhere.example";
    other_chain.chain_id = 97;
    other_node.node[31] ^= 1;
    earlier.now = statement.date - 61s;
    for (const StatementExpectation& other : {other_domain, other_chain, other_node, earlier}) {
      const Result<void> checked = check_statement(statement, other);
      REQUIRE_FALSE(checked);
      CHECK(checked.error().code == Errc::wallet_statement_invalid);
    }
    earlier.now = statement.date - 60s;
    CHECK(check_statement(statement, earlier));
  }
}

}  // namespace farmesh::evm
