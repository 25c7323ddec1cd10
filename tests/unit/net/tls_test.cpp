// TLS between a session of ours and one of ours, or a stranger's made with OpenSSL by hand.
#include "net/tls.hpp"

#include <algorithm>
#include <array>
#include <memory>
#include <string>

#include <doctest/doctest.h>
#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "unit/net/link_worlds.hpp"

namespace farmesh {
namespace {

using net::TlsContext;
using net::TlsSession;

std::vector<std::byte> bytes_of(std::string_view text) {
  const ByteView view = as_view(text);
  return {view.begin(), view.end()};
}

// Hands what `from` has to say to `to`, in pieces that fit.
template <class OnMore>
void carry(TlsSession& from, TlsSession& to, const OnMore& on_more) {
  const std::vector<std::byte> flight = std::exchange(from.outgoing(), {});
  for (ByteView rest(flight); !rest.empty();) {
    const MutableByteView room = to.room();
    const std::size_t count = std::min(rest.size(), room.size());
    std::copy_n(rest.begin(), count, room.begin());
    to.arrived(count);
    rest = rest.subspan(count);
    on_more();
  }
}

struct Pair {
  identity::NodeKey near_key = identity::NodeKey::generate();
  identity::NodeKey far_key = identity::NodeKey::generate();
  TlsSession near{std::make_shared<TlsContext>(near_key), TlsSession::Side::dialling};
  TlsSession far{std::make_shared<TlsContext>(far_key), TlsSession::Side::accepting};

  Pair() {
    bool near_done = false;
    bool far_done = false;
    for (int i = 0; i < 8 && !(near_done && far_done); ++i) {
      if (!near_done) near_done = *near.handshake();
      carry(near, far, [&] { far_done = far_done || *far.handshake(); });
      carry(far, near, [&] { near_done = near_done || *near.handshake(); });
    }
    REQUIRE(near_done);
    REQUIRE(far_done);
  }

  /// Everything `far` decrypts of what `near` has to say.
  Result<std::vector<std::byte>> received() {
    std::vector<std::byte> all;
    std::array<std::byte, 1'000> chunk;
    Error failed;
    carry(near, far, [&] {
      while (failed.code == Errc::ok) {
        const Result<std::size_t> got = far.read(chunk);
        if (!got) failed = got.error();
        if (!got || *got == 0) break;
        all.insert(all.end(), chunk.begin(), chunk.begin() + static_cast<std::ptrdiff_t>(*got));
      }
    });
    if (failed.code != Errc::ok) return failed;
    return all;
  }
};

// A TLS end that is not ours.
struct Stranger {
  std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context{SSL_CTX_new(TLS_method()),
                                                            &SSL_CTX_free};
  std::unique_ptr<SSL, decltype(&SSL_free)> ssl{nullptr, &SSL_free};

  /// After the context was set up.
  void begin(bool dialling) {
    ssl.reset(SSL_new(context.get()));
    SSL_set_bio(ssl.get(), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    dialling ? SSL_set_connect_state(ssl.get()) : SSL_set_accept_state(ssl.get());
  }

  void show_certificate(EVP_PKEY* key) {
    X509* made = X509_new();
    ASN1_INTEGER_set(X509_get_serialNumber(made), 1);
    X509_gmtime_adj(X509_getm_notBefore(made), 0);
    X509_gmtime_adj(X509_getm_notAfter(made), 3'600);
    X509_set_pubkey(made, key);
    REQUIRE(X509_sign(made, key,
                      EVP_PKEY_get_id(key) == EVP_PKEY_ED25519 ? nullptr : EVP_sha256()) > 0);
    REQUIRE(SSL_CTX_use_certificate(context.get(), made) == 1);
    REQUIRE(SSL_CTX_use_PrivateKey(context.get(), key) == 1);
    X509_free(made);
  }

  /// Goes on with the handshake; false: it has failed.
  bool step() {
    const int done = SSL_do_handshake(ssl.get());
    return done == 1 || SSL_get_error(ssl.get(), done) == SSL_ERROR_WANT_READ;
  }

  /// Shakes hands with `ours` until either gives up or both have done. Our outcome.
  Result<bool> meet(TlsSession& ours) {
    Result<bool> done = false;
    for (int i = 0; i < 8; ++i) {
      const bool alive = step();
      std::array<std::byte, 16'384> chunk;
      const int got = BIO_read(SSL_get_wbio(ssl.get()), chunk.data(), int(chunk.size()));
      if (done && !*done && got > 0) {
        std::copy_n(chunk.begin(), got, ours.room().begin());
        ours.arrived(std::size_t(got));
      }
      if (done && !*done) done = ours.handshake();
      const std::vector<std::byte> flight = std::exchange(ours.outgoing(), {});
      if (!flight.empty()) {
        BIO_write(SSL_get_rbio(ssl.get()), flight.data(), int(flight.size()));
      }
      if (!done || !alive) break;
    }
    return done;
  }
};

TlsSession ours(TlsSession::Side side) {
  return TlsSession(std::make_shared<TlsContext>(test::some_key()), side);
}

using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;

}  // namespace

TEST_SUITE("net/tls") {
  TEST_CASE("both sides learn whose key the other has") {
    Pair pair;
    CHECK(pair.near.remote_id() == pair.far_key.id());
    CHECK(pair.far.remote_id() == pair.near_key.id());
  }

  TEST_CASE("what one side writes the other reads, whatever its size") {
    Pair pair;
    std::string text;
    for (int i = 0; i < 200'000; ++i) text += static_cast<char>('a' + i % 26);
    for (const std::size_t size : {1u, 100u, 16'384u, 16'385u, 200'000u}) {
      CAPTURE(size);
      REQUIRE(pair.near.write(as_view(text).first(size)));
      const auto received = pair.received();
      REQUIRE(received);
      CHECK(*received == bytes_of(std::string_view(text).substr(0, size)));
    }
    CHECK(pair.near.write({}));
    CHECK(pair.near.outgoing().empty());
  }

  TEST_CASE("nothing of the text is to be seen in what is sent") {
    Pair pair;
    const std::string text = "a prompt that nobody else should read";
    REQUIRE(pair.near.write(as_view(text)));
    const std::vector<std::byte> sent = pair.near.outgoing();
    for (const std::size_t part : {0u, 10u, 20u}) {
      const std::vector<std::byte> piece = bytes_of(text.substr(part, 8));
      CHECK(std::search(sent.begin(), sent.end(), piece.begin(), piece.end()) == sent.end());
    }
  }

  TEST_CASE("a changed byte ends the session") {
    Pair pair;
    REQUIRE(pair.near.write(as_view(std::string_view("text"))));
    pair.near.outgoing().back() ^= std::byte{1};
    const auto received = pair.received();
    REQUIRE_FALSE(received);
    CHECK(received.error().code == Errc::tls_failed);
  }

  TEST_CASE("a record that is sent twice ends the session") {
    Pair pair;
    REQUIRE(pair.near.write(as_view(std::string_view("text"))));
    const std::vector<std::byte> once = pair.near.outgoing();
    REQUIRE(pair.received());
    pair.near.outgoing() = once;
    CHECK_FALSE(pair.received());
  }

  TEST_CASE("bytes that are no TLS are refused") {
    TlsSession far = ours(TlsSession::Side::accepting);
    const std::vector<std::byte> http = bytes_of("GET / HTTP/1.1\r\nHost: example.org\r\n\r\n");
    std::copy(http.begin(), http.end(), far.room().begin());
    far.arrived(http.size());
    const Result<bool> done = far.handshake();
    REQUIRE_FALSE(done);
    CHECK(done.error().code == Errc::tls_failed);
  }

  TEST_CASE("a remote without a certificate is refused") {
    Stranger client;
    client.begin(true);
    TlsSession far = ours(TlsSession::Side::accepting);
    const Result<bool> done = client.meet(far);
    REQUIRE_FALSE(done);
    CHECK(done.error().code == Errc::tls_failed);
    CHECK(done.error().detail.find("certificate") != std::string::npos);
  }

  TEST_CASE("a remote that speaks TLS 1.2 at most is refused, on either side") {
    for (const bool dialling : {true, false}) {
      Stranger old;
      SSL_CTX_set_max_proto_version(old.context.get(), TLS1_2_VERSION);
      const Key key(EVP_EC_gen("P-256"), &EVP_PKEY_free);
      old.show_certificate(key.get());
      old.begin(dialling);
      TlsSession mine = ours(dialling ? TlsSession::Side::accepting : TlsSession::Side::dialling);
      Result<bool> done = dialling ? Result<bool>(false) : mine.handshake();
      if (!dialling) {
        BIO_write(SSL_get_rbio(old.ssl.get()), mine.outgoing().data(), int(mine.outgoing().size()));
        mine.outgoing().clear();
      }
      done = old.meet(mine);
      REQUIRE_FALSE(done);
      CHECK(done.error().code == Errc::tls_failed);
    }
  }

  TEST_CASE("a certificate with another kind of key is refused, on either side") {
    for (const bool dialling : {true, false}) {
      Stranger other;
      const Key key(EVP_EC_gen("P-256"), &EVP_PKEY_free);
      other.show_certificate(key.get());
      other.begin(dialling);
      TlsSession mine = ours(dialling ? TlsSession::Side::accepting : TlsSession::Side::dialling);
      if (!dialling) {
        REQUIRE(mine.handshake());
        BIO_write(SSL_get_rbio(other.ssl.get()), mine.outgoing().data(),
                  int(mine.outgoing().size()));
        mine.outgoing().clear();
      }
      const Result<bool> done = other.meet(mine);
      CHECK((!done || !*done));
      if (!done) CHECK(done.error().code == Errc::tls_failed);
    }
  }

  TEST_CASE("a stranger with an Ed25519 certificate of its own making is known by its key") {
    const identity::NodeKey key = identity::NodeKey::generate();
    Stranger client;
    client.show_certificate(key.native_handle());
    client.begin(true);
    TlsSession far = ours(TlsSession::Side::accepting);
    const Result<bool> done = client.meet(far);
    REQUIRE(done);
    CHECK(*done);
    CHECK(far.remote_id() == key.id());
  }
}

}  // namespace farmesh
