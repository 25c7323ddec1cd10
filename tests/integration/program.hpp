// The program as a user runs it: processes, their output, their exit status.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include <farmesh/types.hpp>

#include "cli/child_process.hpp"
#include "cli/node_process.hpp"

namespace farmesh::test {

inline constexpr const char* kProgram = FARMESH_PROGRAM;

struct Ended {
  int status = -1;
  std::string output;
  std::string errors;
};

/// Runs the program to its end.
Ended run(std::vector<std::string> arguments, const std::string& input = {});

/// What `generate --json` said.
struct Generated {
  int status = -1;
  std::vector<nlohmann::json> tokens;  // a line each
  nlohmann::json last;                 // of the whole, or the error
  std::string errors;

  std::vector<TokenId> ids() const { return last.at("token_ids").get<std::vector<TokenId>>(); }
};
Generated generate(std::vector<std::string> arguments);

/// The folder of `../shared/models/stories260K`; empty, with a message, where it is absent.
std::string stories();
inline constexpr const char* kStoryPrompt = "Once upon a time";
/// Its first 60 ids, greedy, prompt included, as two independent implementations found them.
std::vector<TokenId> story_ids();
inline constexpr std::uint32_t kStoryLayers = 5;

/// A model that is always there: the demo's.
std::string any_model();
/// Its layer count.
std::uint32_t layers_of(const std::string& model);

/// Nodes on loopback, one a span, all listening. The test fails if one does not start.
std::vector<cli::NodeProcess> start_nodes(const std::string& model, const std::vector<Span>& spans,
                                          const std::vector<std::string>& more = {});
/// --peer ADDRESS for each.
std::vector<std::string> peer_flags(const std::vector<cli::NodeProcess>& nodes);
std::vector<std::string> addresses(const std::vector<cli::NodeProcess>& nodes);

/// Whether it holds within three minutes; looks all the time.
bool soon(const std::function<bool()>& holds);

/// A port free for TCP and UDP, below those that the system hands out by itself: no connection of
/// a process beside this one takes it before the node does.
std::uint16_t free_port();

/// A folder of this test process's own, removed at its end.
std::filesystem::path scratch();

/// From FARMESH_SEED or the clock; printed, so that a failure can be repeated.
std::uint64_t seed();

std::vector<std::string> operator+(std::vector<std::string> a, const std::vector<std::string>& b);

}  // namespace farmesh::test
