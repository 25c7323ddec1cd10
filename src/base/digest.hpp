// SHA-256 and keyed hashes (OpenSSL inside), random bytes, hexadecimal.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.hpp"

namespace farmesh {

using Sha256Digest = std::array<std::uint8_t, 32>;

Sha256Digest sha256(ByteView data);

/// SHA-256 over data given in parts.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  void update(ByteView data);
  Sha256Digest finish();  // call once

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// HMAC-SHA-256 (RFC 2104).
Sha256Digest hmac_sha256(ByteView key, ByteView data);

/// Fills with bytes from the operating system's generator; aborts if it fails.
void random_bytes(std::span<std::uint8_t> out);

/// 53 random bits, for sampling: readers of JSON that know only doubles can give them back.
std::uint64_t random_seed();

std::string to_hex(std::span<const std::uint8_t> bytes);
/// Nothing unless `hex` has exactly 2 * out.size() hexadecimal digits.
bool from_hex(std::string_view hex, std::span<std::uint8_t> out);

}  // namespace farmesh
