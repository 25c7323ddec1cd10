#include "net/tls.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <utility>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "base/assert.hpp"
#include "base/digest.hpp"

namespace farmesh::net {
namespace {

// Two full records: a token's activations mostly arrive in one read.
constexpr std::size_t kRoomBytes = 33u << 10;
constexpr long kMaxCertificateBytes = 4'096;

struct FreeContext {
  void operator()(SSL_CTX* context) const noexcept { SSL_CTX_free(context); }
};
struct FreeSession {
  void operator()(SSL* session) const noexcept { SSL_free(session); }
};
struct FreeCertificate {
  void operator()(X509* certificate) const noexcept { X509_free(certificate); }
};
using Certificate = std::unique_ptr<X509, FreeCertificate>;

// The certificate says no more than its key: what it is for follows from who checks it, and it is
// made anew at each start.
Certificate certificate_of(const identity::NodeKey& key) {
  Certificate made(X509_new());
  FARMESH_ASSERT(made);
  const std::string id = to_string(key.id());
  X509_NAME* name = X509_get_subject_name(made.get());
  const auto* common = reinterpret_cast<const unsigned char*>(id.data());
  FARMESH_ASSERT(X509_set_version(made.get(), X509_VERSION_3) == 1 &&
                 ASN1_INTEGER_set(X509_get_serialNumber(made.get()), 1) == 1 &&
                 ASN1_TIME_set_string(X509_getm_notBefore(made.get()), "20200101000000Z") == 1 &&
                 ASN1_TIME_set_string(X509_getm_notAfter(made.get()), "99991231235959Z") == 1 &&
                 X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, common,
                                            static_cast<int>(id.size()), -1, 0) == 1 &&
                 X509_set_issuer_name(made.get(), name) == 1 &&
                 X509_set_pubkey(made.get(), key.native_handle()) == 1 &&
                 X509_sign(made.get(), key.native_handle(), nullptr) > 0);
  return made;
}

// The Ed25519 key in a certificate; false for any other kind.
bool key_in(const X509* certificate, identity::PublicKey& key) {
  const EVP_PKEY* found = certificate == nullptr ? nullptr : X509_get0_pubkey(certificate);
  std::size_t length = key.size();
  return found != nullptr && EVP_PKEY_get_id(found) == EVP_PKEY_ED25519 &&
         EVP_PKEY_get_raw_public_key(found, key.data(), &length) == 1;
}

// Takes the place of a search for issuers. That the remote has the secret half is proven by the
// handshake itself, which signs its transcript with it.
int accept_certificate(X509_STORE_CTX* store, void*) {
  identity::PublicKey key;
  if (key_in(X509_STORE_CTX_get0_cert(store), key)) return 1;
  X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_REJECTED);
  return 0;
}

Error tls_error(std::string_view doing) {
  const unsigned long number = ERR_peek_error();
  // What a listener that is asked too often answers, before any handshake.
  if (ERR_GET_REASON(number) == SSL_R_TLSV1_ALERT_INTERNAL_ERROR) {
    return {Errc::busy, "the remote takes no more connections for now"};
  }
  const char* reason = ERR_reason_error_string(number);
  return {Errc::tls_failed,
          std::string(doing) + ": " + (reason == nullptr ? "broken off" : reason)};
}

}  // namespace

struct TlsContext::Impl {
  std::unique_ptr<SSL_CTX, FreeContext> context{SSL_CTX_new(TLS_method())};
};

TlsContext::TlsContext(const identity::NodeKey& key) : impl_(std::make_unique<Impl>()) {
  SSL_CTX* context = impl_->context.get();
  const Certificate certificate = certificate_of(key);
  FARMESH_ASSERT(context != nullptr &&
                 SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) == 1 &&
                 SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION) == 1 &&
                 SSL_CTX_set_ciphersuites(
                     context, "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256") == 1 &&
                 SSL_CTX_set1_groups_list(context, "X25519") == 1 &&
                 SSL_CTX_set1_sigalgs_list(context, "ed25519") == 1 &&
                 SSL_CTX_use_certificate(context, certificate.get()) == 1 &&
                 SSL_CTX_use_PrivateKey(context, key.native_handle()) == 1 &&
                 SSL_CTX_set_num_tickets(context, 0) == 1);
  SSL_CTX_set_max_cert_list(context, kMaxCertificateBytes);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
  // Idle links keep no record buffers.
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  SSL_CTX_set_cert_verify_callback(context, &accept_certificate, nullptr);
}

TlsContext::~TlsContext() = default;

ssl_ctx_st* TlsContext::native_handle() const noexcept { return impl_->context.get(); }

struct TlsSession::Impl {
  std::shared_ptr<const TlsContext> context;
  std::unique_ptr<SSL, FreeSession> ssl;
  std::array<std::byte, kRoomBytes> room;
  std::size_t begin = 0;  // of what OpenSSL has not taken yet
  std::size_t end = 0;
  std::vector<std::byte> outgoing;
  NodeId remote_id{};

  int take(char* into, int size);
  int put(const char* from, int size);
  static BIO_METHOD* method();
};

int TlsSession::Impl::take(char* into, int size) {
  const std::size_t count = std::min(end - begin, static_cast<std::size_t>(size));
  if (count > 0) std::memcpy(into, room.data() + begin, count);
  begin += count;
  return static_cast<int>(count);
}

int TlsSession::Impl::put(const char* from, int size) {
  const auto* bytes = reinterpret_cast<const std::byte*>(from);
  outgoing.insert(outgoing.end(), bytes, bytes + size);
  return size;
}

// OpenSSL's way to this class: a source and sink of bytes that never waits.
BIO_METHOD* TlsSession::Impl::method() {
  static BIO_METHOD* const method = [] {
    BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "farmesh");
    FARMESH_ASSERT(made != nullptr);
    BIO_meth_set_read(made, [](BIO* bio, char* into, int size) {
      BIO_clear_retry_flags(bio);
      const int count = static_cast<Impl*>(BIO_get_data(bio))->take(into, size);
      if (count > 0) return count;
      BIO_set_retry_read(bio);
      return -1;
    });
    BIO_meth_set_write(made, [](BIO* bio, const char* from, int size) {
      BIO_clear_retry_flags(bio);
      return static_cast<Impl*>(BIO_get_data(bio))->put(from, size);
    });
    BIO_meth_set_ctrl(
        made, [](BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1L : 0L; });
    return made;
  }();
  return method;
}

TlsSession::TlsSession(std::shared_ptr<const TlsContext> context, Side side)
    : impl_(std::make_unique<Impl>()) {
  impl_->context = std::move(context);
  impl_->ssl.reset(SSL_new(impl_->context->native_handle()));
  BIO* bio = BIO_new(Impl::method());
  FARMESH_ASSERT(impl_->ssl && bio != nullptr);
  BIO_set_data(bio, impl_.get());
  BIO_set_init(bio, 1);
  SSL_set_bio(impl_->ssl.get(), bio, bio);  // takes it over
  if (side == Side::dialling) {
    SSL_set_connect_state(impl_->ssl.get());
  } else {
    SSL_set_accept_state(impl_->ssl.get());
  }
}

TlsSession::~TlsSession() = default;

MutableByteView TlsSession::room() noexcept {
  FARMESH_ASSERT(impl_->begin == impl_->end);
  return impl_->room;
}

void TlsSession::arrived(std::size_t bytes) noexcept {
  impl_->begin = 0;
  impl_->end = bytes;
}

Result<bool> TlsSession::handshake() {
  ERR_clear_error();
  const int done = SSL_do_handshake(impl_->ssl.get());
  if (done != 1) {
    if (SSL_get_error(impl_->ssl.get(), done) == SSL_ERROR_WANT_READ) return false;
    return tls_error("TLS handshake");
  }
  identity::PublicKey key;
  if (!key_in(SSL_get0_peer_certificate(impl_->ssl.get()), key)) {
    return {Errc::tls_failed, "TLS handshake: the remote has shown no certificate"};
  }
  impl_->remote_id = identity::node_id_of(key);
  return true;
}

const NodeId& TlsSession::remote_id() const noexcept { return impl_->remote_id; }

Result<std::size_t> TlsSession::read(MutableByteView into) {
  // OpenSSL would find the same, for the price of a small record.
  if (impl_->begin == impl_->end && SSL_pending(impl_->ssl.get()) == 0) return std::size_t{0};
  ERR_clear_error();
  std::size_t count = 0;
  const int done = SSL_read_ex(impl_->ssl.get(), into.data(), into.size(), &count);
  if (done == 1) return count;
  switch (SSL_get_error(impl_->ssl.get(), done)) {
    case SSL_ERROR_WANT_READ: return std::size_t{0};
    case SSL_ERROR_ZERO_RETURN: return {Errc::connection_lost, "closed by the remote"};
    default: return tls_error("TLS");
  }
}

Result<void> TlsSession::write(ByteView plaintext) {
  if (plaintext.empty()) return {};
  ERR_clear_error();
  std::size_t count = 0;
  const int done = SSL_write_ex(impl_->ssl.get(), plaintext.data(), plaintext.size(), &count);
  if (done != 1) return tls_error("TLS");
  return {};
}

std::vector<std::byte>& TlsSession::outgoing() noexcept { return impl_->outgoing; }

}  // namespace farmesh::net
