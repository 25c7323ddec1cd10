#include "cli/key_bind.hpp"

#include <filesystem>
#include <string>

#include <doctest/doctest.h>

#include "base/mapped_file.hpp"
#include "evm/signature.hpp"
#include "support/temp_dir.hpp"

namespace farmesh::cli {
namespace {

/// A node's folder, and a wallet that is elsewhere.
struct Folder {
  farmesh::test::TempDir dir;
  std::filesystem::path path = dir.path();
  NodeId node{};
  evm::PrivateKey wallet = evm::PrivateKey::generate();

  Folder() { node.fill(7); }

  BindRequest request() const { return {to_string(wallet.address()), "farmesh", 56, node, path}; }
  std::string signature_of(const std::string& words) const {
    return evm::to_hex0x(evm::sign(wallet, evm::personal_digest(words)).to_bytes());
  }
};

}  // namespace

TEST_SUITE("cli/key_bind") {
  TEST_CASE("a wallet's signature of the words becomes the node's statement") {
    const Folder folder;
    const Result<std::string> words = start_binding(folder.request());
    REQUIRE(words);
    const Result<evm::WalletStatement> bound =
        finish_binding(folder.path, folder.node, folder.signature_of(*words));
    REQUIRE_MESSAGE(bound, bound.error().to_string());
    CHECK(bound->wallet == folder.wallet.address());
    CHECK(bound->chain_id == 56);

    const Result<std::string> file = read_text_file(statement_file(folder.path), 4'096);
    REQUIRE(file);
    const Result<evm::SignedStatement> read = evm::parse_signed_statement(*file);
    REQUIRE(read);
    CHECK(read->statement.node == folder.node);
    CHECK_FALSE(std::filesystem::exists(unsigned_statement_file(folder.path)));
  }

  TEST_CASE("another wallet's signature, or one of other words, changes nothing") {
    const Folder folder;
    const Result<std::string> words = start_binding(folder.request());
    REQUIRE(words);
    const evm::PrivateKey stranger = evm::PrivateKey::generate();
    const std::string strange =
        evm::to_hex0x(evm::sign(stranger, evm::personal_digest(*words)).to_bytes());
    for (const std::string& signature :
         {strange, folder.signature_of(*words + "\n"), std::string("0x"), std::string()}) {
      const Result<evm::WalletStatement> bound =
          finish_binding(folder.path, folder.node, signature);
      REQUIRE_FALSE(bound);
      CHECK(bound.error().code == Errc::wallet_signature_invalid);
    }
    CHECK_FALSE(std::filesystem::exists(statement_file(folder.path)));
    CHECK(finish_binding(folder.path, folder.node, folder.signature_of(*words)).has_value());
  }

  TEST_CASE("a signature without words that wait for this node is refused") {
    const Folder folder;
    const Result<evm::WalletStatement> nothing =
        finish_binding(folder.path, folder.node, folder.signature_of("x"));
    REQUIRE_FALSE(nothing);
    CHECK(nothing.error().code == Errc::config_invalid);

    const Result<std::string> words = start_binding(folder.request());
    REQUIRE(words);
    NodeId other = folder.node;
    other[0] ^= 1;
    const Result<evm::WalletStatement> elsewhere =
        finish_binding(folder.path, other, folder.signature_of(*words));
    REQUIRE_FALSE(elsewhere);
    CHECK(elsewhere.error().code == Errc::config_invalid);
  }

  TEST_CASE("a mistyped wallet gets no words") {
    const Folder folder;
    BindRequest request = folder.request();
    request.wallet = "0x5AAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
    CHECK(start_binding(request).error().code == Errc::wallet_invalid);
    request = folder.request();
    request.domain = "Two Words";
    CHECK(start_binding(request).error().code == Errc::wallet_statement_invalid);
    CHECK(std::filesystem::is_empty(folder.path));
  }
}

}  // namespace farmesh::cli
