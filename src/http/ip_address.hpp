// Numeric addresses, and sets of them given as prefixes.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <farmesh/result.hpp>

struct sockaddr_storage;

namespace farmesh::http {

/// IPv4 is kept as IPv6 maps it (::ffff:a.b.c.d), so that one listener's peers compare equal.
struct IpAddress {
  std::array<std::uint8_t, 16> bytes{};

  static std::optional<IpAddress> parse(std::string_view text);
  static IpAddress of(const sockaddr_storage& address);

  bool is_v4() const noexcept;
  std::string to_string() const;
  /// What counts as one customer: the address itself, or an IPv6 /64.
  IpAddress neighbourhood() const noexcept;
  friend auto operator<=>(const IpAddress&, const IpAddress&) = default;
};

class IpSet {
 public:
  /// "10.0.0.0/8", "::1", … Fails with config_invalid.
  static Result<IpSet> parse(const std::vector<std::string>& prefixes);
  bool contains(const IpAddress& address) const noexcept;

 private:
  struct Prefix {
    IpAddress address;
    int bits;  // of 128
  };
  std::vector<Prefix> prefixes_;
};

/// The last of `forwarded` (X-Forwarded-For) that is no trusted proxy, going back from `peer`.
IpAddress client_address(const IpAddress& peer, std::string_view forwarded, const IpSet& trusted);

}  // namespace farmesh::http
