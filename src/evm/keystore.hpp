// Keys at rest: the encrypted JSON of web3 wallets, version 3 (scrypt or PBKDF2, AES-128-CTR).
//
// A key is never a flag or an environment variable: it comes from a file or a descriptor.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "evm/signature.hpp"

namespace farmesh::evm {

/// What a keystore may ask of the machine: above this it is refused, not computed.
inline constexpr std::uint64_t kMaxScryptBytes = 512ULL << 20;  // 128 · n · r
inline constexpr std::uint64_t kMaxScryptWork = 1ULL << 22;     // n · r · p: two seconds
inline constexpr std::uint64_t kMaxPbkdf2Rounds = 2'000'000;
inline constexpr std::size_t kMaxKeystoreBytes = 16 * 1024;

/// Fails with keystore_invalid, password_wrong.
Result<PrivateKey> open_keystore(std::string_view json, std::string_view password);

struct ScryptCost {
  std::uint64_t n = 1U << 18;  // what wallets use: 256 MiB and about a second
  std::uint64_t r = 8;
  std::uint64_t p = 1;
};

/// The keystore's JSON. `cost` lies within the bounds above.
std::string seal_keystore(const PrivateKey& key, std::string_view password, ScryptCost cost = {});

/// A key as 64 hexadecimal digits, with or without 0x. Fails with config_invalid.
Result<PrivateKey> parse_private_key(std::string_view text);

/// Where a key comes from: a keystore and its password's file, or a descriptor that holds the key.
struct KeySource {
  std::filesystem::path keystore;
  std::filesystem::path password_file;
  int key_descriptor = -1;       // >= 0: 64 hexadecimal digits, instead of a keystore
  int password_descriptor = -1;  // >= 0: instead of password_file
};

/// Fails with config_invalid, keystore_invalid, password_wrong, io_error.
Result<PrivateKey> load_key(const KeySource& source);

}  // namespace farmesh::evm
