// One session's chain of stages: opens it, runs steps through it, and rebuilds what is lost.
//
// Takes hidden states from generator.hpp, sends them to the first peer; the last peer's answer
// comes back here. A peer's death, silence or refusal is repaired inside step(): the caller only
// sees that it took longer. The chain holds no activations; what a rebuild needs comes from the
// peer before the hole or, when that is gone as well, from `inputs` again.
// Threading: confined to the peer set's executor.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <farmesh/result.hpp>

#include "base/bytes.hpp"
#include "base/types.hpp"
#include "driver/bill.hpp"
#include "driver/node_choice.hpp"
#include "driver/peer_set.hpp"
#include "net/task.hpp"
#include "route/planner.hpp"
#include "route/replan.hpp"
#include "wire/messages.hpp"

namespace farmesh::driver {

struct ChainOptions {
  SessionId session;
  std::uint32_t num_layers = 0;
  std::uint32_t hidden_size = 0;
  DType residual = DType::bf16;
  Activations activations = Activations::residual;  // what rows travel in, to every hop and back
  std::uint32_t max_positions = 0;
  std::vector<PageName> page_names;
  std::uint32_t max_chunk_rows = 256;                // prefill is cut into steps of at most this
  std::uint32_t window_chunks = 4;                   // prefill steps in flight at once
  std::chrono::milliseconds first_patience{30'000};  // for a step before any was measured
  std::chrono::milliseconds min_patience{2'000};     // measured patience is never below
  double patience_factor = 8.0;                      // times the slowest recent step of that size
  std::chrono::milliseconds min_late{200};      // a step is late after twice its usual time …
  std::chrono::milliseconds first_late{1'000};  // … or this, before any was measured
  std::chrono::milliseconds silence{1'000};  // a hop that so long does not answer a probe is lost
  std::chrono::seconds stall_limit{120};     // of repairs without a single row committed
  std::chrono::milliseconds capacity_patience{10'000};  // while the only peers for a layer are full
  std::chrono::milliseconds route_patience{3'000};  // in mid-session, for a layer's peer to return
  std::uint32_t first_epoch = 1;            // above those of any earlier chain of the same session
  std::string traceparent;                  // W3C trace context for every open; may be empty
  std::shared_ptr<Bill> bill;               // what pays for the session; null: nobody
  std::shared_ptr<const NodeChoice> nodes;  // whom it may use; null: anybody
  std::uint32_t prompt_positions = 0;       // of the session's first turn: told apart in receipts
  bool warm_standby = false;          // a spare peer behind every stage gets copies of its inputs
  std::uint32_t expected_tokens = 0;  // that this turn may still take; 0: never replanned
  std::chrono::seconds replan_interval{10};
  route::Policy policy;  // how routes are judged; class and room are filled in
  route::ReplanPolicy replan;
};

struct HopReport {
  std::string address;
  Span span;
  wire::HopTime time;   // of the last step
  double total_ms = 0;  // queue and compute over all steps
};

/// Positions [begin, end), and the route whose results were used for them: who did the work that
/// counts. Rebuilt and repeated rows are in no range, nor are those found by page name.
struct CommittedRows {
  std::uint32_t begin = 0;
  std::uint32_t end = 0;
  route::Route route;
};

struct ChainEvent {
  /// standby: a spare is warm behind `span`. moved: the route was changed for a faster one.
  enum class Kind { opened, lost, replaced, replayed, standby, moved } kind;
  std::string address;
  Span span;
  std::uint32_t positions = 0;  // replayed: how many, through `span`, which ends at `address`
};

class Chain {
 public:
  /// Gives the first stage's inputs [count, hidden] for positions [from, from + count): the
  /// embeddings of the session's tokens.
  using Inputs = std::function<net::Task<Result<Payload>>(std::uint32_t from, std::uint32_t count)>;

  /// `peers` must outlive the chain.
  Chain(PeerSet& peers, Inputs inputs, ChainOptions options,
        std::function<void(const ChainEvent&)> on_event = {});
  ~Chain();  // closes the session on every peer, without waiting

  /// Plans a route and opens the session on it. Returns the positions every stage already
  /// holds by page name: generation may start there. Fails with no_route, no_cache_space, busy …
  net::Task<Result<std::uint32_t>> open();

  /// Raises the promised positions and tells the names of more pages, for a further turn. A hop
  /// that has no room is replaced. Fails as open() does.
  net::Task<Result<void>> extend(std::uint32_t max_positions, std::vector<PageName> page_names);

  /// Runs positions [from, from + count) and returns the last row, [1, hidden] (or all rows, or
  /// none); `from` is at most positions(), and what was computed beyond it is forgotten. Long
  /// runs are cut into chunks that follow each other through the stages. Recovers from lost
  /// peers; fails with no_route when no peer is left for some layer, with context_exceeded beyond
  /// the promise, with cancelled, or as `inputs` does. May be called again after a failure.
  net::Task<Result<Payload>> step(std::uint32_t from, std::uint32_t count, wire::Want want);

  /// Rows of the last step, from `position` on, were guesses that came to nothing: they count as
  /// never committed, and the next step overwrites them. Peers are not told before that.
  void reject(std::uint32_t position);

  /// Forgets positions from `position` on, everywhere. The peers are told, not waited for.
  void truncate(std::uint32_t position);

  /// Frees the session's pages on every peer at once; a step in progress ends with cancelled.
  void close();

  std::vector<HopReport> hops() const;  // of the present route
  const std::vector<CommittedRows>& committed() const noexcept;
  std::uint32_t positions() const noexcept;   // computed by every stage
  std::uint32_t epoch() const noexcept;       // the newest in use
  std::uint32_t recoveries() const noexcept;  // times a lost hop was repaired
  std::uint32_t moves() const noexcept;       // times the route was changed for a faster one
  /// Hops of another numerics class than the first route's were taken, as nobody else was left:
  /// what follows may differ from what a whole route of one class would tell.
  std::uint32_t numerics_changes() const noexcept;

  /// How many more tokens the turn may take, for replanning.
  void expect(std::uint32_t tokens) noexcept;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;  // shared with steps under way
};

}  // namespace farmesh::driver
