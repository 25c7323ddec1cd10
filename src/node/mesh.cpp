#include "node/mesh.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include "net/tcp_address.hpp"

namespace farmesh::node {
namespace {

Result<std::unique_ptr<discovery::Dht>> start_dht(net::Runtime& runtime,
                                                  const DiscoveryOptions& options,
                                                  const discovery::DhtOptions& dht) {
  auto started = discovery::Dht::start(runtime.executor(), dht);
  if (started || options.dht_port || dht.port == 0) return started;
  // The usual port is another's, and nobody asked for it.
  discovery::DhtOptions other = dht;
  other.port = 0;
  return discovery::Dht::start(runtime.executor(), other);
}

}  // namespace

Result<discovery::DhtOptions> dht_options(const DiscoveryOptions& options,
                                          const std::string& listen) {
  discovery::DhtOptions dht;
  dht.public_dht = options.public_dht;
  for (const std::string& list : options.bootstrap) {
    auto addresses = discovery::parse_bootstrap(list);
    if (!addresses) return addresses.error();
    for (auto& address : *addresses) dht.bootstrap.push_back(std::move(address));
  }
  bool all_local = !dht.bootstrap.empty();
  for (const auto& address : dht.bootstrap) {
    all_local = all_local && discovery::is_local_address(address.dht);
  }
  const bool serves = !listen.empty();
  dht.map_ports = serves && options.map_ports;
  dht.port = options.dht_port.value_or(serves ? discovery::kDefaultDhtPort : 0);
  if (serves) {
    const Result<net::HostPort> at = net::parse_address(listen);
    if (at && discovery::is_local_address(listen)) dht.host = at->host;
  } else if (all_local && net::parse_address(dht.bootstrap.front().dht)->host == "127.0.0.1") {
    dht.host = "127.0.0.1";
  }
  return dht;
}

Result<std::unique_ptr<Mesh>> Mesh::join(net::Runtime& runtime, const OwnIdentity& self,
                                         const DiscoveryOptions& options,
                                         discovery::DirectoryOptions directory,
                                         const std::string& listen) {
  const Result<discovery::DhtOptions> chosen = dht_options(options, listen);
  if (!chosen) return chosen.error();
  const discovery::DhtOptions& dht = *chosen;

  std::unique_ptr<Mesh> mesh(new Mesh());
  auto started = start_dht(runtime, options, dht);
  if (!started) return started.error();
  mesh->dht_ = *std::move(started);

  if (!options.mesh.empty()) {
    directory.mesh = options.mesh;
  } else if (self.credentials.mesh) {
    directory.mesh = self.credentials.mesh->mesh_name();
  }
  runtime.run_blocking([&] {
    mesh->directory_ = std::make_unique<discovery::Directory>(runtime.tcp(), mesh->dht_.get(),
                                                              std::move(directory));
    for (const auto& address : dht.bootstrap) {
      if (!address.peer.empty()) mesh->directory_->add_contact(address.peer);
    }
  });
  return mesh;
}

driver::PeerClaims claims_of(const discovery::NodeRecord& record) {
  driver::PeerClaims claims;
  claims.place = record.place;
  claims.relayed = !record.relay.empty();
  claims.layer_time = std::chrono::microseconds(record.layer_us);
  claims.queued_rows = record.queued_rows;
  claims.free_tokens = std::min(record.free_tokens, route::kUnknownRoom - 1);
  return claims;
}

void Mesh::report_unreachable(const std::string& address) {
  const Result<net::HostPort> at = net::parse_address(address);
  if (at && at->id) directory_->report_unreachable(*at->id, address);
}

Mesh::~Mesh() {
  directory_.reset();
  dht_.reset();
}

}  // namespace farmesh::node
