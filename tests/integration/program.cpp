#include "integration/program.hpp"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <random>
#include <sstream>
#include <thread>
#include <utility>

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

namespace farmesh::test {
namespace {

namespace fs = std::filesystem;

// Removed when the process ends.
struct Scratch {
  fs::path path = fs::temp_directory_path() / ("farmesh-test-" + std::to_string(::getpid()));
  Scratch() { fs::create_directories(path); }
  ~Scratch() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
};

bool can_bind(int kind, std::uint16_t port) {
  const int socket = ::socket(AF_INET, kind, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  const bool bound =
      ::bind(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  ::close(socket);
  return bound;
}

}  // namespace

Ended run(std::vector<std::string> arguments, const std::string& input) {
  arguments.insert(arguments.begin(), kProgram);
  Result<cli::ChildProcess> child = cli::ChildProcess::start(arguments, {}, input);
  REQUIRE(child);
  Ended ended;
  ended.output = child->read_all();
  ended.status = child->wait();
  ended.errors = child->errors();
  return ended;
}

Generated generate(std::vector<std::string> arguments) {
  const Ended ended = run(std::vector<std::string>{"generate", "--json"} + arguments);
  Generated generated;
  generated.status = ended.status;
  generated.errors = ended.errors;
  std::istringstream lines(ended.output);
  for (std::string line; std::getline(lines, line);) {
    nlohmann::json object = nlohmann::json::parse(line, nullptr, false);
    INFO("line ", line);
    REQUIRE(object.is_object());
    generated.tokens.push_back(std::move(object));
  }
  if (!generated.tokens.empty()) {
    generated.last = std::move(generated.tokens.back());
    generated.tokens.pop_back();
  }
  return generated;
}

std::string stories() {
  const fs::path folder = fs::path(FARMESH_SOURCE_DIR) / "../shared/models/stories260K";
  if (fs::exists(folder / "model.safetensors")) return folder.lexically_normal();
  MESSAGE("skipped: ../shared/models/stories260K is not here");
  return {};
}

std::vector<TokenId> story_ids() {
  return {1,   403, 407, 261, 378, 432, 383, 286, 261, 376, 298, 315, 421, 395, 317,
          426, 338, 401, 396, 267, 337, 410, 408, 419, 292, 411, 322, 265, 282, 295,
          433, 426, 385, 328, 432, 358, 394, 261, 370, 432, 352, 266, 268, 388, 426,
          338, 391, 266, 267, 337, 335, 312, 432, 398, 312, 286, 267, 414, 270, 333};
}

std::string any_model() {
  for (const char* place : {"models/demo", "../shared/models/stories260K"}) {
    const fs::path folder = (fs::path(FARMESH_SOURCE_DIR) / place).lexically_normal();
    if (fs::exists(folder / "model.safetensors")) return folder;
  }
  FAIL("models/demo is missing");
  return {};
}

std::uint32_t layers_of(const std::string& model) {
  std::ifstream file(fs::path(model) / "config.json");
  return nlohmann::json::parse(file).at("num_hidden_layers");
}

std::vector<cli::NodeProcess> start_nodes(const std::string& model, const std::vector<Span>& spans,
                                          const std::vector<std::string>& more) {
  std::vector<cli::NodeProcess> nodes;
  for (const Span span : spans) {
    Result<cli::NodeProcess> node =
        cli::NodeProcess::start({.program = kProgram,
                                 .model = model,
                                 .layers = span,
                                 .more = std::vector<std::string>{"--threads", "1"} + more});
    REQUIRE(node);
    nodes.push_back(*std::move(node));
  }
  for (cli::NodeProcess& node : nodes) {
    const Result<void> listening = node.await_listening(std::chrono::minutes(1));
    INFO((listening ? "" : listening.error().to_string()));
    REQUIRE(listening);
  }
  return nodes;
}

std::vector<std::string> addresses(const std::vector<cli::NodeProcess>& nodes) {
  std::vector<std::string> all;
  for (const cli::NodeProcess& node : nodes) all.push_back(node.address());
  return all;
}

std::vector<std::string> peer_flags(const std::vector<cli::NodeProcess>& nodes) {
  std::vector<std::string> flags;
  for (const std::string& address : addresses(nodes)) {
    flags.emplace_back("--peer");
    flags.push_back(address);
  }
  return flags;
}

bool soon(const std::function<bool()>& holds) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(3);
  while (std::chrono::steady_clock::now() < deadline) {
    if (holds()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return false;
}

std::uint16_t free_port() {
  std::random_device random;
  for (int attempt = 0; attempt < 100; ++attempt) {
    const auto port = static_cast<std::uint16_t>(10'000 + random() % 20'000);
    if (can_bind(SOCK_STREAM, port) && can_bind(SOCK_DGRAM, port)) return port;
  }
  FAIL("no free port");
  return 0;
}

fs::path scratch() {
  static const Scratch folder;
  return folder.path;
}

std::uint64_t seed() {
  static const std::uint64_t value = [] {
    const char* given = std::getenv("FARMESH_SEED");
    const std::uint64_t chosen =
        given != nullptr
            ? std::strtoull(given, nullptr, 10)
            : std::uint64_t(std::chrono::system_clock::now().time_since_epoch().count() /
                            1'000'000);
    std::cerr << "FARMESH_SEED=" << chosen << "\n";
    return chosen;
  }();
  return value;
}

std::vector<std::string> operator+(std::vector<std::string> a, const std::vector<std::string>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

}  // namespace farmesh::test
