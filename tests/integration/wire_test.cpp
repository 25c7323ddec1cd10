// What somebody sees who watches the wire: every packet of real processes, a relay's as well.
#include <algorithm>
#include <array>
#include <atomic>
#include <cctype>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <linux/if.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "integration/program.hpp"

namespace farmesh::test {
namespace {

using namespace std::chrono_literals;
using Flags = std::vector<std::string>;

/// All that TCP carries from or to some ports of this machine, packet by packet, as tcpdump has it.
class Watcher {
 public:
  explicit Watcher(std::set<std::uint16_t> ports)
      : ports_(std::move(ports)), socket_(::socket(AF_PACKET, SOCK_DGRAM, htons(ETH_P_IP))) {
    if (socket_ < 0) return;
    const int room = 32 << 20;
    ::setsockopt(socket_, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
    sockaddr_ll loopback{};
    loopback.sll_family = AF_PACKET;
    loopback.sll_protocol = htons(ETH_P_IP);
    ifreq wire{};
    std::strcpy(wire.ifr_name, "lo");
    REQUIRE(::ioctl(socket_, SIOCGIFINDEX, &wire) == 0);
    loopback.sll_ifindex = wire.ifr_ifindex;
    REQUIRE(::bind(socket_, reinterpret_cast<const sockaddr*>(&loopback), sizeof loopback) == 0);
    thread_ = std::thread([this] { watch(); });
  }
  ~Watcher() {
    ending_ = true;
    if (thread_.joinable()) thread_.join();
    if (socket_ >= 0) ::close(socket_);
  }

  bool may_watch() const noexcept { return socket_ >= 0; }
  std::vector<std::string> packets() const {
    const std::lock_guard lock(mutex_);
    return packets_;
  }

 private:
  void watch() {
    std::string packet(70'000, '\0');
    while (!ending_) {
      pollfd waiting{socket_, POLLIN, 0};
      if (::poll(&waiting, 1, 50) <= 0) continue;
      const auto bytes = ::recv(socket_, packet.data(), packet.size(), 0);
      if (bytes > 0) take(std::string_view(packet).substr(0, static_cast<std::size_t>(bytes)));
    }
  }

  void take(std::string_view ip) {
    const auto at = [&](std::size_t i) { return static_cast<std::uint8_t>(ip[i]); };
    if (ip.size() < 20 || at(9) != IPPROTO_TCP) return;
    const std::string_view tcp = ip.substr(std::min<std::size_t>(ip.size(), (at(0) & 15) * 4));
    if (tcp.size() < 20) return;
    const auto port = [&](std::size_t i) {
      return static_cast<std::uint16_t>(static_cast<std::uint8_t>(tcp[i]) << 8 |
                                        static_cast<std::uint8_t>(tcp[i + 1]));
    };
    if (!ports_.contains(port(0)) && !ports_.contains(port(2))) return;
    const std::size_t header = (static_cast<std::uint8_t>(tcp[12]) >> 4) * std::size_t{4};
    if (header >= tcp.size()) return;
    const std::lock_guard lock(mutex_);
    packets_.emplace_back(tcp.substr(header));
  }

  const std::set<std::uint16_t> ports_;
  const int socket_;
  std::atomic<bool> ending_ = false;
  mutable std::mutex mutex_;
  std::vector<std::string> packets_;
  std::thread thread_;
};

std::size_t longest_text(const std::string& bytes) {
  std::size_t longest = 0;
  std::size_t run = 0;
  for (const char byte : bytes) {
    run = std::isprint(static_cast<unsigned char>(byte)) != 0 ? run + 1 : 0;
    longest = std::max(longest, run);
  }
  return longest;
}

}  // namespace

TEST_SUITE("integration/wire") {
  TEST_CASE("who watches every packet of nodes, a head and a relay reads nothing") {
    const std::uint16_t relay_port = free_port();
    const std::uint16_t hidden_port = free_port();
    const Watcher watcher({relay_port, hidden_port});
    if (!watcher.may_watch()) {
      MESSAGE("skipped: this user may not watch packets");
      return;
    }
    const std::string model = any_model();
    const std::vector<Span> spans = cli::even_split(layers_of(model), 2);
    const std::string dht = std::to_string(free_port());
    const Flags one{"--threads", "1", "--dht-port"};
    const auto start = [&](cli::NodeArguments arguments) {
      Result<cli::NodeProcess> node = cli::NodeProcess::start(arguments);
      REQUIRE(node);
      REQUIRE(node->await_listening(1min));
      return *std::move(node);
    };
    const std::string relay_address = "127.0.0.1:" + std::to_string(relay_port);
    const cli::NodeProcess relay = start({.program = kProgram,
                                          .model = model,
                                          .layers = spans[0],
                                          .head = true,
                                          .listen = relay_address,
                                          .more = one + Flags{dht}});
    const cli::NodeProcess hidden =
        start({.program = kProgram,
               .model = model,
               .layers = spans[1],
               .listen = "127.0.0.2:" + std::to_string(hidden_port),
               .more = one + Flags{"0", "--bootstrap", "127.0.0.1:" + dht, "--advertise",
                                   "127.0.0.1:" + std::to_string(free_port())}});
    const auto limit = std::chrono::steady_clock::now() + 1min;
    while (hidden.process().errors().find("serving through relay") == std::string::npos) {
      REQUIRE(std::chrono::steady_clock::now() < limit);
      std::this_thread::sleep_for(20ms);
    }
    const Generated told =
        generate({"--model", model, "--prompt", kStoryPrompt, "--temperature", "0", "--max-tokens",
                  "24", "--remote-head", "--bootstrap", relay_address});
    INFO(told.errors);
    REQUIRE(told.status == 0);
    REQUIRE(told.last.at("hops").dump().find("/p2p-circuit/p2p/") != std::string::npos);

    const std::vector<std::string> packets = watcher.packets();
    std::size_t bytes = 0;
    int preambles = 0;
    for (const std::string& packet : packets) {
      bytes += packet.size();
      CHECK(longest_text(packet) < 32);  // a node's id in an address alone has 64
      CHECK_FALSE(packet.starts_with("FMSH"));
      preambles += packet.starts_with("FMRELAY1") ? 1 : 0;
      for (const char* word : {"farmesh", "exact-2", "/p2p-circuit", "127.0.0.1", "Once upon"}) {
        CAPTURE(word);
        CHECK(packet.find(word) == std::string::npos);
      }
    }
    MESSAGE(packets.size(), " packets, ", bytes, " bytes");
    CHECK(bytes > 100'000);
    CHECK(preambles >
          0);  // the relay's way was among them; its tickets are no secret (docs/nat.md)
  }
}

}  // namespace farmesh::test
