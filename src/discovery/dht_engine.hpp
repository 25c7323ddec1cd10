// libtorrent's DHT behind plain types, so that no file sees both its Boost.Asio and ours.
//
// Takes questions at once, from any thread; answers collect inside and are fetched by take(),
// whenever `wake` says so. libtorrent's own thread does the rest. Used by dht.cpp, which brings
// the answers to the network thread, and by the benchmark.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include <farmesh/result.hpp>

#include "discovery/rendezvous.hpp"

namespace farmesh::discovery {

struct DhtEngineOptions {
  std::vector<std::string> listen;     // "HOST:PORT" with a numeric host; port 0: a free one
  std::vector<std::string> bootstrap;  // "HOST:PORT" of nodes to begin with; names are resolved
  std::vector<std::string> routers;    // of hosts that only tell of nodes, and hold nothing
  bool local = false;                  // nodes of one machine or network, which share addresses
  bool map_ports = false;              // ask the router for them, by UPnP and NAT-PMP
};

/// Some of those who announced themselves under `key`; more may follow.
struct PeersFound {
  RendezvousKey key;
  std::vector<std::string> addresses;
};
/// The newest item so far of `item.key`. The last one of a lookup is final; it is empty
/// (sequence 0, no value) when none was found.
struct ItemFound {
  DhtItem item;
  bool final = false;
};
/// A put has ended on so many nodes.
struct ItemStored {
  DhtItem item;  // without its value
  int copies = 0;
};
/// What a router said of a TCP port that was asked for.
struct PortMapped {
  std::uint16_t port = 0;      // on this machine
  std::uint16_t external = 0;  // on the router; 0: it gave none
  std::string how;             // "UPnP" or "NAT-PMP", and why not
};
using DhtAnswer = std::variant<PeersFound, ItemFound, ItemStored, PortMapped>;

struct DhtTraffic {
  std::uint64_t bytes_in = 0;
  std::uint64_t bytes_out = 0;
  std::uint64_t packets_in = 0;
  std::uint64_t packets_out = 0;
  std::uint64_t dropped = 0;  // packets, for want of rate
  std::uint64_t nodes = 0;    // in the routing table
};

class DhtEngine {
 public:
  /// Fails with io_error when no address could be listened on.
  static Result<std::unique_ptr<DhtEngine>> start(const DhtEngineOptions& options);
  ~DhtEngine();  // waits for libtorrent's thread

  std::uint16_t port() const noexcept;  // the first that is listened on

  void rejoin();  // greets the bootstrap nodes; they answer into the routing table
  void announce(const RendezvousKey& key, std::uint16_t port);
  void find(const RendezvousKey& key);
  void put(const DhtItem& item);
  void get(const identity::PublicKey& key);

  /// Asks the router for a TCP port of this machine besides the DHT's; with `map_ports` alone. It
  /// is asked to take all of them back when this is destroyed.
  void map_port(std::uint16_t port);

  /// Called on libtorrent's thread when there is something to take(); at once, perhaps.
  void set_wake(std::function<void()> wake);
  std::vector<DhtAnswer> take();

  /// Asks libtorrent for its counters, and gives those that came last.
  DhtTraffic traffic();

 private:
  struct Impl;
  explicit DhtEngine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace farmesh::discovery
