// Chooses the chain of peers for a session: a pure function of what is known about them.
//
// Takes a view from driver/, gives it a route: spans that cover every layer once, in order, at
// the least expected time a token. docs/routing.md explains the cost model.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <farmesh/result.hpp>

#include "base/node_id.hpp"
#include "base/types.hpp"
#include "wire/messages.hpp"

namespace farmesh::route {

inline constexpr std::uint32_t kUnknownRoom = ~0u;

/// What is known of one peer. Means are exponentially weighted by whoever measured; ages count
/// from the last sample. A zero mean: not measured.
struct PeerView {
  std::string address;
  std::string endpoint;  // numeric, where it was met last; empty: as its address says
  Span span;             // layers it holds
  NodeId node_id{};      // for whoever chooses among nodes; not looked at here
  std::string numerics_class;
  bool reachable_by_peers = true;  // false: an in-process stage; it can only come first
  bool relayed = false;            // its frames pass another peer
  std::string place;               // such as "eu-west"; empty: not told

  Duration round_trip{};  // driver to peer
  Duration round_trip_age{};
  Duration layer_time{};  // one row through one layer, on real steps
  Duration layer_time_age{};
  std::uint32_t layer_samples = 0;  // steps behind layer_time
  Duration claimed_layer_time{};    // advertised; can only make it slower than an unknown one

  std::uint32_t queued_rows = 0;
  std::uint32_t free_tokens = kUnknownRoom;  // of KV cache
  Duration load_age{};                       // of the two above

  double price = 0;       // of a layer and token, in any unit that all peers share
  double reputation = 1;  // 0 to 1
  bool banned = false;    // failed lately; used only if no other covers a layer
};

/// A measured way from one peer of the view to another, by index.
struct LinkView {
  std::uint32_t from = 0;
  std::uint32_t to = 0;
  Duration way{};  // one way
  Duration age{};
};

struct Policy {
  std::string numerics_class;        // empty: any, but one for the whole route
  std::uint32_t session_tokens = 0;  // peers known to have less room are out; 0: not looked at
  std::string place;                 // of the driver; empty: not known

  Duration unknown_round_trip = std::chrono::milliseconds(50);
  Duration near_round_trip = std::chrono::milliseconds(10);  // unknown, within one place
  Duration unknown_layer_time = std::chrono::milliseconds(1);
  Duration hop_overhead = std::chrono::microseconds(100);
  Duration relay_detour = std::chrono::milliseconds(30);  // of an unknown way to a relayed peer
  Duration relay_toll = std::chrono::milliseconds(2);     // of any: it is shared, and may be lost

  Duration half_life = std::chrono::minutes(5);       // of a measurement's weight
  Duration load_lifetime = std::chrono::seconds(30);  // then queue and room are unknown
  std::uint32_t trusted_samples = 8;                  // until then a fast peer counts less so

  Duration distrust = std::chrono::milliseconds(20);  // a hop over a peer of no reputation
  Duration time_per_price{};  // a token may take so much longer to save one unit of price
};

using Route = std::vector<wire::Hop>;

/// Fails with no_route, naming the first layer that nobody covers, or with no_cache_space when
/// room is all that lacks. Deterministic: equal views give equal routes; ties go to fewer hops,
/// then to the earlier peer of the view. Of the peers that may run a layer at most a third come
/// from one network (IPv4 /24, IPv6 /48) while others hold it.
Result<Route> plan(std::span<const PeerView> peers, Span layers, const Policy& policy,
                   std::span<const LinkView> links = {});

/// Names the network of an address: its IPv4 /24 or IPv6 /48. Empty for names, which say nothing of
/// it, and for loopback and private addresses, which nobody on the internet can have many of.
std::string network_of(const std::string& address);

/// What plan() takes figures for: measurements lose weight with age, down to the unknown.
Duration expected_round_trip(const PeerView& peer, const Policy& policy);
Duration expected_layer_time(const PeerView& peer, const Policy& policy);
/// One way between two peers, from a fresh link or from their ways to the driver.
Duration expected_way(const PeerView& from, const PeerView& to, const LinkView* link,
                      const Policy& policy);

/// What a token is expected to take through `route`, price and reputation counted in. Hops over
/// peers outside the view count as unknown ones.
Duration expected_time(std::span<const PeerView> peers, const Route& route, const Policy& policy,
                       std::span<const LinkView> links = {});

}  // namespace farmesh::route
