// Bytes that strangers keep for us: unreadable to them, and refused when they changed a bit.
//
// AES-256-GCM (OpenSSL inside) with a random nonce for each sealing: one key is good for 2^32 of
// them. Thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include <farmesh/result.hpp>

namespace farmesh {

class SealedBox {
 public:
  using Key = std::array<std::uint8_t, 32>;

  explicit SealedBox(const Key& key) : key_(key) {}

  /// `about` is not in the sealed bytes and must be the same to open them: it binds them to the
  /// place where they belong. 28 bytes longer than `plain`.
  std::string seal(std::string_view plain, std::string_view about) const;
  /// Fails with config_invalid: another key, another place, or not whole.
  Result<std::string> open(std::string_view sealed, std::string_view about) const;

 private:
  const Key key_;
};

}  // namespace farmesh
