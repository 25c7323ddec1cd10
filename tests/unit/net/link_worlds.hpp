// Two connected links of every kind, for tests that hold for all of them.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <vector>

#include <asio/io_context.hpp>
#include <doctest/doctest.h>

#include "net/tcp_transport.hpp"
#include "unit/net/loop.hpp"
#include "unit/net/real_loop.hpp"

namespace farmesh::test {

/// What one end of a link was handed.
struct Received {
  std::vector<wire::Frame> frames;
  std::vector<Error> closes;

  void listen_to(net::Link& link) {
    link.start([this](wire::Frame frame) { frames.push_back(std::move(frame)); },
               [this](Error reason) { closes.push_back(std::move(reason)); });
  }
};

using Links = std::pair<std::shared_ptr<net::Link>, std::shared_ptr<net::Link>>;

struct PipeWorld {
  Loop loop;

  Links connect(net::LinkLimits limits = {}) {
    return net::make_pipe(loop.clock, "near", "far", limits);
  }
  void until(const std::function<bool()>& done) { loop.until(done); }
  void settle() { loop.pass(5s); }
};

struct SimulatedWorld {
  Loop loop;
  net::SimNetwork network{loop.clock, {.latency = 20ms, .jitter = 30ms}, 7};
  std::unique_ptr<net::Transport> near = network.host("near");
  std::unique_ptr<net::Transport> far = network.host("far");
  std::unique_ptr<net::Listener> listener;
  std::shared_ptr<net::Link> accepted;  // the last one

  Links connect(net::LinkLimits limits = {}) {
    network.limit_links(limits);
    listener = *far->listen(
        "far:1", [this](std::shared_ptr<net::Link> link) { accepted = std::move(link); });
    auto dialled = loop.run(near->dial("far:1", loop.after(1s)));
    REQUIRE(dialled);
    REQUIRE(accepted);
    return {*dialled, std::move(accepted)};
  }
  void until(const std::function<bool()>& done) { loop.until(done); }
  void settle() { loop.pass(5s); }
};

/// One key for all tests that do not care whose it is.
inline const identity::NodeKey& some_key() {
  static const identity::NodeKey key = identity::NodeKey::generate();
  return key;
}

/// Loopback sockets and the machine's own clock.
struct TcpWorld : RealLoop {
  std::unique_ptr<net::Transport> transport;
  std::unique_ptr<net::Listener> listener;
  std::shared_ptr<net::Link> accepted;  // the last one

  Links connect(net::LinkLimits limits = {}) {
    transport = net::make_tcp_transport(context, *clock, some_key(), limits);
    auto listening = transport->listen(
        "127.0.0.1:0", [&](std::shared_ptr<net::Link> link) { accepted = std::move(link); });
    REQUIRE(listening);
    listener = std::move(*listening);
    auto dialled = run(transport->dial(listener->address(), clock->now() + 5s));
    REQUIRE(dialled);
    until([&] { return accepted != nullptr; });
    return {*dialled, std::move(accepted)};
  }

  /// Runs what is ready, and what that makes ready: over loopback, what was sent has arrived.
  void settle() {
    context.restart();
    while (context.poll() > 0) {
    }
  }
};

}  // namespace farmesh::test
