// A Redis server of the tests' own: on a free loopback port, without files, gone with the process.
// Nothing when Debian's binary is not installed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/assert.hpp"

namespace farmesh::test {

class RedisServer {
 public:
  /// Null when there is no Redis on this machine.
  static std::unique_ptr<RedisServer> start() {
    if (!std::filesystem::exists(kBinary)) return nullptr;
    std::unique_ptr<RedisServer> server(new RedisServer());
    for (int attempt = 0; attempt < 10; ++attempt) {  // another may take the port first
      server->port_ = free_port();
      if (server->try_start()) return server;
    }
    FARMESH_ASSERT(false);
    return nullptr;
  }
  ~RedisServer() { stop(); }
  RedisServer(const RedisServer&) = delete;
  RedisServer& operator=(const RedisServer&) = delete;

  std::string url() const { return "redis://:secret@127.0.0.1:" + std::to_string(port_); }

  void stop() {
    if (process_ <= 0) return;
    ::kill(process_, SIGKILL);
    ::waitpid(process_, nullptr, 0);
    process_ = 0;
  }
  void restart() { FARMESH_ASSERT(try_start()); }

 private:
  static constexpr const char* kBinary = "/usr/bin/redis-server";

  RedisServer() = default;

  static sockaddr_in loopback(std::uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    return address;
  }

  static std::uint16_t free_port() {
    const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address = loopback(0);
    socklen_t size = sizeof address;
    FARMESH_ASSERT(::bind(socket, reinterpret_cast<sockaddr*>(&address), size) == 0);
    FARMESH_ASSERT(::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size) == 0);
    ::close(socket);
    return ntohs(address.sin_port);
  }

  bool answers() const {
    const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address = loopback(port_);
    const bool connected =
        ::connect(socket, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
    ::close(socket);
    return connected;
  }

  bool try_start() {
    const std::string port = std::to_string(port_);
    process_ = ::fork();
    if (process_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      const int nowhere = ::open("/dev/null", O_RDWR);
      for (int descriptor : {0, 1, 2}) ::dup2(nowhere, descriptor);
      ::execl(kBinary, kBinary, "--port", port.c_str(), "--bind", "127.0.0.1", "--save", "",
              "--appendonly", "no", "--requirepass", "secret", nullptr);
      ::_exit(127);
    }
    for (int i = 0; i < 3'000; ++i) {
      if (answers()) return true;
      int status = 0;
      if (::waitpid(process_, &status, WNOHANG) == process_) break;
      ::usleep(10'000);
    }
    stop();
    return false;
  }

  pid_t process_ = 0;
  std::uint16_t port_ = 0;
};

}  // namespace farmesh::test
