// A socket in the test's hands across from a link: what a broken peer may do to it, inside TLS
// and, through `raw`, below it.
#pragma once

#include <string>
#include <vector>

#include <asio/ip/tcp.hpp>
#include <asio/read.hpp>
#include <asio/write.hpp>

#include "net/tcp_address.hpp"
#include "net/tcp_transport.hpp"
#include "net/tls.hpp"
#include "unit/net/link_worlds.hpp"

namespace farmesh::test {

/// A listening transport on `Clock` time, one accepted link and the raw socket that dialled it.
/// Loopback writes are in the kernel's receive buffer when they return, so virtual time works.
struct RawPeer {
  Loop loop;
  net::LinkLimits limits;
  std::unique_ptr<net::Transport> transport =
      net::make_tcp_transport(loop.context, loop.clock, some_key(), limits);
  std::unique_ptr<net::Listener> listener;
  asio::io_context raw_context;
  asio::ip::tcp::socket raw{raw_context};
  net::TlsSession tls{std::make_shared<net::TlsContext>(some_key()),
                      net::TlsSession::Side::dialling};
  std::shared_ptr<net::Link> link;
  Received received;

  RawPeer() {
    auto listening = transport->listen(
        "127.0.0.1:0", [this](std::shared_ptr<net::Link> accepted) { link = std::move(accepted); });
    REQUIRE(listening);
    listener = std::move(*listening);
    const auto place = net::parse_address(listener->address());
    raw.connect({asio::ip::make_address(place->host), place->port});
    raw.set_option(asio::ip::tcp::no_delay(true));
    raw.non_blocking(true);
    wait_for([this] { return shaken(); });
    wait_for([this] { return link != nullptr; });
  }

  void start() { received.listen_to(*link); }

  void write(ByteView bytes) {
    REQUIRE(tls.write(bytes));
    flush();
  }

  /// Runs handlers, without moving time, until `done`.
  void wait_for(const std::function<bool()>& done) {
    const auto limit = std::chrono::steady_clock::now() + 10s;
    while (!done()) {
      loop.context.restart();
      loop.context.run_one_for(10ms);
      REQUIRE(std::chrono::steady_clock::now() < limit);
    }
  }

  const Error& wait_for_close() {
    wait_for([this] { return !received.closes.empty(); });
    return received.closes[0];
  }

  /// What the link has sent until it closed.
  std::vector<std::byte> read_to_end() {
    std::vector<std::byte> all;
    std::array<std::byte, 4096> chunk;
    wait_for([&] {
      while (true) {
        const Result<std::size_t> got = tls.read(chunk);
        REQUIRE(got);
        if (*got == 0) break;
        all.insert(all.end(), chunk.begin(), chunk.begin() + static_cast<std::ptrdiff_t>(*got));
      }
      return !receive();
    });
    return all;
  }

 private:
  bool shaken() {
    const Result<bool> done = tls.handshake();
    flush();
    REQUIRE(done);
    if (!*done) REQUIRE(receive());
    return *done;
  }

  void flush() {
    raw.non_blocking(false);
    asio::write(raw, asio::buffer(tls.outgoing()));
    raw.non_blocking(true);
    tls.outgoing().clear();
  }

  /// Takes what has come, perhaps nothing; false at the end.
  bool receive() {
    std::error_code error;
    const MutableByteView room = tls.room();
    tls.arrived(raw.read_some(asio::buffer(room.data(), room.size()), error));
    return !error || error == asio::error::would_block;
  }
};

}  // namespace farmesh::test
