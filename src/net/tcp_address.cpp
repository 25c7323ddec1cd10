#include "net/tcp_address.hpp"

#include <charconv>
#include <utility>

namespace farmesh::net {
namespace {

constexpr std::size_t kMaxHostName = 253;  // RFC 1035, in its textual form
constexpr std::string_view kIdPart = "/p2p/";

Error invalid(std::string_view address) {
  return {Errc::address_invalid,
          std::string(address.substr(0, 100)) + " is neither HOST:PORT nor /ip4/HOST/tcp/PORT"};
}

bool read_port(std::string_view text, std::uint16_t& port) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  return error == std::errc() && end == text.data() + text.size();
}

bool is_host(std::string_view host) {
  return !host.empty() && host.size() <= kMaxHostName &&
         host.find_first_of("[]/ \t\r\n") == std::string_view::npos;
}

/// What stands before the first slash; `text` keeps what follows it.
std::string_view take_part(std::string_view& text) {
  const std::size_t slash = text.find('/');
  const std::string_view part = text.substr(0, slash);
  text.remove_prefix(slash == std::string_view::npos ? text.size() : slash + 1);
  return part;
}

// "HOST:PORT" or "[v6]:PORT".
bool read_plain(std::string_view text, HostPort& parsed) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos || !read_port(text.substr(colon + 1), parsed.port)) {
    return false;
  }
  std::string_view host = text.substr(0, colon);
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  // A v6 address without brackets would take its last group for the port.
  if (!bracketed && host.find(':') != std::string_view::npos) return false;
  parsed.host = host;
  return is_host(host);
}

// "/ip4/HOST/tcp/PORT", without the slash that it begins with.
bool read_parts(std::string_view text, HostPort& parsed) {
  const std::string_view kind = take_part(text);
  parsed.host = take_part(text);
  const std::string_view protocol = take_part(text);
  parsed.udp = protocol == "udp";
  return (kind == "ip4" || kind == "ip6" || kind == "dns" || kind == "dns4" || kind == "dns6") &&
         (protocol == "tcp" || protocol == "udp") && is_host(parsed.host) &&
         read_port(text, parsed.port);
}

Result<HostPort> parse_direct(std::string_view address) {
  HostPort parsed;
  std::string_view place = address;
  if (const std::size_t at = address.find(kIdPart); at != std::string_view::npos) {
    place = address.substr(0, at);
    const Result<NodeId> id = parse_node_id(address.substr(at + kIdPart.size()));
    if (!id) return id.error();
    parsed.id = *id;
  }
  const bool valid =
      place.starts_with('/') ? read_parts(place.substr(1), parsed) : read_plain(place, parsed);
  if (!valid) return invalid(address);
  return parsed;
}

/// `at`: where the circuit begins.
Result<HostPort> parse_circuit(std::string_view address, std::size_t at) {
  const std::string_view target = address.substr(at + kCircuit.size());
  if (!target.starts_with(kIdPart)) {
    return {Errc::address_invalid,
            std::string(address.substr(0, 100)) + " does not say which node is behind the relay"};
  }
  const Result<NodeId> node = parse_node_id(target.substr(kIdPart.size()));
  if (!node) return node.error();
  Result<HostPort> parsed = parse_direct(address.substr(0, at));
  if (!parsed) return parsed.error();
  parsed->id = *node;
  parsed->relay = address.substr(0, at);
  return parsed;
}

}  // namespace

std::string circuit_address(const std::string& relay, const NodeId& node) {
  return relay + std::string(kCircuit) + std::string(kIdPart) + to_string(node);
}

Result<HostPort> parse_address(std::string_view address) {
  if (const std::size_t at = address.find(kCircuit); at != std::string_view::npos) {
    return parse_circuit(address, at);
  }
  return parse_direct(address);
}

std::string format_endpoint(const asio::ip::tcp::endpoint& endpoint) {
  const std::string host = endpoint.address().to_string();
  const std::string port = std::to_string(endpoint.port());
  return endpoint.address().is_v6() ? "[" + host + "]:" + port : host + ":" + port;
}

}  // namespace farmesh::net
