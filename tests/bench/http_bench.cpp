// Prints what a server-sent event costs beside a bare Beast echo of the same size, and what idle
// connections weigh.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <semaphore>
#include <string>
#include <thread>
#include <utility>  // before Asio 1.74, which forgets it
#include <vector>

#include <arpa/inet.h>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <malloc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/assert.hpp"
#include "http/server.hpp"

namespace {

using namespace farmesh::http;
using tcp = boost::asio::ip::tcp;
namespace beast_http = boost::beast::http;

const std::string kEvent =
    R"({"token":" word","request_id":"0123456789abcdef","tokens_generated":12,"cost_far":"0.0012"})";

double cpu_us(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_nsec) / 1e3;
}

/// CPU and wall time a round, of the whole process but the thread that measures: the client's.
struct Meter {
  double cpu = cpu_us(CLOCK_PROCESS_CPUTIME_ID) - cpu_us(CLOCK_THREAD_CPUTIME_ID);
  double wall = cpu_us(CLOCK_MONOTONIC);

  void print(const char* what, int rounds) const {
    const double cpu_now = cpu_us(CLOCK_PROCESS_CPUTIME_ID) - cpu_us(CLOCK_THREAD_CPUTIME_ID);
    std::printf("%-28s %8.2f us CPU %8.2f us wall\n", what, (cpu_now - cpu) / rounds,
                (cpu_us(CLOCK_MONOTONIC) - wall) / rounds);
  }
};

int connect_to(std::uint16_t port) {
  const int descriptor = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int connected =
      ::connect(descriptor, reinterpret_cast<sockaddr*>(&address), sizeof(address));
  FARMESH_ASSERT(descriptor >= 0 && connected == 0);
  const int on = 1;
  ::setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  return descriptor;
}

void send_all(int descriptor, const std::string& text) {
  const ssize_t sent = ::send(descriptor, text.data(), text.size(), MSG_NOSIGNAL);
  FARMESH_ASSERT(sent == static_cast<ssize_t>(text.size()));
}

/// Reads until `mark` came `count` times; `carry` holds what was read beyond.
void read_marks(int descriptor, const std::string& mark, int count, std::string& carry) {
  while (count > 0) {
    if (const std::size_t at = carry.find(mark); at != std::string::npos) {
      carry.erase(0, at + mark.size());
      --count;
      continue;
    }
    char bytes[4096];
    const ssize_t got = ::recv(descriptor, bytes, sizeof(bytes), 0);
    FARMESH_ASSERT(got > 0);
    carry.append(bytes, static_cast<std::size_t>(got));
  }
}

/// A blocking Beast server of one connection: reads a request, writes its body back.
void bench_echo(int rounds) {
  boost::asio::io_context context;
  tcp::acceptor acceptor(context, {boost::asio::ip::address_v4::loopback(), 0});
  std::thread server([&] {
    tcp::socket socket = acceptor.accept();
    socket.set_option(tcp::no_delay(true));
    boost::beast::flat_buffer buffer;
    for (;;) {
      beast_http::request<beast_http::string_body> request;
      boost::beast::error_code problem;
      beast_http::read(socket, buffer, request, problem);
      if (problem) return;
      beast_http::response<beast_http::string_body> response{beast_http::status::ok, 11};
      response.body() = std::move(request.body());
      response.prepare_payload();
      beast_http::write(socket, response, problem);
    }
  });
  const int client = connect_to(acceptor.local_endpoint().port());
  const std::string request =
      "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(kEvent.size()) +
      "\r\n\r\n" + kEvent;
  std::string carry;
  const Meter meter;
  for (int i = 0; i < rounds; ++i) {
    send_all(client, request);
    read_marks(client, kEvent, 1, carry);
  }
  meter.print("bare Beast echo", rounds);
  ::close(client);
  server.join();
}

/// One event after another: each is read before the next is written, so that none share a packet.
void bench_events(int rounds) {
  std::counting_semaphore<> read(0);
  Router router;
  router.get("/events",
             [&](const Request&, Responder responder) {
               EventStream stream = responder.events();
               for (int i = 0; i < rounds; ++i) {
                 stream.write({kEvent});
                 read.acquire();
               }
               stream.end();
             },
             {.long_running = true});
  auto server = Server::start(std::move(router), {});
  FARMESH_ASSERT(server.has_value());
  const int client = connect_to((*server)->port());
  std::string carry;
  const Meter meter;
  send_all(client, "GET /events HTTP/1.1\r\nHost: x\r\n\r\n");
  for (int i = 0; i < rounds; ++i) {
    read_marks(client, kEvent, 1, carry);
    read.release();
  }
  meter.print("server-sent event", rounds);
  ::close(client);
}

/// The other process: connects, asks once on each connection, and holds them all until it is told.
void hold_connections(int port_pipe, int done_pipe, int count) {
  std::uint16_t port = 0;
  FARMESH_ASSERT(::read(port_pipe, &port, sizeof(port)) == sizeof(port));
  std::vector<int> held;
  for (int i = 0; i < count; ++i) {
    held.push_back(connect_to(port));
    send_all(held.back(), "GET /ok HTTP/1.1\r\nHost: x\r\n\r\n");
    std::string carry;
    read_marks(held.back(), "\r\n\r\nok", 1, carry);
  }
  FARMESH_ASSERT(::write(done_pipe, "x", 1) == 1);
  char byte;
  static_cast<void>(!::read(port_pipe, &byte, 1));
  _exit(0);
}

double resident_kb() {
  ::malloc_trim(0);
  std::ifstream statm("/proc/self/statm");
  long size = 0, resident = 0;
  statm >> size >> resident;
  return static_cast<double>(resident) * static_cast<double>(sysconf(_SC_PAGESIZE)) / 1024;
}

void bench_idle(int count) {
  int to_child[2], from_child[2];
  FARMESH_ASSERT(::pipe(to_child) == 0 && ::pipe(from_child) == 0);
  const pid_t child = ::fork();  // before any thread: two processes, so that descriptors suffice
  if (child == 0) {
    ::close(to_child[1]);
    hold_connections(to_child[0], from_child[1], count);
  }
  Router router;
  router.get("/ok", [](const Request&, Responder responder) {
    responder.send({200, "ok", "text/plain"});
  });
  ServerOptions options;
  options.max_connections_per_address = count + 1;
  options.max_connections = count + 1;
  options.idle_timeout = std::chrono::hours(1);
  {
    auto server = Server::start(std::move(router), options);
    FARMESH_ASSERT(server.has_value());
    const std::uint16_t port = (*server)->port();
    const double before = resident_kb();
    FARMESH_ASSERT(::write(to_child[1], &port, sizeof(port)) == sizeof(port));
    char byte;
    FARMESH_ASSERT(::read(from_child[0], &byte, 1) == 1);
    const double each = (resident_kb() - before) / count;
    std::printf("%d idle connections held, %.2f KB each\n", (*server)->stats().connections, each);
    const Meter meter;
    ::poll(nullptr, 0, 2000);
    meter.print("a second of holding them", 2);
    ::close(to_child[1]);
    ::waitpid(child, nullptr, 0);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 50'000;
  const int connections = argc > 2 ? std::atoi(argv[2]) : 10'000;
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  bench_idle(connections);
  bench_echo(rounds);
  bench_events(rounds);
  return 0;
}
