#include "identity/node_key.hpp"

#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <sys/stat.h>

#include "base/digest.hpp"
#include "support/temp_dir.hpp"

using namespace farmesh;
using namespace farmesh::identity;

namespace {

template <std::size_t N>
std::array<std::uint8_t, N> hex(std::string_view digits) {
  std::array<std::uint8_t, N> bytes{};
  REQUIRE(from_hex(digits, bytes));
  return bytes;
}

ByteView view(std::string_view text) { return as_view(text); }

unsigned mode_of(const std::filesystem::path& file) {
  struct stat about {};
  REQUIRE(::stat(file.c_str(), &about) == 0);
  return about.st_mode & 0777u;
}

std::string content_of(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

TEST_SUITE("identity/node_key") {
  TEST_CASE("keys and signatures are those of RFC 8032") {
    struct Vector {
      std::string_view seed, key, message, signature;
    };
    const Vector vectors[] = {
        {"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
         "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
         "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701"
         "cf9b46bd25bf5f0595bbe24655141438e7a100b"},
        {"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
         "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
         "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d"
         "0f11d8c387b2eaeb4302aeeb00d291612bb0c00"},
    };
    for (const Vector& vector : vectors) {
      const NodeKey key = NodeKey::from_seed(hex<32>(vector.seed));
      CHECK(to_hex(key.public_key()) == vector.key);
      std::vector<std::uint8_t> message(vector.message.size() / 2);
      REQUIRE(from_hex(vector.message, message));
      const Signature signature = key.sign_bare(std::as_bytes(std::span(message)));
      CHECK(to_hex(signature) == vector.signature);
      CHECK(verify_bare(key.public_key(), std::as_bytes(std::span(message)), signature));
    }
  }

  TEST_CASE("a node's id is the SHA-256 of its public key") {
    const NodeKey key = NodeKey::generate();
    CHECK(key.id() == sha256(std::as_bytes(std::span(key.public_key()))));
    CHECK(key.id() == node_id_of(key.public_key()));
    CHECK(key.id() != NodeKey::generate().id());
  }

  TEST_CASE("a signature holds for its message, domain and key only") {
    const NodeKey key = NodeKey::generate();
    const Signature signature = key.sign("farmesh record v1", view("layers 0 to 11"));
    CHECK(verify(key.public_key(), "farmesh record v1", view("layers 0 to 11"), signature));

    CHECK_FALSE(verify(key.public_key(), "farmesh record v1", view("layers 0 to 12"), signature));
    CHECK_FALSE(verify(key.public_key(), "farmesh record v2", view("layers 0 to 11"), signature));
    CHECK_FALSE(verify(NodeKey::generate().public_key(), "farmesh record v1",
                       view("layers 0 to 11"), signature));
    Signature bent = signature;
    bent[40] ^= 1;
    CHECK_FALSE(verify(key.public_key(), "farmesh record v1", view("layers 0 to 11"), bent));
  }

  TEST_CASE("where a domain ends is part of what is signed") {
    const NodeKey key = NodeKey::generate();
    const Signature signature = key.sign("farmesh record", view(" v1 text"));
    CHECK_FALSE(verify(key.public_key(), "farmesh record v1", view(" text"), signature));
    CHECK_FALSE(verify_bare(key.public_key(), view("farmesh record v1 text"), signature));
  }

  TEST_CASE("bytes that are no point of the curve are a key that verifies nothing") {
    PublicKey key;
    key.fill(0xff);
    CHECK_FALSE(verify(key, "farmesh record v1", view("text"), Signature{}));
  }

  TEST_CASE("a key is made once, for its owner's eyes only, and found again") {
    const test::TempDir folder;
    const auto file = folder.path() / "deeper" / "still" / "node.key";
    const Result<NodeKey> made = NodeKey::load_or_create(file);
    REQUIRE(made);
    CHECK(mode_of(file) == 0600);
    CHECK(mode_of(file.parent_path()) == 0700);
    CHECK(content_of(file).starts_with("-----BEGIN PRIVATE KEY-----\n"));
    CHECK(std::distance(std::filesystem::directory_iterator(file.parent_path()), {}) == 1);

    const Result<NodeKey> again = NodeKey::load_or_create(file);
    REQUIRE(again);
    CHECK(again->id() == made->id());
    CHECK(NodeKey::load(file)->id() == made->id());
  }

  TEST_CASE("processes that start at once end up with one key") {
    const test::TempDir folder;
    const auto file = folder.path() / "node.key";
    std::vector<NodeId> ids(8);
    std::vector<std::thread> starts;
    for (NodeId& id : ids) {
      starts.emplace_back([&id, &file] { id = NodeKey::load_or_create(file)->id(); });
    }
    for (std::thread& start : starts) start.join();
    for (const NodeId& id : ids) CHECK(id == ids[0]);
  }

  TEST_CASE("a key that others can read is refused, with what to do about it") {
    const test::TempDir folder;
    const auto file = folder.path() / "node.key";
    REQUIRE(NodeKey::load_or_create(file));
    for (const mode_t mode : {0640, 0604, 0660}) {
      REQUIRE(::chmod(file.c_str(), mode) == 0);
      const Result<NodeKey> key = NodeKey::load_or_create(file);
      REQUIRE_FALSE(key);
      CHECK(key.error().code == Errc::config_invalid);
      CHECK(key.error().detail.find("chmod 600") != std::string::npos);
    }
  }

  TEST_CASE("a file that holds no key of ours is refused and left as it is") {
    const test::TempDir folder;
    const auto refused = [&](std::string_view content) {
      const auto file = folder.write("node.key", content);
      REQUIRE(::chmod(file.c_str(), 0600) == 0);
      const Result<NodeKey> key = NodeKey::load_or_create(file);
      CHECK(content_of(file) == content);
      return !key && key.error().code == Errc::config_invalid;
    };
    CHECK(refused(""));
    CHECK(refused("-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2Vw\n-----END PRIVATE KEY-----\n"));
    CHECK(refused(std::string(20'000, 'x')));
    // X25519: a key, and of the same size, but not for signatures.
    CHECK(
        refused("-----BEGIN PRIVATE KEY-----\n"
                "MC4CAQAwBQYDK2VuBCIEIKjOWqD4L3uyNw3XWcfpt1HtnVjFWEXbXCwvSJGyBvlc\n"
                "-----END PRIVATE KEY-----\n"));
  }

  TEST_CASE("a folder or a missing file is no key") {
    const test::TempDir folder;
    CHECK(NodeKey::load(folder.path()).error().code == Errc::config_invalid);
    CHECK(NodeKey::load(folder.path() / "absent").error().code == Errc::config_invalid);
  }
}
