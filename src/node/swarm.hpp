// A whole swarm in one thread on virtual time: real peers with stand-in engines, a real driver
// with a stand-in head, a simulated network between them. The same seed gives the same run.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <asio/io_context.hpp>

#include "driver/generator.hpp"
#include "driver/peer_set.hpp"
#include "model/stage_engine.hpp"
#include "net/clock.hpp"
#include "net/sim_transport.hpp"
#include "serve/peer.hpp"
#include "serve/worker.hpp"

namespace farmesh::sim {

using Tokens = std::vector<TokenId>;

inline constexpr std::uint32_t kLayers = 12;
inline constexpr std::uint32_t kPageTokens = 4;
inline constexpr std::uint32_t kVocab = 97;

struct SwarmOptions {
  net::SimConditions network{std::chrono::milliseconds(2), std::chrono::milliseconds(1), 0};
  Duration compute_base = std::chrono::microseconds(500);  // of one forward pass
  Duration compute_per_row = std::chrono::microseconds(50);
  serve::WorkerLimits limits{.cache_tokens = 4'096};
  driver::ChainOptions chain = small_chunks();  // sizes and session are filled in

  static driver::ChainOptions small_chunks() {
    driver::ChainOptions chain;
    chain.max_chunk_rows = 8;
    return chain;
  }
  std::uint64_t history_bytes = 256u << 20;
  double drift = 0;  // of the peers' clocks, fast and slow in turn: 0.01 is one percent
  std::uint64_t seed = 1;
  bool paid = false;  // peers have keys, and serve only under a grant of the driver's
};

/// One prompt and what is generated from it.
struct Talk {
  Tokens prompt;
  std::uint32_t max_tokens = 0;
  SamplingOptions sampling;
  std::uint32_t max_draft = 0;
  std::shared_ptr<driver::Guesser> draft_model;  // as GeneratorOptions has it

  Tokens told;  // filled as tokens come
  std::vector<std::uint32_t> indices;
  std::function<void(std::size_t)> on_token;  // with the number told so far; may be empty
  std::function<void()> on_end;               // `finish` is set; may be empty
  std::optional<Result<wire::Finish>> finish;
  std::unique_ptr<driver::Generator> generator;
  std::shared_ptr<driver::Bill> bill;  // made by start() where the swarm is paid
};

/// The tokens of one engine with all layers and a plain loop: what every swarm must tell.
Tokens alone(const Tokens& prompt, std::uint32_t max_tokens, const SamplingOptions& sampling);

/// `length` tokens that depend on `seed`, and greedy or warm options.
Tokens prompt_of(std::uint32_t seed, std::size_t length);
SamplingOptions greedy();
SamplingOptions warm(std::uint64_t seed);

/// FARMESH_SEED if set, else `fallback`.
std::uint64_t seed_or(std::uint64_t fallback);

class Swarm {
 public:
  explicit Swarm(SwarmOptions options = {});
  ~Swarm();

  /// A peer named `name` that listens at "name:1", known to the driver.
  void add(const std::string& name, Span span);
  /// As add(), computing as slowly as said, or with another numerics class.
  void add_slow(const std::string& name, Span span, Duration base);
  void add_of_class(const std::string& name, Span span, const std::string& numerics_class);
  /// Connects the driver to all peers.
  void connect();
  /// The same without waiting, while talks go on.
  void connect_soon();

  /// SIGKILL: its links end, its sessions and caches are gone.
  void kill(const std::string& name);
  /// Started again, with nothing in its cache.
  void revive(const std::string& name);
  bool alive(const std::string& name) const { return !dead_.contains(name); }
  /// Lets the peer's next forward passes take so much longer each.
  void slow_down(const std::string& name, Duration extra);
  /// Time that the peer's forward passes took so far, those that have ended.
  Duration busy(const std::string& name) const;

  /// `talk` must outlive leaks() and be gone before the swarm: declare it after.
  void start(Talk& talk);
  /// Closes an ended talk's session; `talk` may go then.
  void forget(Talk& talk);
  /// Until all started talks have ended; false after an hour of virtual time.
  bool run();
  bool run_until(const std::function<bool()>& done);
  void pass(Duration duration);

  /// start(), run(), and a description of what went wrong; empty when the talk told what an
  /// engine alone tells, each token once, in order.
  std::string hold(Talk& talk);
  static std::string verdict(const Talk& talk);
  /// Ends every session; empty when then every living peer has nothing left but cached pages.
  std::string leaks();
  /// Of events so far.
  std::size_t count(driver::ChainEvent::Kind kind) const;

  asio::io_context context{1};
  net::SimClock clock{context};
  SwarmOptions options;
  net::SimNetwork network;
  std::unique_ptr<driver::PeerSet> peers;
  std::vector<driver::ChainEvent> events;

 private:
  struct Machine;
  Machine& build(const std::string& name, std::unique_ptr<model::StageEngine> engine,
                 Duration base);
  static net::Task<void> talk_through(Swarm& swarm, Talk& talk);

  std::unique_ptr<net::Transport> transport_;
  std::map<std::string, std::unique_ptr<Machine>> machines_;
  std::unique_ptr<serve::Worker> head_;
  std::set<std::string> dead_;
  std::vector<Talk*> talks_;  // started, generators still held
  std::uint32_t next_session_ = 1;
  int talking_ = 0;
};

}  // namespace farmesh::sim
