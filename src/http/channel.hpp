// Bytes over one non-blocking socket, plain or through TLS: the same four calls for both.
//
// Confined to one thread at a time. Nothing here waits.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include <farmesh/result.hpp>

namespace farmesh::http {

/// Certificates and rules of one side of TLS; shared by its channels, thread-safe.
class TlsContext {
 public:
  /// Fails with config_invalid: files absent, not PEM, or a key of another certificate.
  static Result<std::shared_ptr<TlsContext>> server(const std::string& cert_file,
                                                    const std::string& key_file);
  /// Trusts `ca_file`, or the system's authorities where that is empty. Fails with config_invalid.
  static Result<std::shared_ptr<TlsContext>> client(const std::string& ca_file);
  ~TlsContext();

 private:
  friend class Channel;
  explicit TlsContext(void* context) : context_(context) {}
  void* context_;  // SSL_CTX
};

enum class Io {
  done,
  want_read,   // call again when the socket is readable
  want_write,  // call again when the socket is writable
  end,         // the other side sends no more
  failed,
};

struct Moved {
  Io status;
  std::size_t bytes = 0;  // with `done`, at least 1
};

class Channel {
 public:
  /// Takes the descriptor, which must be non-blocking.
  explicit Channel(int descriptor) noexcept : descriptor_(descriptor) {}
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;
  ~Channel();

  int descriptor() const noexcept { return descriptor_; }

  /// From here on bytes go through TLS. As a client, `host` is verified: name or address.
  void secure_as_server(std::shared_ptr<TlsContext> context);
  Result<void> secure_as_client(std::shared_ptr<TlsContext> context, const std::string& host);
  bool secure() const noexcept { return tls_ != nullptr; }
  Io handshake();
  /// Why the handshake failed, for people.
  std::string handshake_problem() const;

  Moved read(std::span<char> into);
  Moved write(std::string_view bytes);
  /// Tells the other side that no more comes; what it still sends can be read.
  void shutdown_write();
  void close();

 private:
  Io status_of(int outcome);

  int descriptor_;
  void* tls_ = nullptr;  // SSL
  std::shared_ptr<TlsContext> context_;
};

}  // namespace farmesh::http
