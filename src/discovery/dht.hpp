// A node of libtorrent's DHT, as a Rendezvous: its answers arrive on the network thread.
//
// The DHT is of FarMesh's own: it consists of those who were given the same bootstrap addresses.
// With `public_dht` it is BitTorrent's instead, whose nodes are strangers, but many.
// Threading: start() and stats() from any thread, and start() may block it for a moment; all else
// on the network thread. libtorrent has threads of its own, which touch nothing of ours.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <farmesh/result.hpp>

#include "discovery/bootstrap_address.hpp"
#include "discovery/dht_engine.hpp"
#include "discovery/rendezvous.hpp"
#include "net/task.hpp"

namespace farmesh::discovery {

inline constexpr std::uint16_t kDefaultDhtPort = 31'337;

struct DhtOptions {
  std::string host;        // to listen on; empty: every address of the machine
  std::uint16_t port = 0;  // UDP; 0: a free one
  std::vector<BootstrapAddress> bootstrap;
  bool public_dht = false;
  bool map_ports = false;  // ask the router for them; where it listens beyond loopback
};

/// Where libtorrent listens and begins for that.
DhtEngineOptions engine_options(const DhtOptions& options);

class Dht final : public Rendezvous {
 public:
  /// `executor` is the network thread's. Fails with io_error when the port is taken.
  static Result<std::unique_ptr<Dht>> start(net::Executor executor, const DhtOptions& options);
  ~Dht() override;  // waits for libtorrent's threads, a moment

  std::uint16_t port() const noexcept;
  DhtTraffic traffic();

  /// Asks the router for this TCP port too; its answers come to `on_answer`, some or none.
  void map_port(std::uint16_t port, std::function<void(const PortMapped&)> on_answer);

  void listen(Listener listener) override;
  void rejoin() override;
  void announce(const RendezvousKey& key, std::uint16_t port) override;
  void find(const RendezvousKey& key) override;
  void put(const DhtItem& item) override;
  void get(const identity::PublicKey& key) override;

 private:
  struct Impl;
  explicit Dht(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;  // shared with answers on their way
};

/// Whether the host of "HOST:PORT" is numeric and of this machine or of a private network.
bool is_local_address(const std::string& address);

}  // namespace farmesh::discovery
