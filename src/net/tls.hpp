// TLS 1.3 between nodes, without sockets: plaintext in, ciphertext out, and the other way round.
//
// Both sides show a certificate that each node makes for itself from its Ed25519 key; nobody signs
// it, as a node's name is the hash of that key. Nothing older than TLS 1.3 is spoken, a handshake
// without both certificates fails, and sessions are never resumed.
// OpenSSL works on the memory of this class, one copy on each way, and the owner moves whole
// buffers to and from the socket. Threading: a context is shared; a session has one user.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include <farmesh/result.hpp>

#include "base/bytes.hpp"
#include "base/node_id.hpp"
#include "identity/node_key.hpp"

struct ssl_ctx_st;  // OpenSSL's SSL_CTX

namespace farmesh::net {

/// This node's certificate and what it demands of remotes.
class TlsContext {
 public:
  explicit TlsContext(const identity::NodeKey& key);
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

  ssl_ctx_st* native_handle() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

class TlsSession {
 public:
  enum class Side { dialling, accepting };

  TlsSession(std::shared_ptr<const TlsContext> context, Side side);
  ~TlsSession();
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;

  /// Where the next ciphertext from the remote goes; then tell how much came. Only when all of
  /// the last was used: handshake() returned false, or read() 0.
  MutableByteView room() noexcept;
  void arrived(std::size_t bytes) noexcept;

  /// Goes on as far as it can. True: done; false: needs more from the remote. Fails with
  /// tls_failed or, where the remote refuses more handshakes for now, busy. outgoing() may hold
  /// something to send in each case.
  Result<bool> handshake();

  /// Who the remote is, by the key it proved to have. After the handshake.
  const NodeId& remote_id() const noexcept;

  /// Decrypts at most `into.size()` bytes; 0: more must arrive first. Fails with connection_lost
  /// when the remote has ended, with tls_failed when it broke the rules.
  Result<std::size_t> read(MutableByteView into);

  /// Encrypts all of it into outgoing(). Fails with tls_failed.
  Result<void> write(ByteView plaintext);

  /// Ciphertext to be sent, in order; the owner takes it away.
  std::vector<std::byte>& outgoing() noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace farmesh::net
