// What a swarm of given nodes does under a load, on virtual time, with every token checked
// against one engine alone. For `farmesh sim`, `farmesh bench wan` and tests/sim.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "node/swarm.hpp"

namespace farmesh::sim {

/// Nodes that are alike.
struct NodeKind {
  std::uint32_t count = 0;
  std::uint32_t layers = 4;                              // held by each, of kLayers
  Duration layer_time = std::chrono::microseconds(500);  // one pass through one layer
};

struct Load {
  std::vector<NodeKind> kinds{{12, 4, std::chrono::microseconds(500)}};
  net::SimConditions network{std::chrono::milliseconds(10), std::chrono::milliseconds(2), 0};
  std::uint32_t sessions = 20;  // at once; a finished one is followed by another
  std::uint32_t prompt_tokens = 32;
  std::uint32_t tokens = 64;
  Duration duration = std::chrono::seconds(30);  // then running sessions end
  Duration kill_every{};                         // 0: nobody dies
  Duration revive_after = std::chrono::seconds(6);
  double drift = 0;  // as SwarmOptions has it
  bool warm_standby = false;
  std::uint64_t seed = 1;
};

struct LoadReport {
  std::uint32_t started = 0;
  std::uint32_t completed = 0;        // told every token right, once and in order
  std::vector<std::string> failures;  // of the others, at most a few
  std::uint64_t tokens = 0;
  double seconds = 0;
  double p50_ms = 0;  // between two tokens of a session
  double p99_ms = 0;
  double longest_ms = 0;
  std::uint64_t kills = 0;
  std::uint64_t recoveries = 0;
  std::uint64_t frames = 0;

  double tokens_per_second() const { return seconds == 0 ? 0 : double(tokens) / seconds; }
};

/// Peers die only where every layer keeps a living one. Fails with no_route when the kinds do
/// not cover the layers, with invalid_argument for a kind that holds none or too many.
Result<LoadReport> run_load(const Load& load);

struct WanReport {
  double ring_ms = 0;   // a token, decoding
  double bound_ms = 0;  // sum of one-way latencies + compute
  double hub_ms = 0;    // the same hops with every row by way of the driver
};
/// Three hops, `one_way` on every link.
WanReport wan_decode(Duration one_way, Duration hop_time, std::uint32_t tokens);

/// A chain of equal stages that serves many sessions, begun at once.
struct PipelineKind {
  std::uint32_t stages = 4;  // divides kLayers
  std::uint32_t sessions = 16;
  std::uint32_t tokens = 200;                         // of each session
  Duration pass = std::chrono::milliseconds(5);       // of any rows
  Duration per_row = Duration::zero();                // on top
  double last_stage = 1;                              // that its passes take longer
  Duration one_way = std::chrono::microseconds(100);  // every link
  Duration jitter = Duration::zero();                 // at most, on top
};
struct PipelineReport {
  double busy = 0;               // share of the time that a stage computes, mean of all
  double tokens_per_second = 0;  // of all sessions; 0: some session was told another text
};
/// From the twentieth token of the slowest session to the last but twenty of the quickest.
PipelineReport pipeline(const PipelineKind& kind);

struct DraftReport {
  double plain_ms = 0;  // a token, decoding
  double draft_ms = 0;  // the same with guesses verified in one trip; below 0: another text
};
/// The same three hops; a text that repeats itself, but for one token in fourteen. A row in
/// company costs each hop a tenth of a pass more.
DraftReport wan_draft(Duration one_way, Duration hop_time, std::uint32_t tokens);

/// A small model that guesses.
struct DraftKind {
  double acceptance = 0.7;                             // how often a guess is right
  Duration token_time = std::chrono::milliseconds(5);  // that a guess takes
};
/// The same hops and rows; a text that does not repeat itself, guessed by a model.
DraftReport wan_draft_model(Duration one_way, Duration hop_time, std::uint32_t tokens,
                            const DraftKind& kind);

struct RecoveryReport {
  double recovery_ms = 0;   // from the kill to the next token
  double prefill_ms = 0;    // of the lost span alone, for the session's length
  double detection_ms = 0;  // until the driver could know
};
/// The middle one of three peers is killed when the session is `positions` long.
RecoveryReport recovery_at(std::uint32_t positions);

}  // namespace farmesh::sim
