// Bytes that must not outlive their use: passwords and key material.
#pragma once

#include <filesystem>
#include <string_view>

#include "evm/bytes.hpp"

namespace farmesh::evm {

/// Overwrites memory in a way that the compiler keeps.
void wipe(std::span<std::uint8_t> bytes) noexcept;

/// Owns its bytes, never grows (growing would leave copies behind), wipes them when it goes.
class Secret {
 public:
  Secret() = default;
  explicit Secret(std::size_t size) : bytes_(size) {}
  explicit Secret(BytesView copied) : bytes_(copied.begin(), copied.end()) {}
  Secret(Secret&&) noexcept = default;
  Secret& operator=(Secret&& other) noexcept;
  ~Secret() { wipe(bytes_); }

  std::span<std::uint8_t> bytes() noexcept { return bytes_; }
  BytesView bytes() const noexcept { return bytes_; }
  std::string_view text() const noexcept {
    return {reinterpret_cast<const char*>(bytes_.data()), bytes_.size()};
  }
  std::size_t size() const noexcept { return bytes_.size(); }

 private:
  Bytes bytes_;
};

/// What a secret file or descriptor holds, without one newline at its end. Fails as
/// read_secret_file() of base/secret_file.hpp does.
Result<Secret> read_secret(const std::filesystem::path& file);
Result<Secret> read_secret(int descriptor);

}  // namespace farmesh::evm
