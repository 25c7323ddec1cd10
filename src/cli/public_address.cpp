#include "cli/public_address.hpp"

#include <memory>

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "discovery/bootstrap_address.hpp"
#include "net/tcp_address.hpp"

namespace farmesh::cli {
namespace {

std::string joined(const std::string& host, std::uint16_t port) {
  const bool v6 = host.find(':') != std::string::npos;
  return (v6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

/// The numeric address of this machine on the way to `there`; empty when there is no way.
std::string own_address_towards(const net::HostPort& there) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* found = nullptr;
  const std::string port = std::to_string(there.port);
  if (::getaddrinfo(there.host.c_str(), port.c_str(), &hints, &found) != 0) return {};
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> list(found, ::freeaddrinfo);
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    const int socket = ::socket(one->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (socket < 0) continue;
    sockaddr_storage own{};
    socklen_t size = sizeof own;
    char host[NI_MAXHOST];
    const bool told = ::connect(socket, one->ai_addr, one->ai_addrlen) == 0 &&
                      ::getsockname(socket, reinterpret_cast<sockaddr*>(&own), &size) == 0 &&
                      ::getnameinfo(reinterpret_cast<sockaddr*>(&own), size, host, sizeof host,
                                    nullptr, 0, NI_NUMERICHOST) == 0;
    ::close(socket);
    if (told) return host;
  }
  return {};
}

}  // namespace

Result<std::string> public_address(const std::string& advertise, const std::string& listen,
                                   const DiscoveryOptions& discovery) {
  const Result<net::HostPort> at = net::parse_address(listen);
  if (!at) return at.error();
  const bool any = at->host == "0.0.0.0" || at->host == "::";
  if (!advertise.empty() && advertise != "auto") {
    if (net::parse_address(advertise)) return advertise;
    const std::string whole = joined(advertise, at->port);
    const Result<net::HostPort> with_port = net::parse_address(whole);
    if (!with_port) return with_port.error();
    return whole;
  }
  if (!any || !discovery.enabled()) return std::string();
  if (at->port == 0) {
    return {Errc::config_invalid, "--listen with a free port on every address: say --advertise"};
  }
  for (const std::string& text : discovery.bootstrap) {
    const auto addresses = discovery::parse_bootstrap(text);
    if (!addresses) return addresses.error();
    for (const discovery::BootstrapAddress& one : *addresses) {
      const Result<net::HostPort> there = net::parse_address(one.dht);
      const std::string own = there ? own_address_towards(*there) : std::string();
      if (!own.empty()) return joined(own, at->port);
    }
  }
  return {Errc::config_invalid, "no way to tell where others dial this node: say --advertise"};
}

}  // namespace farmesh::cli
