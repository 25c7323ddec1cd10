// Vectors: those of the Web3 Secret Storage definition.
#include "evm/keystore.hpp"

#include <filesystem>

#include <doctest/doctest.h>
#include <unistd.h>

#include "base/digest.hpp"
#include "base/secret_file.hpp"
#include "support/temp_dir.hpp"
#include "unit/evm/support.hpp"

namespace farmesh::evm {
namespace {

constexpr std::string_view kPassword = "testpassword";
constexpr std::string_view kKey =
    "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d";

const std::string kPbkdf2 = R"({"crypto":{"cipher":"aes-128-ctr",
  "cipherparams":{"iv":"6087dab2f9fdbbfaddc31a909735c1e6"},
  "ciphertext":"5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46","kdf":"pbkdf2",
  "kdfparams":{"c":262144,"dklen":32,"prf":"hmac-sha256",
  "salt":"ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd"},
  "mac":"517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2"},
  "id":"3198bc9c-6672-5ab3-d995-4942343ae5b6","version":3})";

const std::string kScrypt = R"({"crypto":{"cipher":"aes-128-ctr",
  "cipherparams":{"iv":"83dbcc02d8ccb40e466191a123791e0e"},
  "ciphertext":"d172bf743a674da9cdad04534d56926ef8358534d458fffccd4e6ad2fbde479c","kdf":"scrypt",
  "kdfparams":{"dklen":32,"n":262144,"p":8,"r":1,
  "salt":"ab0c7876052600dd703518d6fc3fe8984592145b591fc8fb5c6d43190334ba19"},
  "mac":"2103ac29920d71da29f15d75b4a16dbe95cfd7ff8faea1056c33131d846e3097"},
  "id":"3198bc9c-6672-5ab3-d995-4942343ae5b6","version":3})";

constexpr ScryptCost kQuick{.n = 16, .r = 1, .p = 1};

std::string with(std::string text, std::string_view from, std::string_view to) {
  const std::size_t at = text.find(from);
  FARMESH_ASSERT(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

Errc failure(const std::string& json, std::string_view password = kPassword) {
  const Result<PrivateKey> opened = open_keystore(json, password);
  return opened ? Errc::ok : opened.error().code;
}

}  // namespace

TEST_SUITE("evm/keystore") {
  TEST_CASE("the definition's keystores open") {
    for (const std::string& json : {kPbkdf2, kScrypt}) {
      const Result<PrivateKey> opened = open_keystore(json, kPassword);
      REQUIRE(opened);
      CHECK(to_hex(opened->bytes()) == kKey);
      CHECK(to_lower_case(opened->address()) == "0x008aeeda4d805471df9b2a5b0f38a0c3bcba786b");
    }
  }

  TEST_CASE("what was sealed opens with its password and with no other") {
    const PrivateKey made = PrivateKey::generate();
    const std::string json = seal_keystore(made, "correct horse", kQuick);
    const Result<PrivateKey> opened = open_keystore(json, "correct horse");
    REQUIRE(opened);
    CHECK(opened->address() == made.address());
    CHECK(failure(json, "correct horses") == Errc::password_wrong);
    CHECK(failure(json, "") == Errc::password_wrong);
    CHECK(json.find(to_hex(made.bytes())) == std::string::npos);
  }

  TEST_CASE("a keystore that would cost too much is refused before it costs anything") {
    const std::string n = "\"n\":262144";
    for (const std::string_view costly :
         {"\"n\":1073741824", "\"n\":18446744073709551615", "\"n\":0", "\"n\":1", "\"n\":3",
          "\"n\":-2", "\"n\":2.0", "\"n\":\"262144\"", "\"n\":4194304"}) {
      CHECK(failure(with(kScrypt, n, costly)) == Errc::keystore_invalid);
    }
    CHECK(failure(with(kScrypt, "\"r\":1", "\"r\":1000000")) == Errc::keystore_invalid);
    CHECK(failure(with(kScrypt, "\"p\":8", "\"p\":4000000000")) == Errc::keystore_invalid);
    CHECK(failure(with(kScrypt, "\"p\":8", "\"p\":0")) == Errc::keystore_invalid);
    CHECK(failure(with(kPbkdf2, "262144", "4000000000")) == Errc::keystore_invalid);
    CHECK(failure(with(kPbkdf2, "262144", "0")) == Errc::keystore_invalid);
  }

  TEST_CASE("a damaged or unknown keystore is refused") {
    CHECK(failure("") == Errc::keystore_invalid);
    CHECK(failure("[]") == Errc::keystore_invalid);
    CHECK(failure("{\"version\":3}") == Errc::keystore_invalid);
    CHECK(failure(std::string(kMaxKeystoreBytes + 1, ' ')) == Errc::keystore_invalid);
    CHECK(failure(with(kPbkdf2, "\"version\":3", "\"version\":4")) == Errc::keystore_invalid);
    CHECK(failure(with(kPbkdf2, "aes-128-ctr", "aes-128-cbc")) == Errc::keystore_invalid);
    CHECK(failure(with(kPbkdf2, "\"pbkdf2\"", "\"argon2\"")) == Errc::keystore_invalid);
    CHECK(failure(with(kPbkdf2, "hmac-sha256", "hmac-sha512")) == Errc::keystore_invalid);
    CHECK(failure(with(kPbkdf2, "\"dklen\":32", "\"dklen\":16")) == Errc::keystore_invalid);
    CHECK(failure(with(kPbkdf2, "6087dab2", "6087dab")) == Errc::keystore_invalid);
    CHECK(failure(with(kPbkdf2, "5318b4d5", "5318b4d")) == Errc::keystore_invalid);
    CHECK(failure(with(kPbkdf2, "5318b4d5", "zz18b4d5")) == Errc::keystore_invalid);
    CHECK(failure(with(kPbkdf2, "ae3cd4e7", "ae3cd4e7x")) == Errc::keystore_invalid);
  }

  TEST_CASE("a keystore that names another address than its key's is refused") {
    const std::string json = seal_keystore(PrivateKey::generate(), "x", kQuick);
    const std::size_t at = json.find("\"address\":\"") + 11;
    std::string lying = json;
    lying[at] = lying[at] == '0' ? '1' : '0';
    CHECK(failure(lying, "x") == Errc::keystore_invalid);
  }

  TEST_CASE("keys come from private files") {
    const farmesh::test::TempDir folder;
    const PrivateKey made = PrivateKey::generate();
    REQUIRE(create_secret_file(folder.path() / "wallet.json", seal_keystore(made, "pw", kQuick)));
    REQUIRE(create_secret_file(folder.path() / "password", "pw\n"));
    const KeySource source{.keystore = folder.path() / "wallet.json",
                           .password_file = folder.path() / "password"};
    const Result<PrivateKey> loaded = load_key(source);
    REQUIRE(loaded);
    CHECK(loaded->address() == made.address());

    std::filesystem::permissions(folder.path() / "password", std::filesystem::perms::group_read,
                                 std::filesystem::perm_options::add);
    const Result<PrivateKey> refused = load_key(source);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::config_invalid);
    CHECK_FALSE(load_key(KeySource{}));
  }

  TEST_CASE("keys come from descriptors") {
    const auto pipe_with = [](std::string_view content) {
      int ends[2];
      REQUIRE(::pipe(ends) == 0);
      REQUIRE(::write(ends[1], content.data(), content.size()) ==
              static_cast<ssize_t>(content.size()));
      ::close(ends[1]);
      return ends[0];
    };
    const int good = pipe_with("0x" + std::string(kKey) + "\n");
    const Result<PrivateKey> loaded = load_key({.key_descriptor = good});
    ::close(good);
    REQUIRE(loaded);
    CHECK(to_hex(loaded->bytes()) == kKey);

    const int bad = pipe_with("not a key");
    const Result<PrivateKey> refused = load_key({.key_descriptor = bad});
    ::close(bad);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::config_invalid);
    CHECK(refused.error().detail.find("not a key") == std::string::npos);
  }
}

}  // namespace farmesh::evm
