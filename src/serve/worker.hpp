// One engine, one scheduler: takes steps from peer.hpp, batches them, gives results back.
//
// Threading: confined to the network thread; forward passes run on `compute`. The worker must
// outlive what it was given to; its destructor lets the pass at hand finish and drops callbacks.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include <farmesh/result.hpp>

#include "base/bytes.hpp"
#include "base/types.hpp"
#include "model/stage_engine.hpp"
#include "net/clock.hpp"
#include "serve/compute.hpp"
#include "serve/step.hpp"
#include "wire/head.hpp"
#include "wire/messages.hpp"

namespace farmesh::serve {

class Worker final : public wire::Head {
 public:
  /// Reserves the engine's pages. Fails with out_of_memory.
  static Result<std::unique_ptr<Worker>> create(std::unique_ptr<model::StageEngine> engine,
                                                std::unique_ptr<Compute> compute, net::Clock& clock,
                                                const WorkerLimits& limits);
  ~Worker() override;

  /// Admits a session, or raises an open one to a newer epoch. `scope` separates page names of
  /// different drivers. Fails with span_unavailable, no_cache_space, too_many_sessions,
  /// stale_epoch, invalid_argument.
  Result<wire::OpenReply> open(const wire::Open& open, const wire::NodeId& scope);

  /// Queues a step. `done` runs once, later, on the network thread, in order of position within
  /// a session; not after close() of the session. Fails at once (and through no callback) with
  /// session_unknown, stale_epoch, position_gap, bad_shape, busy.
  /// A step of a newer epoch below the cached positions truncates the cache to its position.
  Result<void> step(StepWork work, StepDone done);

  Result<void> truncate(const wire::Truncate& truncate);
  /// Frees the session's pages at once; queued steps vanish, a running one is discarded.
  void close(const SessionId& session);

  /// Called for each session that idle_timeout closes; empty at first.
  void on_idle_close(std::function<void(const SessionId&)> closed);

  /// Positions [0, n) that are computed; nothing for an unknown session.
  std::optional<std::uint32_t> positions(const SessionId& session) const;
  /// As positions(), with those that wait to be computed.
  std::optional<std::uint32_t> received(const SessionId& session) const;

  void embed(std::vector<TokenId> ids, std::function<void(Result<Payload>)> done) override;
  void logits(Payload hidden, std::uint32_t rows,
              std::function<void(Result<std::vector<float>>)> done) override;

  const model::EngineInfo& info() const noexcept;
  wire::Pong load() const noexcept;

 private:
  struct Impl;
  explicit Worker(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace farmesh::serve
