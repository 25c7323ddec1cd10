#include "net/tls_handshake.hpp"

#include <array>
#include <cstddef>
#include <string>
#include <utility>

#include <asio/buffer.hpp>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <asio/write.hpp>

namespace farmesh::net {
namespace {

// A fatal alert of TLS before any handshake: internal_error, which TlsSession reads as busy.
constexpr std::array<unsigned char, 7> kNotNow = {21, 3, 3, 0, 2, 2, 80};

Error broken_off(const std::error_code& error) {
  return {Errc::connection_lost, "TLS handshake: " + error.message()};
}

}  // namespace

Task<Result<void>> shake_hands(asio::ip::tcp::socket& socket, TlsSession& session) {
  std::error_code error;
  while (true) {
    const Result<bool> done = session.handshake();
    std::vector<std::byte> flight = std::exchange(session.outgoing(), {});
    if (!flight.empty()) {  // after a failure, the alert that tells why
      auto writing = asio::async_write(socket, asio::buffer(flight),
                                       asio::redirect_error(asio::use_awaitable, error));
      co_await std::move(writing);
    }
    if (!done) co_return done.error();
    if (error) co_return broken_off(error);
    if (*done) co_return Result<void>();
    const MutableByteView room = session.room();
    auto reading = socket.async_read_some(asio::mutable_buffer(room.data(), room.size()),
                                          asio::redirect_error(asio::use_awaitable, error));
    const std::size_t bytes = co_await std::move(reading);
    if (error) co_return broken_off(error);
    session.arrived(bytes);
  }
}

Task<void> refuse_handshake(asio::ip::tcp::socket& socket) {
  std::error_code error;
  auto writing = asio::async_write(socket, asio::buffer(kNotNow),
                                   asio::redirect_error(asio::use_awaitable, error));
  co_await std::move(writing);
  if (!error) socket.shutdown(asio::ip::tcp::socket::shutdown_send, error);
  std::array<std::byte, 2'048> ignored;
  while (!error) {
    auto reading = socket.async_read_some(asio::buffer(ignored),
                                          asio::redirect_error(asio::use_awaitable, error));
    co_await std::move(reading);
  }
}

}  // namespace farmesh::net
