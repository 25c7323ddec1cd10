// The heart of a peer: which rows of which sessions run in the next forward pass.
//
// Takes steps from worker.hpp, keeps them in order, and composes batches over the sessions'
// KV pages. No sockets, no threads, no engine, and no clock: times come as arguments.
//
// Order. A session's steps run in order of position, one of them a batch. A batch holds steps
// of one sub-span of layers: steps of one row first, then longer ones, cut to fit
// max_batch_rows. Sessions take turns: whoever was served goes behind those who wait, and the
// one that waited longest is always in the next batch, with at least a quarter of its rows if
// it wants as many. So no prefill starves another or the decoders, nor they a prefill.
// Epochs. A step or request of an older epoch is stale. A newer one is adopted: what is queued
// or running under older epochs vanishes with stale_epoch, and the session goes on from the
// last step that was computed whole.
// Bounds. A session queues window_steps, all together max_queued_rows; what comes on top is busy.
// A lone step of one row is always taken, so that no flood stops those who decode.
// Failure. A step that fails takes along, with position_gap, the steps queued after it.
//
// Threading: confined to its owner's thread.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include <farmesh/result.hpp>

#include "base/bytes.hpp"
#include "base/types.hpp"
#include "model/stage_engine.hpp"
#include "serve/page_pool.hpp"
#include "serve/step.hpp"
#include "wire/messages.hpp"

namespace farmesh::serve {

class Scheduler {
  struct Session;
  struct Step;

 public:
  /// Consecutive rows of one step in a batch. Its memory lives as long as the slice, whatever
  /// happens to the session.
  struct Slice {
    SessionId session;
    std::vector<std::uint32_t> pages;  // as in model::SequenceRows
    std::uint32_t position = 0;
    std::uint32_t rows = 0;
    ByteView input;          // [rows, hidden]
    MutableByteView output;  // the same shape
    Result<void> result;     // set by whoever runs the batch

   private:
    friend class Scheduler;
    std::shared_ptr<Session> session_;
    std::shared_ptr<Step> step_;
  };

  struct Batch {
    Span blocks;
    std::uint32_t rows = 0;
    std::vector<PageCopy> copies;  // to be made before the pass
    std::vector<Slice> slices;     // of distinct sessions
    TimePoint began;
  };

  /// A step that has ended; `done` is to be called with `result`.
  struct Finished {
    SessionId session;
    StepDone done;
    Result<StepOutput> result;
  };

  Scheduler(const model::EngineInfo& info, std::uint32_t pages, const WorkerLimits& limits);
  ~Scheduler();

  /// As Worker::open. An open session may be opened again by its driver: with more page names,
  /// with a larger promise, with a newer epoch, and then also with another span, which empties
  /// its cache; if the new span then finds no_cache_space, the session is closed.
  Result<wire::OpenReply> open(const wire::Open& open, const wire::NodeId& driver, TimePoint now);
  Result<void> step(StepWork work, StepDone done, TimePoint now);
  Result<void> truncate(const wire::Truncate& truncate, TimePoint now);
  /// Gives the pages back at once. Steps vanish without a result, finished ones included.
  void close(const SessionId& session);

  /// When close_idle() will next have something to do, if nothing happens until then.
  std::optional<TimePoint> idle_deadline() const;
  /// Closes sessions that wait for nothing and were untouched for idle_timeout.
  std::vector<SessionId> close_idle(TimePoint now);

  /// Closes the session that was untouched longest, if that is idle_grace at least, it waits for
  /// nothing and `open` could fit once enough such sessions are gone.
  std::optional<SessionId> make_room(const wire::Open& open, TimePoint now);

  /// The next batch, or nothing if no step waits. One batch at a time: finish it first. It has at
  /// most `decoding` steps of one row. Steps whose deadline lapsed before they began end here with
  /// deadline_passed.
  std::optional<Batch> next_batch(TimePoint now, std::uint32_t decoding = UINT32_MAX);
  void finish_batch(Batch batch, TimePoint now);

  /// The next ended step, in order within a session; nothing when there is none.
  std::optional<Finished> pop_finished();
  bool has_finished() const noexcept { return !finished_.empty(); }

  /// Some session has a step that is in no batch.
  bool waiting() const noexcept { return !waiting_.empty(); }
  /// Steps of one row that are in no batch, if no other steps wait.
  struct Decoding {
    std::uint32_t rows = 0;
    TimePoint since{};  // the first of them came
  };
  Decoding decoding() const;
  /// The session has a step that has not ended.
  bool has_steps(const SessionId& session) const;
  /// Positions [0, n) that are computed; nothing for an unknown session.
  std::optional<std::uint32_t> positions(const SessionId& session) const;
  /// As positions(), with those whose steps have not ended.
  std::optional<std::uint32_t> received(const SessionId& session) const;
  std::uint32_t sessions() const noexcept { return static_cast<std::uint32_t>(sessions_.size()); }
  std::uint32_t queued_rows() const noexcept { return queued_rows_; }
  const PagePool& pool() const noexcept { return pool_; }

 private:
  Result<void> check_open(const wire::Open& open) const;
  Result<void> reopen(Session& session, const wire::Open& open, const PageScope& scope);
  Result<void> check_shape(const Session& session, const StepWork& work) const;
  void adopt(Session& session, std::uint32_t epoch);
  void end_steps(Session& session, std::size_t first, Error error, Errc others);
  void end_lapsed(TimePoint now);
  void wait(Session& session);
  Slice cut(Session& session, std::uint32_t rows, std::vector<PageCopy>& copies);
  void finish_slice(Slice& slice, const Batch& batch, TimePoint now);
  void finish_first(Session& session, TimePoint now);

  Span blocks_;
  std::size_t row_bytes_;
  WorkerLimits limits_;
  PagePool pool_;
  std::unordered_map<SessionId, std::shared_ptr<Session>, HashOfBytes> sessions_;
  std::deque<Session*> waiting_;  // have a step and are in no batch; longest waiting first
  std::deque<Finished> finished_;
  std::uint32_t queued_rows_ = 0;
  bool running_ = false;
};

}  // namespace farmesh::serve
