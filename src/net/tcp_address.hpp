// "HOST:PORT" and "[v6]:PORT" taken apart, and endpoints put back into that form.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <asio/ip/tcp.hpp>

#include <farmesh/result.hpp>

namespace farmesh::net {

struct HostPort {
  std::string host;  // without brackets; never empty
  std::uint16_t port = 0;
};

/// Fails with address_invalid.
Result<HostPort> parse_address(std::string_view address);

std::string format_endpoint(const asio::ip::tcp::endpoint& endpoint);

}  // namespace farmesh::net
