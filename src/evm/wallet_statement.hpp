// "Pay this wallet for what this node does": the text that a wallet signs once, anywhere, so that
// the node itself never holds a wallet's key. docs/evm.md has the exact words.
//
// The signed statement travels as text: the words, then a line with the signature. There is one
// way to write each statement, and nothing else is accepted.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/node_id.hpp"
#include "evm/address.hpp"
#include "evm/signature.hpp"

namespace farmesh::evm {

inline constexpr std::size_t kMaxStatementBytes = 1'024;

struct WalletStatement {
  std::string domain;  // of the network that pays; lower-case letters, digits, '-' and '.'
  std::uint64_t chain_id = 0;
  NodeId node{};
  Address wallet;
  std::chrono::sys_seconds date{};
  std::array<std::uint8_t, 16> nonce{};

  friend bool operator==(const WalletStatement&, const WalletStatement&) = default;
};

/// The words to sign with EIP-191, without a newline at their end. Fails with
/// wallet_statement_invalid when a field cannot be written.
Result<std::string> statement_text(const WalletStatement& statement);

/// Exactly what statement_text gives. Fails with wallet_statement_invalid.
Result<WalletStatement> parse_statement_text(std::string_view text);

struct SignedStatement {
  WalletStatement statement;
  Signature signature;
};

/// The words and their signature, checked to be the wallet's. Fails with
/// wallet_statement_invalid, wallet_signature_invalid.
Result<SignedStatement> parse_signed_statement(std::string_view text);

/// What parse_signed_statement reads. The signature is taken as it is.
Result<std::string> signed_statement_text(const SignedStatement& signed_statement);

/// What a reader requires of a statement besides its signature.
struct StatementExpectation {
  std::string_view domain;
  std::uint64_t chain_id = 0;
  NodeId node{};
  std::chrono::sys_seconds now{};
  std::chrono::seconds clock_tolerance{60};  // how far in the future its date may lie
};

/// Fails with wallet_statement_invalid, naming the field that differs.
Result<void> check_statement(const WalletStatement& statement,
                             const StatementExpectation& expected);

}  // namespace farmesh::evm
