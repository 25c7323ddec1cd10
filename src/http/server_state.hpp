// What all connections of a server share.
#pragma once

#include <atomic>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>

#include "http/channel.hpp"
#include "http/ip_address.hpp"
#include "http/router.hpp"
#include "http/server.hpp"
#include "http/worker_pool.hpp"

namespace farmesh::http {

struct ServerState {
  ServerState(Router all_routes, ServerOptions all_options, IpSet proxies,
              std::shared_ptr<TlsContext> tls_context)
      : router(std::move(all_routes)),
        options(std::make_shared<const ServerOptions>(std::move(all_options))),
        trusted(std::move(proxies)),
        tls(std::move(tls_context)),
        quick("http work", static_cast<std::size_t>(options->workers),
              static_cast<std::size_t>(options->max_queued)),
        patient("http long", static_cast<std::size_t>(options->max_long_requests), 0) {}

  const Router router;
  const std::shared_ptr<const ServerOptions> options;
  const IpSet trusted;
  const std::shared_ptr<TlsContext> tls;  // null: plain
  std::atomic<bool> draining = false;
  std::atomic<int> requests = 0;
  std::atomic<std::size_t> body_bytes = 0;

  /// Counts a connection, unless there are too many, in all or of this neighbourhood.
  bool admit(const IpAddress& peer) {
    const std::lock_guard lock(mutex_);
    const bool counts = !trusted.contains(peer);
    const auto of_peer = of_address_.find(peer.neighbourhood());
    const bool full = connections_ >= options->max_connections ||
                      (counts && of_peer != of_address_.end() &&
                       of_peer->second >= options->max_connections_per_address);
    if (full) {
      ++refused_;
      return false;
    }
    ++connections_;
    if (counts) ++of_address_[peer.neighbourhood()];
    return true;
  }

  void leave(const IpAddress& peer) {
    const std::lock_guard lock(mutex_);
    if (--connections_ == 0) none_left_.notify_all();
    const auto of_peer = of_address_.find(peer.neighbourhood());
    if (of_peer != of_address_.end() && --of_peer->second == 0) of_address_.erase(of_peer);
  }

  /// Whether every connection ended before `patience` was over.
  bool wait_for_none(std::chrono::milliseconds patience) {
    std::unique_lock lock(mutex_);
    return none_left_.wait_for(lock, patience, [this] { return connections_ == 0; });
  }

  ServerStats stats() const {
    const std::lock_guard lock(mutex_);
    return {connections_, requests, static_cast<int>(patient.busy()), refused_};
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable none_left_;
  int connections_ = 0;
  std::uint64_t refused_ = 0;
  std::map<IpAddress, int> of_address_;

 public:
  // Last, so that handlers end before what they use.
  WorkerPool quick, patient;
};

}  // namespace farmesh::http
