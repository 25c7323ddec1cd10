#include "http/channel.hpp"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <utility>

#include <arpa/inet.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.hpp"

namespace farmesh::http {
namespace {

bool would_block() noexcept { return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR; }

// --- A BIO over send() and recv(): OpenSSL's own raises SIGPIPE when the other side is gone
// --------

int descriptor_of(BIO* bio) {
  return static_cast<int>(reinterpret_cast<std::intptr_t>(BIO_get_data(bio)));
}

int bio_write(BIO* bio, const char* data, int size) {
  BIO_clear_retry_flags(bio);
  const ssize_t sent =
      ::send(descriptor_of(bio), data, static_cast<std::size_t>(size), MSG_NOSIGNAL);
  if (sent < 0 && would_block()) BIO_set_retry_write(bio);
  return static_cast<int>(sent);
}

int bio_read(BIO* bio, char* data, int size) {
  BIO_clear_retry_flags(bio);
  const ssize_t got = ::recv(descriptor_of(bio), data, static_cast<std::size_t>(size), 0);
  if (got < 0 && would_block()) BIO_set_retry_read(bio);
  return static_cast<int>(got);
}

long bio_control(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1 : 0; }

BIO_METHOD* socket_method() {
  static BIO_METHOD* const method = [] {
    BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "farmesh socket");
    BIO_meth_set_write(made, bio_write);
    BIO_meth_set_read(made, bio_read);
    BIO_meth_set_ctrl(made, bio_control);
    return made;
  }();
  return method;
}

SSL* new_tls(void* context, int descriptor) {
  SSL* tls = SSL_new(static_cast<SSL_CTX*>(context));
  BIO* bio = BIO_new(socket_method());
  FARMESH_ASSERT(tls != nullptr && bio != nullptr);
  BIO_set_data(bio, reinterpret_cast<void*>(static_cast<std::intptr_t>(descriptor)));
  BIO_set_init(bio, 1);
  SSL_set_bio(tls, bio, bio);
  return tls;
}

SSL* as_tls(void* tls) noexcept { return static_cast<SSL*>(tls); }

/// The newest entry of OpenSSL's queue, which is emptied.
std::string last_problem() {
  const unsigned long code = ERR_get_error();
  ERR_clear_error();
  const char* reason = code == 0 ? nullptr : ERR_reason_error_string(code);
  return reason == nullptr ? "the connection broke off" : reason;
}

SSL_CTX* new_context(const SSL_METHOD* method) {
  SSL_CTX* context = SSL_CTX_new(method);
  FARMESH_ASSERT(context != nullptr);
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  // Idle connections give their buffers back; writes may be repeated from another address.
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  return context;
}

}  // namespace

TlsContext::~TlsContext() { SSL_CTX_free(static_cast<SSL_CTX*>(context_)); }

Result<std::shared_ptr<TlsContext>> TlsContext::server(const std::string& cert_file,
                                                       const std::string& key_file) {
  SSL_CTX* context = new_context(TLS_server_method());
  const std::shared_ptr<TlsContext> owner(new TlsContext(context));
  if (SSL_CTX_use_certificate_chain_file(context, cert_file.c_str()) != 1) {
    return Error{Errc::config_invalid, "TLS certificate: " + last_problem()};
  }
  if (SSL_CTX_use_PrivateKey_file(context, key_file.c_str(), SSL_FILETYPE_PEM) != 1 ||
      SSL_CTX_check_private_key(context) != 1) {
    return Error{Errc::config_invalid, "TLS key: " + last_problem()};
  }
  // A stateless ticket would do, but a cache grows with every stranger.
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  return owner;
}

Result<std::shared_ptr<TlsContext>> TlsContext::client(const std::string& ca_file) {
  SSL_CTX* context = new_context(TLS_client_method());
  const std::shared_ptr<TlsContext> owner(new TlsContext(context));
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
  const int loaded = ca_file.empty()
                         ? SSL_CTX_set_default_verify_paths(context)
                         : SSL_CTX_load_verify_locations(context, ca_file.c_str(), nullptr);
  if (loaded != 1) return Error{Errc::config_invalid, "TLS authorities: " + last_problem()};
  return owner;
}

Channel::~Channel() { close(); }

void Channel::secure_as_server(std::shared_ptr<TlsContext> context) {
  context_ = std::move(context);
  tls_ = new_tls(context_->context_, descriptor_);
  SSL_set_accept_state(as_tls(tls_));
}

Result<void> Channel::secure_as_client(std::shared_ptr<TlsContext> context,
                                       const std::string& host) {
  context_ = std::move(context);
  tls_ = new_tls(context_->context_, descriptor_);
  SSL_set_connect_state(as_tls(tls_));
  X509_VERIFY_PARAM* rules = SSL_get0_param(as_tls(tls_));
  in6_addr parsed;
  const bool is_address = inet_pton(AF_INET, host.c_str(), &parsed) == 1 ||
                          inet_pton(AF_INET6, host.c_str(), &parsed) == 1;
  const bool set = is_address
                       ? X509_VERIFY_PARAM_set1_ip_asc(rules, host.c_str()) == 1
                       : X509_VERIFY_PARAM_set1_host(rules, host.c_str(), host.size()) == 1 &&
                             SSL_set_tlsext_host_name(as_tls(tls_), host.c_str()) == 1;
  if (!set) return Error{Errc::invalid_argument, "no name that TLS could verify"};
  return {};
}

Io Channel::status_of(int outcome) {
  switch (SSL_get_error(as_tls(tls_), outcome)) {
    case SSL_ERROR_WANT_READ: return Io::want_read;
    case SSL_ERROR_WANT_WRITE: return Io::want_write;
    case SSL_ERROR_ZERO_RETURN: return Io::end;
    default: return Io::failed;
  }
}

Io Channel::handshake() {
  if (tls_ == nullptr) return Io::done;
  ERR_clear_error();
  const int outcome = SSL_do_handshake(as_tls(tls_));
  return outcome == 1 ? Io::done : status_of(outcome);
}

std::string Channel::handshake_problem() const {
  const long verdict = tls_ == nullptr ? X509_V_OK : SSL_get_verify_result(as_tls(tls_));
  if (verdict == X509_V_OK) return last_problem();
  ERR_clear_error();
  return X509_verify_cert_error_string(verdict);
}

Moved Channel::read(std::span<char> into) {
  if (tls_ != nullptr) {
    ERR_clear_error();
    const int want = static_cast<int>(std::min<std::size_t>(into.size(), INT_MAX));
    const int got = SSL_read(as_tls(tls_), into.data(), want);
    if (got > 0) return {Io::done, static_cast<std::size_t>(got)};
    return {status_of(got)};
  }
  const ssize_t got = ::recv(descriptor_, into.data(), into.size(), 0);
  if (got > 0) return {Io::done, static_cast<std::size_t>(got)};
  if (got == 0) return {Io::end};
  return {would_block() ? Io::want_read : Io::failed};
}

Moved Channel::write(std::string_view bytes) {
  if (tls_ != nullptr) {
    ERR_clear_error();
    const int want = static_cast<int>(std::min<std::size_t>(bytes.size(), INT_MAX));
    const int sent = SSL_write(as_tls(tls_), bytes.data(), want);
    if (sent > 0) return {Io::done, static_cast<std::size_t>(sent)};
    return {status_of(sent)};
  }
  const ssize_t sent = ::send(descriptor_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
  if (sent >= 0) return {Io::done, static_cast<std::size_t>(sent)};
  return {would_block() ? Io::want_write : Io::failed};
}

void Channel::shutdown_write() {
  if (tls_ != nullptr && SSL_is_init_finished(as_tls(tls_))) {
    ERR_clear_error();
    SSL_shutdown(as_tls(tls_));
  }
  ::shutdown(descriptor_, SHUT_WR);
}

void Channel::close() {
  if (tls_ != nullptr) SSL_free(as_tls(std::exchange(tls_, nullptr)));
  if (descriptor_ >= 0) ::close(std::exchange(descriptor_, -1));
}

}  // namespace farmesh::http
