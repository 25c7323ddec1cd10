// No single network may crowd a route's candidates: addresses in one are cheap to come by.

#include <algorithm>
#include <array>
#include <numeric>
#include <unordered_map>

#include <arpa/inet.h>

#include "route/cost.hpp"

namespace farmesh::route {
namespace {

std::string ipv4_network(const std::array<std::uint8_t, 4>& ip) {
  const bool is_private = ip[0] == 127 || ip[0] == 10 || (ip[0] == 192 && ip[1] == 168) ||
                          (ip[0] == 172 && ip[1] >= 16 && ip[1] < 32) ||
                          (ip[0] == 169 && ip[1] == 254);
  if (is_private) return {};
  return std::string(ip.begin(), ip.begin() + 3);
}

std::string ipv6_network(const std::array<std::uint8_t, 16>& ip) {
  const bool mapped = std::all_of(ip.begin(), ip.begin() + 10, [](auto b) { return b == 0; }) &&
                      ip[10] == 0xFF && ip[11] == 0xFF;
  if (mapped) return ipv4_network({ip[12], ip[13], ip[14], ip[15]});
  const bool is_loopback = std::all_of(ip.begin(), ip.end() - 1, [](auto b) { return b == 0; });
  const bool is_private = (ip[0] & 0xFE) == 0xFC || (ip[0] == 0xFE && (ip[1] & 0xC0) == 0x80);
  if (is_loopback || is_private) return {};
  return std::string(ip.begin(), ip.begin() + 6);
}

/// Of "HOST:PORT", "HOST:PORT/p2p/ID" and "/ip4/HOST/tcp/PORT…".
std::string host_of(const std::string& address) {
  if (address.starts_with('/')) {
    const std::size_t begin = address.find('/', 1);
    if (begin == std::string::npos) return {};
    return address.substr(begin + 1, address.find('/', begin + 1) - begin - 1);
  }
  const std::string place = address.substr(0, address.find('/'));
  return place.substr(0, place.rfind(':'));
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

}  // namespace

std::string network_of(const std::string& address) {
  std::string host = host_of(address);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  std::array<std::uint8_t, 4> v4{};
  if (inet_pton(AF_INET, host.c_str(), v4.data()) == 1) return ipv4_network(v4);
  std::array<std::uint8_t, 16> v6{};
  if (inet_pton(AF_INET6, host.c_str(), v6.data()) == 1) return ipv6_network(v6);
  return {};
}

void limit_crowds(Graph& graph, std::span<const PeerView> peers) {
  const std::vector<Candidate>& candidates = graph.candidates;
  // Networks by number; a candidate without one is a network of its own.
  std::unordered_map<std::string, std::uint32_t> numbers;
  std::vector<std::uint32_t> network(candidates.size());
  std::uint32_t networks = 0;
  for (std::size_t c = 0; c < candidates.size(); ++c) {
    const PeerView& peer = peers[candidates[c].index];
    const std::string name = network_of(peer.endpoint.empty() ? peer.address : peer.endpoint);
    network[c] = name.empty() ? networks : numbers.emplace(name, networks).first->second;
    networks = std::max(networks, network[c] + 1);
  }
  if (networks < 2 || networks == candidates.size()) return;

  std::vector<std::uint32_t> ranked(candidates.size());
  std::iota(ranked.begin(), ranked.end(), 0u);
  std::vector<std::int64_t> price(candidates.size());  // of a layer, if it ran all it may
  for (std::size_t c = 0; c < candidates.size(); ++c) {
    const Candidate& it = candidates[c];
    price[c] = it.layer.ns + (it.entry.ns + it.way_in + it.way_out) / it.span.size();
  }
  std::stable_sort(ranked.begin(), ranked.end(), [&](std::uint32_t a, std::uint32_t b) {
    return std::pair(candidates[a].layer.banned_layers, price[a]) <
           std::pair(candidates[b].layer.banned_layers, price[b]);
  });

  std::vector<std::vector<std::uint32_t>> holders(graph.layers.size());  // best first
  for (const std::uint32_t c : ranked) {
    for (std::uint32_t layer = candidates[c].span.begin; layer < candidates[c].span.end; ++layer) {
      holders[layer - graph.layers.begin].push_back(c);
    }
  }
  std::vector<std::uint32_t> taken(networks, 0);
  for (std::uint32_t at = 0; at < holders.size(); ++at) {
    for (const std::uint32_t c : holders[at]) ++taken[network[c]];
    std::vector<std::uint32_t> counts;
    for (const std::uint32_t c : holders[at]) {
      if (taken[network[c]] > 0) counts.push_back(std::exchange(taken[network[c]], 0));
    }
    if (counts.size() < 2) continue;
    const std::uint32_t most = quota(counts);
    for (const std::uint32_t c : holders[at]) {
      if (++taken[network[c]] > most) graph.closed_at(c, graph.layers.begin + at) = 1;
    }
    for (const std::uint32_t c : holders[at]) taken[network[c]] = 0;
  }
}

}  // namespace farmesh::route
