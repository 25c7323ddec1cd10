// This process's place in the mesh: its DHT node and its directory, made and ended together.
//
// Takes what the user said of discovery, gives node/ the directory.
// Threading: join() and leave() from any thread but the network's; the rest on the network thread.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include <farmesh/discovery.hpp>
#include <farmesh/result.hpp>

#include "discovery/dht.hpp"
#include "discovery/directory.hpp"
#include "driver/peer_set.hpp"
#include "net/runtime.hpp"
#include "node/own_identity.hpp"

namespace farmesh::node {

/// A record as the route planner takes it.
driver::PeerClaims claims_of(const discovery::NodeRecord& record);

/// Where the DHT node of a process that serves at `listen`, or nowhere, lives and begins. Fails
/// with address_invalid (a bootstrap address).
Result<discovery::DhtOptions> dht_options(const DiscoveryOptions& options,
                                          const std::string& listen);

class Mesh {
 public:
  /// `listen` is where the process serves, or empty. What `directory` leaves open of mesh and
  /// contacts is filled in. Fails with address_invalid (a bootstrap address) or io_error (the DHT
  /// port is taken).
  static Result<std::unique_ptr<Mesh>> join(net::Runtime& runtime, const OwnIdentity& self,
                                            const DiscoveryOptions& options,
                                            discovery::DirectoryOptions directory,
                                            const std::string& listen);
  ~Mesh();  // on the network thread

  discovery::Directory& directory() noexcept { return *directory_; }
  /// Nobody could be reached there: whose address it is leaves the view, if the address says who.
  void report_unreachable(const std::string& address);
  /// Asks the router for a TCP port, where the DHT node asks for its own.
  void map_port(std::uint16_t port, std::function<void(const discovery::PortMapped&)> on_answer) {
    dht_->map_port(port, std::move(on_answer));
  }
  std::uint16_t dht_port() const noexcept { return dht_->port(); }

 private:
  Mesh() = default;

  std::unique_ptr<discovery::Dht> dht_;
  std::unique_ptr<discovery::Directory> directory_;
};

}  // namespace farmesh::node
