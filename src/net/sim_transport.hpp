// Links inside one process: a plain pipe for a local stage, and a simulated network of named
// hosts with delay, seeded jitter, partitions and death.
//
// The same Peer, Driver and Connection code runs over it as over TCP; with SimClock a whole
// swarm runs deterministically on one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "net/link.hpp"

namespace farmesh::net {

/// Two ends of one in-process link: what one sends, the other gets, without copies or delay.
/// `id` is that of the process, and of both ends; without it, what they say of themselves counts.
std::pair<std::shared_ptr<Link>, std::shared_ptr<Link>> make_pipe(Clock& clock, std::string name_a,
                                                                  std::string name_b,
                                                                  LinkLimits limits = {},
                                                                  const NodeId& id = {});

struct SimConditions {
  Duration latency{};           // one way, every link
  Duration jitter{};            // uniform in [0, jitter], order kept
  double bytes_per_second = 0;  // per link and direction; 0: no limit
  double loss = 0;              // of frames, 0 to 1: sent again later, as TCP would
};

struct SimWorld;

class SimNetwork {
 public:
  SimNetwork(Clock& clock, SimConditions conditions, std::uint64_t seed);
  ~SimNetwork();

  /// A transport whose links come from `host` ("a", "peer-3"). Listens as "host:port". With an
  /// `id` its links prove it, as TLS would.
  std::unique_ptr<Transport> host(const std::string& host, const NodeId& id = {});

  /// SIGKILL: links of the host end at once for itself; remotes see connection_lost one latency
  /// later. Frames that had left the host may still arrive, frames on their way to it vanish.
  /// Dialling it is refused until revive(), after which its listeners answer again.
  void kill(const std::string& host);
  void revive(const std::string& host);
  /// Nothing passes between a and b, silently: no close, no refusal. What was sent meanwhile
  /// arrives when the partition ends, as TCP would have it.
  void partition(const std::string& a, const std::string& b, bool on);
  /// Latency of one pair of hosts, both ways.
  void set_latency(const std::string& a, const std::string& b, Duration latency);

  /// The host's clock runs this much faster than the others' (0.01: one percent) and is this much
  /// ahead. For transports made from here on.
  void skew(const std::string& host, double drift, Duration ahead);

  /// For links made from here on.
  void limit_links(LinkLimits limits);

  /// Called for each frame as it is sent, before delivery: (from host, to host, frame). For
  /// tests that act at an exact step.
  void on_frame(std::function<void(const std::string&, const std::string&, const wire::Frame&)> fn);

  std::uint64_t delivered_frames() const noexcept;
  std::uint64_t delivered_bytes() const noexcept;

 private:
  std::shared_ptr<SimWorld> world_;  // shared with transports, links and listeners
};

}  // namespace farmesh::net
