#include "discovery/bootstrap_address.hpp"

#include "net/tcp_address.hpp"

namespace farmesh::discovery {
namespace {

constexpr std::string_view kSeparators = ", \t\r\n";

std::string host_and_port(const net::HostPort& parsed) {
  const bool v6 = parsed.host.find(':') != std::string::npos;
  const std::string host = v6 ? "[" + parsed.host + "]" : parsed.host;
  return host + ":" + std::to_string(parsed.port);
}

}  // namespace

Result<std::vector<BootstrapAddress>> parse_bootstrap(std::string_view list) {
  std::vector<BootstrapAddress> addresses;
  for (;;) {
    const std::size_t begin = list.find_first_not_of(kSeparators);
    if (begin == std::string_view::npos) return addresses;
    list.remove_prefix(begin);
    const std::string_view one = list.substr(0, list.find_first_of(kSeparators));
    list.remove_prefix(one.size());

    const Result<net::HostPort> parsed = net::parse_address(one);
    if (!parsed) return parsed.error();
    if (parsed->port == 0) {
      return {Errc::address_invalid, std::string(one.substr(0, 100)) + " has no port"};
    }
    if (addresses.size() == kMaxBootstrapAddresses) {
      return {Errc::address_invalid,
              "more bootstrap addresses than " + std::to_string(kMaxBootstrapAddresses)};
    }
    addresses.push_back({host_and_port(*parsed), parsed->udp ? std::string() : std::string(one)});
  }
}

}  // namespace farmesh::discovery
