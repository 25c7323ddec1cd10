#include "http/ip_address.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "http/headers.hpp"

namespace farmesh::http {
namespace {

constexpr std::array<std::uint8_t, 12> kMappedV4 = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};

IpAddress mapped(const in_addr& v4) {
  IpAddress address;
  std::ranges::copy(kMappedV4, address.bytes.begin());
  std::memcpy(address.bytes.data() + 12, &v4, 4);
  return address;
}

}  // namespace

std::optional<IpAddress> IpAddress::parse(std::string_view text) {
  const std::string terminated(text);
  in_addr v4;
  if (inet_pton(AF_INET, terminated.c_str(), &v4) == 1) return mapped(v4);
  IpAddress address;
  if (inet_pton(AF_INET6, terminated.c_str(), address.bytes.data()) == 1) return address;
  return std::nullopt;
}

IpAddress IpAddress::of(const sockaddr_storage& address) {
  if (address.ss_family == AF_INET) {
    return mapped(reinterpret_cast<const sockaddr_in&>(address).sin_addr);
  }
  IpAddress out;
  if (address.ss_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address).sin6_addr;
    std::memcpy(out.bytes.data(), &v6, out.bytes.size());
  }
  return out;
}

bool IpAddress::is_v4() const noexcept {
  return std::equal(kMappedV4.begin(), kMappedV4.end(), bytes.begin());
}

std::string IpAddress::to_string() const {
  char text[INET6_ADDRSTRLEN] = "";
  inet_ntop(is_v4() ? AF_INET : AF_INET6, bytes.data() + (is_v4() ? 12 : 0), text, sizeof(text));
  return text;
}

IpAddress IpAddress::neighbourhood() const noexcept {
  IpAddress out = *this;
  if (!is_v4()) std::fill(out.bytes.begin() + 8, out.bytes.end(), std::uint8_t{0});
  return out;
}

Result<IpSet> IpSet::parse(const std::vector<std::string>& prefixes) {
  IpSet set;
  for (const std::string& text : prefixes) {
    const std::size_t slash = std::min(text.find('/'), text.size());
    const auto address = IpAddress::parse(std::string_view(text).substr(0, slash));
    if (!address) return Error{Errc::config_invalid, "no address: " + text};
    const int most = address->is_v4() ? 32 : 128;
    int bits = most;
    if (slash < text.size()) {
      const char* end = text.data() + text.size();
      const auto [stop, problem] = std::from_chars(text.data() + slash + 1, end, bits);
      if (problem != std::errc() || stop != end || bits < 0 || bits > most) {
        return Error{Errc::config_invalid, "no prefix length: " + text};
      }
    }
    set.prefixes_.push_back({*address, bits + 128 - most});
  }
  return set;
}

bool IpSet::contains(const IpAddress& address) const noexcept {
  return std::ranges::any_of(prefixes_, [&](const Prefix& prefix) {
    for (int bit = 0; bit < prefix.bits; bit += 8) {
      const auto byte = static_cast<std::size_t>(bit / 8);
      const int rest = std::min(prefix.bits - bit, 8);
      const auto mask = static_cast<std::uint8_t>(0xFF00 >> rest);
      if ((address.bytes[byte] ^ prefix.address.bytes[byte]) & mask) return false;
    }
    return true;
  });
}

IpAddress client_address(const IpAddress& peer, std::string_view forwarded, const IpSet& trusted) {
  IpAddress client = peer;
  while (trusted.contains(client) && !forwarded.empty()) {
    const std::size_t comma = forwarded.rfind(',');
    const std::size_t begin = comma == std::string_view::npos ? 0 : comma + 1;
    const auto before = IpAddress::parse(trim(forwarded.substr(begin)));
    if (!before) break;  // a proxy that writes nonsense: its own address is all we know
    client = *before;
    forwarded = forwarded.substr(0, begin == 0 ? 0 : comma);
  }
  return client;
}

}  // namespace farmesh::http
