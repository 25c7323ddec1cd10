// A node that nobody can dial serves through a relay, which others find by its record alone.
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "integration/program.hpp"

namespace farmesh::test {
namespace {

using namespace std::chrono_literals;
using Flags = std::vector<std::string>;

/// Waits until the node has told `what` in its log, `count` times.
void await_told(const cli::NodeProcess& node, const std::string& what, int count = 1) {
  const auto limit = std::chrono::steady_clock::now() + 60s;
  for (;;) {
    const std::string log = node.process().errors();
    int told = 0;
    for (std::size_t at = 0; (at = log.find(what, at)) != std::string::npos; ++at) ++told;
    if (told >= count) return;
    INFO("never told: ", what, "\n", log);
    REQUIRE(std::chrono::steady_clock::now() < limit);
    std::this_thread::sleep_for(20ms);
  }
}

/// The story's model and ids, else the demo's and what one process says.
struct Story {
  std::string model = stories().empty() ? any_model() : stories();
  Flags flags{"--model", model,          "--prompt", kStoryPrompt,   "--temperature",
              "0",       "--max-tokens", "55",       "--ignore-eos", "--threads",
              "1"};
  std::vector<TokenId> ids = stories().empty() ? alone() : story_ids();

  std::vector<TokenId> alone() const {
    const Generated whole = generate(flags + Flags{"--local"});
    REQUIRE(whole.status == 0);
    return whole.ids();
  }
};

/// Asks the mesh; which hops went through a relay.
int relayed_hops(const Story& story, const std::string& bootstrap) {
  const Generated found = generate(story.flags + Flags{"--bootstrap", bootstrap});
  INFO(found.errors);
  REQUIRE(found.status == 0);
  CHECK(found.ids() == story.ids);
  int relayed = 0;
  for (const auto& hop : found.last.at("hops")) {
    relayed += hop.dump().find("/p2p-circuit/p2p/") != std::string::npos ? 1 : 0;
  }
  return relayed;
}

cli::NodeProcess start_node(const cli::NodeArguments& arguments) {
  Result<cli::NodeProcess> node = cli::NodeProcess::start(arguments);
  REQUIRE(node);
  const Result<void> listening = node->await_listening(1min);
  INFO((listening ? "" : listening.error().to_string()));
  REQUIRE(listening);
  return *std::move(node);
}

bool does(const std::string& command) {
  return ::system((command + " >/dev/null 2>&1").c_str()) == 0;
}

/// A machine of its own, as far as the network goes, on a wire to this one.
struct OtherMachine {
  explicit OtherMachine(int number)
      : name("fm" + std::to_string(number)),
        here("10.231." + std::to_string(number % 250) + ".1"),
        there("10.231." + std::to_string(number % 250) + ".2") {}
  ~OtherMachine() { does("ip netns del " + name); }
  OtherMachine(const OtherMachine&) = delete;
  OtherMachine& operator=(const OtherMachine&) = delete;

  bool start() const {
    const std::string in = "ip -n " + name + " ";
    return does("ip netns add " + name) &&
           does("ip link add " + name + "a type veth peer name " + name + "b netns " + name) &&
           does("ip addr add " + here + "/30 dev " + name + "a") &&
           does("ip link set " + name + "a up") && does(in + "link set lo up") &&
           does(in + "addr add " + there + "/30 dev " + name + "b") &&
           does(in + "link set " + name + "b up") && does(in + "route add default via " + here);
  }

  /// The program, as it runs there.
  std::string program() const {
    const std::string script = scratch() / "there.sh";
    std::ofstream(script) << "#!/bin/sh\nexec ip netns exec " << name << " '" << kProgram
                          << "' \"$@\"\n";
    std::filesystem::permissions(script, std::filesystem::perms::owner_all);
    return script;
  }

  const std::string name;
  const std::string here;
  const std::string there;
};

/// A router that speaks NAT-PMP (RFC 6886), and gives the port after the one that is asked for.
class Router {
 public:
  explicit Router(const std::string& address) : socket_(::socket(AF_INET, SOCK_DGRAM, 0)) {
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_port = htons(5351);
    REQUIRE(::inet_pton(AF_INET, address.c_str(), &at.sin_addr) == 1);
    REQUIRE(::bind(socket_, reinterpret_cast<const sockaddr*>(&at), sizeof at) == 0);
    thread_ = std::thread([this] { run(); });
  }
  ~Router() {
    ending_ = true;
    thread_.join();
    ::close(socket_);
  }

  int questions() const noexcept { return questions_; }
  void forget() noexcept { questions_ = 0; }
  /// TCP ports that it sends on.
  std::set<std::uint16_t> open() const {
    const std::lock_guard lock(mutex_);
    return open_;
  }

 private:
  void run() {
    while (!ending_) {
      pollfd waiting{socket_, POLLIN, 0};
      if (::poll(&waiting, 1, 50) <= 0) continue;
      std::array<std::uint8_t, 64> asked{};
      sockaddr_in from{};
      socklen_t size = sizeof from;
      const auto count = ::recvfrom(socket_, asked.data(), asked.size(), 0,
                                    reinterpret_cast<sockaddr*>(&from), &size);
      if (count < 2) continue;
      ++questions_;
      const std::vector<std::uint8_t> answer = answer_to(asked, static_cast<std::size_t>(count));
      ::sendto(socket_, answer.data(), answer.size(), 0, reinterpret_cast<const sockaddr*>(&from),
               size);
    }
  }

  std::vector<std::uint8_t> answer_to(const std::array<std::uint8_t, 64>& asked,
                                      std::size_t count) {
    const auto operation = static_cast<std::uint8_t>(128 + asked[1]);
    if (asked[0] != 0) return {0, operation, 0, 1, 0, 0, 0, 1};  // another version: not here
    if (asked[1] == 0 || count < 12) return {0, operation, 0, 0, 0, 0, 0, 1, 203, 0, 113, 9};
    const auto port = static_cast<std::uint16_t>(asked[4] << 8 | asked[5]);
    const bool opens = (asked[8] | asked[9] | asked[10] | asked[11]) != 0;
    const auto outside = static_cast<std::uint16_t>(opens ? port + 1 : 0);
    if (asked[1] == 2) {
      const std::lock_guard lock(mutex_);
      opens ? void(open_.insert(port)) : void(open_.erase(port));
    }
    return {0,
            operation,
            0,
            0,
            0,
            0,
            0,
            1,
            asked[4],
            asked[5],
            std::uint8_t(outside >> 8),
            std::uint8_t(outside),
            asked[8],
            asked[9],
            asked[10],
            asked[11]};
  }

  int socket_;
  std::atomic<bool> ending_ = false;
  std::atomic<int> questions_ = 0;
  mutable std::mutex mutex_;
  std::set<std::uint16_t> open_;
  std::thread thread_;
};

/// A router that speaks UPnP alone: SSDP to be found, and SOAP over HTTP to be asked.
class UpnpRouter {
 public:
  explicit UpnpRouter(const std::string& address) : address_(address) {
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_port = htons(1900);
    const int yes = 1;
    ::setsockopt(found_by_, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    REQUIRE(::bind(found_by_, reinterpret_cast<const sockaddr*>(&at), sizeof at) == 0);
    ip_mreq group{};
    REQUIRE(::inet_pton(AF_INET, "239.255.255.250", &group.imr_multiaddr) == 1);
    REQUIRE(::inet_pton(AF_INET, address.c_str(), &group.imr_interface) == 1);
    REQUIRE(::setsockopt(found_by_, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof group) == 0);
    at.sin_addr = group.imr_interface;
    at.sin_port = 0;
    socklen_t size = sizeof at;
    REQUIRE(::bind(asked_at_, reinterpret_cast<const sockaddr*>(&at), size) == 0);
    REQUIRE(::listen(asked_at_, 16) == 0);
    ::getsockname(asked_at_, reinterpret_cast<sockaddr*>(&at), &size);
    port_ = ntohs(at.sin_port);
    thread_ = std::thread([this] { run(); });
  }
  ~UpnpRouter() {
    ending_ = true;
    thread_.join();
    ::close(found_by_);
    ::close(asked_at_);
  }

  /// TCP ports that it sends on.
  std::set<std::string> open() const {
    const std::lock_guard lock(mutex_);
    return open_;
  }

 private:
  void run() {
    while (!ending_) {
      std::array<pollfd, 2> waiting{{{found_by_, POLLIN, 0}, {asked_at_, POLLIN, 0}}};
      if (::poll(waiting.data(), waiting.size(), 50) <= 0) continue;
      if (waiting[0].revents != 0) be_found();
      if (waiting[1].revents != 0) be_asked();
    }
  }

  void be_found() {
    std::string asked(2'000, '\0');
    sockaddr_in from{};
    socklen_t size = sizeof from;
    const auto bytes = ::recvfrom(found_by_, asked.data(), asked.size(), 0,
                                  reinterpret_cast<sockaddr*>(&from), &size);
    if (bytes <= 0 || !asked.starts_with("M-SEARCH")) return;
    const std::string answer =
        "HTTP/1.1 200 OK\r\nST: upnp:rootdevice\r\nUSN: uuid:router\r\n"
        "LOCATION: http://" +
        address_ + ":" + std::to_string(port_) + "/router.xml\r\n\r\n";
    ::sendto(found_by_, answer.data(), answer.size(), 0, reinterpret_cast<const sockaddr*>(&from),
             size);
  }

  void be_asked() {
    const int asker = ::accept(asked_at_, nullptr, nullptr);
    std::string request;
    std::array<char, 4'096> bytes{};
    // A description is asked for without a body; a question ends its envelope.
    while (!request.starts_with("GET") || request.find("\r\n\r\n") == std::string::npos) {
      pollfd waiting{asker, POLLIN, 0};
      if (::poll(&waiting, 1, 2'000) <= 0) break;
      const auto got = ::recv(asker, bytes.data(), bytes.size(), 0);
      if (got <= 0) break;
      request.append(bytes.data(), static_cast<std::size_t>(got));
      if (request.find("Envelope>") != std::string::npos) break;
    }
    const std::string body = answer_to(request);
    const std::string answer =
        "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nConnection: close\r\n"
        "Content-Length: " +
        std::to_string(body.size()) + "\r\n\r\n" + body;
    ::send(asker, answer.data(), answer.size(), MSG_NOSIGNAL);
    ::close(asker);
  }

  std::string answer_to(const std::string& request) {
    const std::string service = "urn:schemas-upnp-org:service:WANIPConnection:1";
    if (request.starts_with("GET")) {
      return "<?xml version=\"1.0\"?><root xmlns=\"urn:schemas-upnp-org:device-1-0\"><device>"
             "<serviceList><service><serviceType>" +
             service +
             "</serviceType><controlURL>/control"
             "</controlURL></service></serviceList></device></root>";
    }
    const auto field = [&request](const std::string& name) {
      const std::size_t at = request.find("<" + name + ">");
      if (at == std::string::npos) return std::string();
      const std::size_t begin = at + name.size() + 2;
      return request.substr(begin, request.find('<', begin) - begin);
    };
    const bool tcp = field("NewProtocol") == "TCP";
    std::string what = "GetExternalIPAddress";
    std::string told = "<NewExternalIPAddress>203.0.113.9</NewExternalIPAddress>";
    for (const char* verb : {"AddPortMapping", "DeletePortMapping"}) {
      if (request.find(std::string("#") + verb) == std::string::npos) continue;
      what = verb;
      told.clear();
      const std::lock_guard lock(mutex_);
      if (tcp && what == "AddPortMapping") open_.insert(field("NewExternalPort"));
      if (tcp && what == "DeletePortMapping") open_.erase(field("NewExternalPort"));
    }
    return "<?xml version=\"1.0\"?><s:Envelope "
           "xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\">"
           "<s:Body><u:" +
           what + "Response xmlns:u=\"" + service + "\">" + told + "</u:" + what +
           "Response></s:Body></s:Envelope>";
  }

  const std::string address_;
  const int found_by_ = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  const int asked_at_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  std::uint16_t port_ = 0;
  std::atomic<bool> ending_ = false;
  mutable std::mutex mutex_;
  std::set<std::string> open_;
  std::thread thread_;
};

}  // namespace

TEST_SUITE("integration/relay") {
  TEST_CASE("a node whose port is blocked serves through a relay, and through another after it") {
    const Story story;
    const std::vector<Span> spans = cli::even_split(layers_of(story.model), 2);
    const std::string port = std::to_string(free_port());
    const std::string bootstrap = "127.0.0.1:" + port;
    const Flags one{"--threads", "1"};
    auto relays =
        start_nodes(story.model, {spans[0]}, {"--dht-port", port, "--relay-sessions", "0"});
    for (int i = 0; i < 2; ++i) {
      const Flags more{"--bootstrap", bootstrap, "--dht-port", "0"};
      for (auto& node : start_nodes(story.model, {spans[0]}, more))
        relays.push_back(std::move(node));
    }
    // It tells an address where nobody listens, and listens where nobody is told to dial.
    const cli::NodeProcess hidden =
        start_node({.program = kProgram,
                    .model = story.model,
                    .layers = spans[1],
                    .listen = "127.0.0.2:0",
                    .more = one + Flags{"--bootstrap", bootstrap, "--dht-port", "0", "--advertise",
                                        "127.0.0.1:" + std::to_string(free_port())}});
    await_told(hidden, "cannot reach this node");
    await_told(hidden, "serving through relay");
    CHECK(relayed_hops(story, bootstrap) == 1);

    // Its relay ends: it finds another, and is found there.
    const std::string log = hidden.process().errors();
    for (cli::NodeProcess& relay : relays) {
      if (log.find("through relay " + relay.address() + "/") == std::string::npos) continue;
      relay.process().signal(SIGKILL);
      const auto killed = std::chrono::steady_clock::now();
      await_told(hidden, "serving through relay", 2);
      const std::chrono::duration<double> took = std::chrono::steady_clock::now() - killed;
      MESSAGE("behind another relay ", took.count(), " s after the death of the first");
      CHECK(took < 15s);  // 0.25 s and a dial, on a machine that does nothing else
    }
    CHECK(relayed_hops(story, bootstrap) == 1);
  }

  TEST_CASE("a head that nobody can dial drives over its own layers, wherever they come") {
    const Story story;
    const std::vector<Span> spans = cli::even_split(layers_of(story.model), 2);
    const std::string port = std::to_string(free_port());
    const auto relays = start_nodes(story.model, {spans[0]}, {"--dht-port", port});
    const cli::NodeProcess hidden =
        start_node({.program = kProgram,
                    .model = story.model,
                    .layers = spans[1],
                    .head = true,
                    .listen = "127.0.0.2:0",
                    .more = {"--threads", "1", "--bootstrap", "127.0.0.1:" + port, "--dht-port",
                             "0", "--advertise", "127.0.0.1:" + std::to_string(free_port())}});
    await_told(hidden, "serving through relay");
    const Generated told =
        generate(story.flags + Flags{"--remote-head", "--bootstrap", relays.front().address()});
    INFO(told.errors);
    REQUIRE(told.status == 0);
    CHECK(told.ids() == story.ids);
    REQUIRE(told.last.at("hops").size() == 2);
    CHECK(told.last.at("hops").at(1).dump().find("/p2p-circuit/p2p/") != std::string::npos);
  }

  TEST_CASE("nobody relays where nobody allows it, and that is told") {
    const Story story;
    const std::vector<Span> spans = cli::even_split(layers_of(story.model), 2);
    const std::string port = std::to_string(free_port());
    const Flags none{"--relay-sessions", "0"};
    const auto nodes = start_nodes(story.model, {spans[0]}, none + Flags{"--dht-port", port});
    const cli::NodeProcess hidden = start_node(
        {.program = kProgram,
         .model = story.model,
         .layers = spans[1],
         .listen = "127.0.0.2:0",
         .more = none + Flags{"--threads", "1", "--bootstrap", "127.0.0.1:" + port, "--dht-port",
                              "0", "--advertise", "127.0.0.1:" + std::to_string(free_port())}});
    await_told(hidden, "none of 0 relays has room");
  }

  TEST_CASE("a node on a machine that lets nobody in serves through a relay") {
    const OtherMachine machine(::getpid());
    if (!machine.start()) {
      MESSAGE("skipped: no network namespace can be made here");
      return;
    }
    const Story story;
    const std::vector<Span> spans = cli::even_split(layers_of(story.model), 2);
    const std::string dht = std::to_string(free_port());
    const Flags common{"--threads", "1", "--no-port-mapping", "--dht-port"};
    const cli::NodeProcess relay = start_node({.program = kProgram,
                                               .model = story.model,
                                               .layers = spans[0],
                                               .listen = machine.here + ":0",
                                               .more = common + Flags{dht}});
    // Only its own loopback gets in there; it comes out by the wire.
    const std::string port = std::to_string(free_port());
    const cli::NodeProcess hidden =
        start_node({.program = machine.program(),
                    .model = story.model,
                    .layers = spans[1],
                    .listen = "127.0.0.1:" + port,
                    .more = common + Flags{"0", "--bootstrap", relay.address(), "--advertise",
                                           machine.there + ":" + port}});
    await_told(hidden, "cannot reach this node at " + machine.there);
    await_told(hidden, "serving through relay " + relay.address());
    CHECK(relayed_hops(story, relay.address()) == 1);
  }

  TEST_CASE("a router is asked for the port, which is told, and given back at the end") {
    const OtherMachine machine(::getpid());
    if (!machine.start()) {
      MESSAGE("skipped: no network namespace can be made here");
      return;
    }
    Router router(machine.here);
    const std::uint16_t port = free_port();
    const std::string text = std::to_string(port);
    const Flags flags{"--threads",   "1",
                      "--advertise", machine.there + ":" + text,
                      "--dht-port",  std::to_string(free_port())};
    for (const bool mapping : {true, false}) {
      cli::NodeProcess node =
          start_node({.program = machine.program(),
                      .model = any_model(),
                      .layers = {0, 1},
                      .listen = "0.0.0.0:" + text,
                      .more = flags + (mapping ? Flags{} : Flags{"--no-port-mapping"})});
      if (mapping) {
        await_told(node, "sends its port " + std::to_string(port + 1) + " to port " + text);
        CHECK(router.open().contains(port));
      }
      node.process().signal(SIGTERM);
      CHECK(node.process().wait() == 0);
      const auto limit = std::chrono::steady_clock::now() + 10s;
      while (!router.open().empty() && std::chrono::steady_clock::now() < limit) {
        std::this_thread::sleep_for(10ms);
      }
      CHECK(router.open().empty());
      CHECK((router.questions() > 0) == mapping);
      router.forget();
    }
  }

  TEST_CASE("a router that speaks UPnP is asked as well, and gets its port back") {
    const OtherMachine machine(::getpid());
    if (!machine.start()) {
      MESSAGE("skipped: no network namespace can be made here");
      return;
    }
    const UpnpRouter router(machine.here);
    const std::string port = std::to_string(free_port());
    cli::NodeProcess node =
        start_node({.program = machine.program(),
                    .model = any_model(),
                    .layers = {0, 1},
                    .listen = "0.0.0.0:" + port,
                    .more = {"--threads", "1", "--advertise", machine.there + ":" + port,
                             "--dht-port", std::to_string(free_port())}});
    await_told(node, "sends its port " + port + " to port " + port + " here, by UPnP");
    CHECK(router.open().contains(port));
    node.process().signal(SIGTERM);
    CHECK(node.process().wait() == 0);
    const auto limit = std::chrono::steady_clock::now() + 10s;
    while (!router.open().empty() && std::chrono::steady_clock::now() < limit) {
      std::this_thread::sleep_for(10ms);
    }
    CHECK(router.open().empty());
  }
}

}  // namespace farmesh::test
