// No single network may crowd a route's candidates: addresses in one are cheap to come by.

#include <algorithm>
#include <array>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <arpa/inet.h>

#include "route/cost.hpp"

namespace farmesh::route {
namespace {

// Networks are numbers here, as ten thousand peers are counted for each plan: the kind of address
// above the bits that its hosts share. 0: none.
constexpr std::uint64_t kIpv4Kind = std::uint64_t{1} << 48;
constexpr std::uint64_t kIpv6Kind = std::uint64_t{2} << 48;

template <std::size_t N>
std::uint64_t first_bytes(const std::array<std::uint8_t, N>& ip, std::size_t count) {
  std::uint64_t bits = 0;
  for (std::size_t i = 0; i < count; ++i) bits = bits << 8 | ip[i];
  return bits;
}

std::uint64_t ipv4_network(const std::array<std::uint8_t, 4>& ip) {
  const bool is_private = ip[0] == 127 || ip[0] == 10 || (ip[0] == 192 && ip[1] == 168) ||
                          (ip[0] == 172 && ip[1] >= 16 && ip[1] < 32) ||
                          (ip[0] == 169 && ip[1] == 254);
  return is_private ? 0 : kIpv4Kind | first_bytes(ip, 3);
}

std::uint64_t ipv6_network(const std::array<std::uint8_t, 16>& ip) {
  const bool mapped = std::all_of(ip.begin(), ip.begin() + 10, [](auto b) { return b == 0; }) &&
                      ip[10] == 0xFF && ip[11] == 0xFF;
  if (mapped) return ipv4_network({ip[12], ip[13], ip[14], ip[15]});
  const bool is_loopback = std::all_of(ip.begin(), ip.end() - 1, [](auto b) { return b == 0; });
  const bool is_private = (ip[0] & 0xFE) == 0xFC || (ip[0] == 0xFE && (ip[1] & 0xC0) == 0x80);
  return is_loopback || is_private ? 0 : kIpv6Kind | first_bytes(ip, 6);
}

/// Of "HOST:PORT", "HOST:PORT/p2p/ID" and "/ip4/HOST/tcp/PORT…".
std::string_view host_of(std::string_view address) {
  if (address.starts_with('/')) {
    const std::size_t begin = address.find('/', 1);
    if (begin == std::string_view::npos) return {};
    return address.substr(begin + 1, address.find('/', begin + 1) - begin - 1);
  }
  const std::string_view place = address.substr(0, address.find('/'));
  return place.substr(0, place.rfind(':'));
}

std::uint64_t network_number(std::string_view address) {
  std::string_view host = host_of(address);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  std::array<char, INET6_ADDRSTRLEN> text{};  // ends in a zero
  if (host.empty() || host.size() >= text.size()) return 0;
  std::copy(host.begin(), host.end(), text.begin());
  std::array<std::uint8_t, 4> v4{};
  if (inet_pton(AF_INET, text.data(), v4.data()) == 1) return ipv4_network(v4);
  std::array<std::uint8_t, 16> v6{};
  if (inet_pton(AF_INET6, text.data(), v6.data()) == 1) return ipv6_network(v6);
  return 0;
}

/// The most that may stay of each network, so that none has more than a third of all.
std::uint32_t quota(const std::vector<std::uint32_t>& counts) {
  const auto fits = [&counts](std::uint32_t most) {
    std::uint64_t all = 0;
    for (const std::uint32_t count : counts) all += std::min(count, most);
    return std::uint64_t{3} * most <= all;
  };
  std::uint32_t low = 1;  // one of each stays, whatever that makes of it
  std::uint32_t high = *std::max_element(counts.begin(), counts.end());
  while (low < high) {
    const std::uint32_t middle = low + (high - low + 1) / 2;
    if (fits(middle)) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

/// Of candidates, by number; one without a network is a network of its own.
struct Networks {
  std::vector<std::uint32_t> of;
  std::uint32_t count = 0;
};

Networks networks_of(const std::vector<Candidate>& candidates, std::span<const PeerView> peers) {
  Networks networks;
  networks.of.reserve(candidates.size());
  std::unordered_map<std::uint64_t, std::uint32_t> numbers;
  numbers.reserve(candidates.size());
  for (const Candidate& candidate : candidates) {
    const PeerView& peer = peers[candidate.index];
    const std::uint64_t network =
        network_number(peer.endpoint.empty() ? peer.address : peer.endpoint);
    const std::uint32_t number =
        network == 0 ? networks.count : numbers.emplace(network, networks.count).first->second;
    networks.of.push_back(number);
    networks.count = std::max(networks.count, number + 1);
  }
  return networks;
}

/// How many of each network there are; `taken` is all zero before and after.
std::vector<std::uint32_t> counts_in(const std::vector<std::uint32_t>& holders,
                                     const Networks& networks, std::vector<std::uint32_t>& taken) {
  std::vector<std::uint32_t> counts;
  for (const std::uint32_t c : holders) ++taken[networks.of[c]];
  for (const std::uint32_t c : holders) {
    if (taken[networks.of[c]] > 0) counts.push_back(std::exchange(taken[networks.of[c]], 0));
  }
  return counts;
}

std::vector<std::int64_t> prices_of(const std::vector<Candidate>& candidates) {
  std::vector<std::int64_t> prices;
  prices.reserve(candidates.size());
  for (const Candidate& it : candidates) {
    prices.push_back(it.layer.ns + (it.entry.ns + it.way_in + it.way_out) / it.span.size());
  }
  return prices;
}

}  // namespace

std::string network_of(const std::string& address) {
  std::string name;
  for (std::uint64_t number = network_number(address); number != 0; number >>= 8) {
    name += static_cast<char>(number & 0xFF);
  }
  return name;
}

void limit_crowds(Graph& graph, std::span<const PeerView> peers) {
  const std::vector<Candidate>& candidates = graph.candidates;
  const Networks networks = networks_of(candidates, peers);
  if (networks.count < 2 || networks.count == candidates.size()) return;

  std::vector<std::vector<std::uint32_t>> holders(graph.layers.size());
  for (std::uint32_t c = 0; c < candidates.size(); ++c) {
    for (std::uint32_t layer = candidates[c].span.begin; layer < candidates[c].span.end; ++layer) {
      holders[layer - graph.layers.begin].push_back(c);
    }
  }
  std::vector<std::int64_t> price;  // of a layer, if it ran all it may; worked out when needed
  std::vector<std::uint32_t> taken(networks.count, 0);
  for (std::uint32_t at = 0; at < holders.size(); ++at) {
    std::vector<std::uint32_t>& here = holders[at];
    const std::vector<std::uint32_t> counts = counts_in(here, networks, taken);
    // As a rule nobody crowds.
    if (counts.size() < 2 || *std::max_element(counts.begin(), counts.end()) * 3 <= here.size()) {
      continue;
    }
    if (price.empty()) price = prices_of(candidates);
    std::stable_sort(here.begin(), here.end(), [&](std::uint32_t a, std::uint32_t b) {
      return std::pair(candidates[a].layer.banned_layers, price[a]) <
             std::pair(candidates[b].layer.banned_layers, price[b]);
    });
    const std::uint32_t most = quota(counts);
    for (const std::uint32_t c : here) {
      if (++taken[networks.of[c]] > most) graph.closed_at(c, graph.layers.begin + at) = 1;
    }
    for (const std::uint32_t c : here) taken[networks.of[c]] = 0;
  }
}

}  // namespace farmesh::route
