#include "net/tcp_address.hpp"

#include <charconv>

namespace farmesh::net {
namespace {

constexpr std::size_t kMaxHostName = 253;  // RFC 1035, in its textual form

Error invalid(std::string_view address) {
  return {Errc::address_invalid, std::string(address.substr(0, 100)) + " is not HOST:PORT"};
}

}  // namespace

Result<HostPort> parse_address(std::string_view address) {
  const std::size_t colon = address.rfind(':');
  if (colon == std::string_view::npos) return invalid(address);
  std::string_view host = address.substr(0, colon);
  const std::string_view port = address.substr(colon + 1);

  HostPort parsed;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), parsed.port);
  if (error != std::errc() || end != port.data() + port.size()) return invalid(address);

  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  // A v6 address without brackets would take its last group for the port.
  if (!bracketed && host.find(':') != std::string_view::npos) return invalid(address);
  if (host.empty() || host.size() > kMaxHostName) return invalid(address);
  if (host.find_first_of("[]/ \t\r\n") != std::string_view::npos) return invalid(address);
  parsed.host = host;
  return parsed;
}

std::string format_endpoint(const asio::ip::tcp::endpoint& endpoint) {
  const std::string host = endpoint.address().to_string();
  const std::string port = std::to_string(endpoint.port());
  return endpoint.address().is_v6() ? "[" + host + "]:" + port : host + ":" + port;
}

}  // namespace farmesh::net
