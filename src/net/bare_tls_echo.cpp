#include "net/bare_tls_echo.hpp"

#include <chrono>
#include <system_error>
#include <thread>
#include <utility>

#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <openssl/ssl.h>

#include "base/assert.hpp"
#include "base/thread.hpp"
#include "identity/node_key.hpp"
#include "net/task.hpp"
#include "net/tls.hpp"

namespace farmesh::net {
namespace {

using asio::ip::tcp;

// One end: a socket that does not block, and TLS that moves its bytes itself.
struct End {
  End(TlsContext& context, bool dialling) : ssl(SSL_new(context.native_handle()), &SSL_free) {
    FARMESH_ASSERT(ssl);
    if (dialling) {
      SSL_set_connect_state(ssl.get());
    } else {
      SSL_set_accept_state(ssl.get());
    }
  }

  bool adopt_socket() {
    std::error_code error;
    socket.set_option(tcp::no_delay(true), error);
    if (!error) socket.non_blocking(true, error);
    return !error && SSL_set_fd(ssl.get(), socket.native_handle()) == 1;
  }

  asio::io_context context{1};
  tcp::socket socket{context};
  std::unique_ptr<SSL, decltype(&SSL_free)> ssl;
};

// Waits for what OpenSSL lacks after `outcome`; false when it lacks nothing and has failed.
Task<bool> wait_for_socket(End& end, int outcome) {
  const int why = SSL_get_error(end.ssl.get(), outcome);
  if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE) co_return false;
  std::error_code error;
  const auto what = why == SSL_ERROR_WANT_READ ? tcp::socket::wait_read : tcp::socket::wait_write;
  auto waiting = end.socket.async_wait(what, asio::redirect_error(asio::use_awaitable, error));
  co_await std::move(waiting);
  co_return !error;
}

Task<bool> shake(End& end) {
  while (true) {
    const int done = SSL_do_handshake(end.ssl.get());
    if (done == 1) co_return true;
    Task<bool> waiting = wait_for_socket(end, done);
    const bool again = co_await std::move(waiting);
    if (!again) co_return false;
  }
}

Task<bool> write_all(End& end, const std::vector<std::byte>& bytes) {
  while (true) {
    std::size_t count = 0;
    const int done = SSL_write_ex(end.ssl.get(), bytes.data(), bytes.size(), &count);
    if (done == 1) co_return true;
    Task<bool> waiting = wait_for_socket(end, done);
    const bool again = co_await std::move(waiting);
    if (!again) co_return false;
  }
}

Task<bool> read_all(End& end, std::vector<std::byte>& bytes) {
  std::size_t filled = 0;
  while (filled < bytes.size()) {
    std::size_t count = 0;
    const int done =
        SSL_read_ex(end.ssl.get(), bytes.data() + filled, bytes.size() - filled, &count);
    filled += count;
    if (done == 1) continue;
    Task<bool> waiting = wait_for_socket(end, done);
    const bool again = co_await std::move(waiting);
    if (!again) co_return false;
  }
  co_return true;
}

Task<void> echo(End& end, std::size_t size) {
  std::vector<std::byte> bytes(size);
  Task<bool> shaking = shake(end);
  bool well = co_await std::move(shaking);
  while (well) {
    Task<bool> reading = read_all(end, bytes);
    well = co_await std::move(reading);
    if (!well) break;
    Task<bool> writing = write_all(end, bytes);
    well = co_await std::move(writing);
  }
}

Task<void> ping(End& end, std::size_t size, int trips, std::vector<double>& samples, bool& well) {
  std::vector<std::byte> bytes(size);
  Task<bool> shaking = shake(end);
  well = co_await std::move(shaking);
  for (int i = 0; i < trips && well; ++i) {
    const auto start = std::chrono::steady_clock::now();
    Task<bool> writing = write_all(end, bytes);
    well = co_await std::move(writing);
    if (!well) break;
    Task<bool> reading = read_all(end, bytes);
    well = co_await std::move(reading);
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - start;
    samples.push_back(took.count());
  }
}

}  // namespace

struct BareTlsEcho::Impl {
  std::size_t bytes = 0;
  int far_core = 0;
  TlsContext tls{identity::NodeKey::generate()};
  End near{tls, true};
  End far{tls, false};
  std::thread thread;
};

BareTlsEcho::BareTlsEcho(std::size_t bytes, int far_core) : impl_(std::make_unique<Impl>()) {
  impl_->bytes = bytes;
  impl_->far_core = far_core;
}

BareTlsEcho::~BareTlsEcho() {
  std::error_code ignored;
  impl_->near.socket.shutdown(tcp::socket::shutdown_both, ignored);
  if (impl_->thread.joinable()) impl_->thread.join();
}

Result<void> BareTlsEcho::open() {
  Impl& impl = *impl_;
  std::error_code error;
  tcp::acceptor acceptor(impl.far.context);
  const tcp::endpoint any(asio::ip::address_v4::loopback(), 0);
  acceptor.open(any.protocol(), error);
  if (!error) acceptor.bind(any, error);
  if (!error) acceptor.listen(1, error);
  if (!error) impl.near.socket.connect(acceptor.local_endpoint(error), error);
  if (!error) acceptor.accept(impl.far.socket, error);
  if (error) return {Errc::io_error, "loopback: " + error.message()};
  if (!impl.near.adopt_socket() || !impl.far.adopt_socket()) {
    return {Errc::io_error, "loopback: TLS cannot use the socket"};
  }
  spawn(impl.far.context.get_executor(), "bare TLS echo", echo(impl.far, impl.bytes));
  impl.thread = start_thread("fm-tls-echo", [&impl] {
    pin_this_thread(impl.far_core);
    impl.far.context.run();
  });
  std::vector<double> none;
  return run(0, none);
}

Result<void> BareTlsEcho::run(int trips, std::vector<double>& samples) {
  Impl& impl = *impl_;
  bool well = true;
  impl.near.context.restart();
  spawn(impl.near.context.get_executor(), "bare TLS trips",
        ping(impl.near, impl.bytes, trips, samples, well));
  impl.near.context.run();
  if (!well) return {Errc::connection_lost, "the bare TLS echo stopped answering"};
  return {};
}

}  // namespace farmesh::net
