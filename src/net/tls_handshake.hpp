// The TLS handshake over a connected socket. Threading: the socket's executor.
#pragma once

#include <asio/ip/tcp.hpp>

#include <farmesh/result.hpp>

#include "net/task.hpp"
#include "net/tls.hpp"

namespace farmesh::net {

/// Ends when both sides have proven their keys; closing the socket ends it earlier. What came
/// after the remote's last message stays in `session`. Fails with tls_failed, busy, or
/// connection_lost.
Task<Result<void>> shake_hands(asio::ip::tcp::socket& socket, TlsSession& session);

/// Answers whoever begins a handshake that there will be none, and waits for it to hang up.
Task<void> refuse_handshake(asio::ip::tcp::socket& socket);

}  // namespace farmesh::net
