#include "http/echo_bench.hpp"

#include <string>
#include <thread>
#include <utility>  // before Asio 1.74, which forgets it

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <sys/socket.h>

#include "base/thread.hpp"

namespace farmesh::http {
namespace {

namespace beast_http = boost::beast::http;
using boost::beast::error_code;
using tcp = boost::asio::ip::tcp;

}  // namespace

struct BeastEcho::Impl {
  boost::asio::io_context context;
  tcp::acceptor acceptor{context};
  std::uint16_t port = 0;
  std::thread thread;

  void serve() {
    error_code problem;
    tcp::socket socket(context);
    acceptor.accept(socket, problem);
    if (problem) return;
    socket.set_option(tcp::no_delay(true), problem);
    boost::beast::flat_buffer buffer;
    while (!problem) {
      beast_http::request<beast_http::string_body> request;
      beast_http::read(socket, buffer, request, problem);
      if (problem) return;
      beast_http::response<beast_http::string_body> response{beast_http::status::ok, 11};
      response.body() = std::move(request.body());
      response.prepare_payload();
      beast_http::write(socket, response, problem);
    }
  }
};

BeastEcho::BeastEcho(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}

BeastEcho::~BeastEcho() {
  ::shutdown(impl_->acceptor.native_handle(), SHUT_RDWR);  // wakes an accept without a client
  impl_->thread.join();
}

Result<std::unique_ptr<BeastEcho>> BeastEcho::start() {
  auto impl = std::make_unique<Impl>();
  error_code problem;
  const tcp::endpoint loopback(boost::asio::ip::address_v4::loopback(), 0);
  impl->acceptor.open(loopback.protocol(), problem);
  if (!problem) impl->acceptor.bind(loopback, problem);
  if (!problem) impl->acceptor.listen(1, problem);
  if (!problem) impl->port = impl->acceptor.local_endpoint(problem).port();
  if (problem) return {Errc::io_error, "no loopback port for an echo: " + problem.message()};
  impl->thread = start_thread("http echo", [raw = impl.get()] { raw->serve(); });
  return std::unique_ptr<BeastEcho>(new BeastEcho(std::move(impl)));
}

std::uint16_t BeastEcho::port() const noexcept { return impl_->port; }

}  // namespace farmesh::http
