// Where a node that knows nobody begins: the addresses of `--bootstrap` and its environment.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include <farmesh/result.hpp>

namespace farmesh::discovery {

inline constexpr std::size_t kMaxBootstrapAddresses = 64;

struct BootstrapAddress {
  std::string dht;   // "HOST:PORT", asked by UDP
  std::string peer;  // as given, asked by TCP for the records it holds; empty for a UDP address
};

/// A list separated by commas or blanks; empty text is an empty list. Each address has a form of
/// net/tcp_address.hpp. Fails with address_invalid, which names the address and what is wrong
/// with it, the id of another network's node included.
Result<std::vector<BootstrapAddress>> parse_bootstrap(std::string_view list);

}  // namespace farmesh::discovery
