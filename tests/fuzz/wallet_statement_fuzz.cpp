// Any text as a wallet statement, signed or not: what is accepted has that one spelling.
#include <cstdint>
#include <string_view>

#include "base/assert.hpp"
#include "evm/wallet_statement.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace farmesh;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const Result<evm::WalletStatement> statement = evm::parse_statement_text(text)) {
    FARMESH_ASSERT(*evm::statement_text(*statement) == text);
  }
  if (const Result<evm::SignedStatement> read = evm::parse_signed_statement(text)) {
    FARMESH_ASSERT(*evm::signed_statement_text(*read) == text);
  }
  return 0;
}
