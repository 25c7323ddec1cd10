#include "serve/scheduler.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "base/assert.hpp"
#include "base/digest.hpp"

namespace farmesh::serve {
namespace {

/// Whose pages are whose: rounded rows leave other keys and values than exact ones.
PageScope scope_of(const wire::NodeId& driver, const wire::Open& open) {
  std::array<std::uint8_t, sizeof(wire::NodeId) + 9> text;
  auto out = std::copy(driver.begin(), driver.end(), text.begin());
  for (const std::uint32_t word : {open.span.begin, open.span.end}) {
    for (int shift = 0; shift < 32; shift += 8) *out++ = static_cast<std::uint8_t>(word >> shift);
  }
  *out = static_cast<std::uint8_t>(open.activations);
  const Sha256Digest digest = sha256(std::as_bytes(std::span(text)));
  PageScope scope;
  std::copy_n(digest.begin(), scope.bytes.size(), scope.bytes.begin());
  return scope;
}

std::uint32_t microseconds(Duration duration) {
  const auto count = std::chrono::duration_cast<std::chrono::microseconds>(duration).count();
  return static_cast<std::uint32_t>(std::clamp<std::int64_t>(count, 0, UINT32_MAX));
}

}  // namespace

struct Scheduler::Step {
  StepWork work;
  StepDone done;
  AlignedBuffer output;  // [count, hidden], from the first slice on
  std::uint32_t rows_done = 0;
  std::uint32_t batch_rows = 0;  // of the last batch it was in
  TimePoint arrived;
  Duration computing{};
  bool ended = false;  // has its result; a batch may still write its output

  std::uint32_t rows_left() const noexcept { return work.count - rows_done; }
  std::uint32_t end() const noexcept { return work.position + work.count; }
};

struct Scheduler::Session {
  SessionId id;
  std::uint32_t epoch = 0;
  Span blocks;
  std::uint32_t max_positions = 0;
  PageTable table;
  std::uint32_t computed = 0;               // positions of steps that were computed whole
  std::deque<std::shared_ptr<Step>> steps;  // in order of position; the first may be running
  bool waiting = false;                     // in waiting_
  bool running = false;                     // in the batch at hand
  bool closed = false;                      // only that batch still knows it
  TimePoint touched;

  /// The position that the next step must have.
  std::uint32_t next() const noexcept { return steps.empty() ? computed : steps.back()->end(); }
};

Scheduler::Scheduler(const model::EngineInfo& info, std::uint32_t pages, const WorkerLimits& limits)
    : blocks_(info.blocks),
      row_bytes_(info.hidden_size * bytes_of(info.residual)),
      limits_(limits),
      pool_(pages, info.page_tokens) {
  FARMESH_ASSERT(limits.max_batch_rows > 0 && limits.max_step_rows > 0);
}

Scheduler::~Scheduler() = default;

// --- sessions ------------------------------------------------------------------------------

Result<wire::OpenReply> Scheduler::open(const wire::Open& open, const wire::NodeId& driver,
                                        TimePoint now) {
  const Result<void> possible = check_open(open);
  if (!possible) return possible.error();
  const PageScope scope = scope_of(driver, open);

  auto entry = sessions_.find(open.session);
  if (entry != sessions_.end()) {
    const Result<void> reopened = reopen(*entry->second, open, scope);
    if (!reopened) return reopened.error();
  } else {
    if (sessions_.size() >= limits_.max_sessions) {
      return {Errc::too_many_sessions, std::to_string(sessions_.size()) + " are open"};
    }
    auto session = std::make_shared<Session>();
    const auto admitted = pool_.open(session->table, scope, open.page_names, open.max_positions);
    if (!admitted) return admitted.error();
    session->id = open.session;
    session->epoch = open.epoch;
    session->blocks = open.span;
    session->max_positions = open.max_positions;
    session->computed =
        static_cast<std::uint32_t>(session->table.pages().size()) * pool_.page_tokens();
    entry = sessions_.emplace(open.session, std::move(session)).first;
  }
  entry->second->touched = now;
  return wire::OpenReply{entry->second->computed, limits_.window_steps, limits_.max_step_rows};
}

Result<void> Scheduler::check_open(const wire::Open& open) const {
  if (open.span.empty() || !blocks_.contains(open.span)) {
    return {Errc::span_unavailable, "layers " + std::to_string(blocks_.begin) + ":" +
                                        std::to_string(blocks_.end) + " are served here"};
  }
  if (open.max_positions == 0 || open.max_positions > wire::kMaxPosition) {
    return {Errc::invalid_argument, "max_positions must be 1 to 16777216"};
  }
  return {};
}

Result<void> Scheduler::reopen(Session& session, const wire::Open& open, const PageScope& scope) {
  if (open.epoch < session.epoch) {
    return {Errc::stale_epoch, "epoch " + std::to_string(session.epoch) + " is open"};
  }
  if (open.span == session.blocks) {
    const auto promised = pool_.promise(session.table, open.max_positions);
    if (!promised) return promised;
    session.max_positions = std::max(session.max_positions, open.max_positions);
    if (open.epoch > session.epoch) adopt(session, open.epoch);
    pool_.learn(session.table, scope, open.page_names);
    pool_.complete(session.table, session.computed);
    return {};
  }
  if (open.epoch == session.epoch) {
    return {Errc::invalid_argument, "another span needs a newer epoch"};
  }
  adopt(session, open.epoch);
  pool_.close(session.table);
  const auto admitted = pool_.open(session.table, scope, open.page_names, open.max_positions);
  if (!admitted) {
    close(session.id);
    return admitted;
  }
  session.blocks = open.span;
  session.max_positions = open.max_positions;
  session.computed = static_cast<std::uint32_t>(session.table.pages().size()) * pool_.page_tokens();
  return {};
}

Result<void> Scheduler::truncate(const wire::Truncate& truncate, TimePoint now) {
  const auto entry = sessions_.find(truncate.session);
  if (entry == sessions_.end()) return Errc::session_unknown;
  Session& session = *entry->second;
  if (truncate.epoch < session.epoch) {
    return {Errc::stale_epoch, "epoch " + std::to_string(session.epoch) + " is open"};
  }
  if (truncate.position < session.computed) {
    const auto truncated = pool_.truncate(session.table, truncate.position);
    if (!truncated) return truncated;
    session.computed = truncate.position;
  }
  pool_.unlearn(session.table, truncate.position);
  if (truncate.epoch > session.epoch) {
    adopt(session, truncate.epoch);
  } else {
    const auto beyond = std::find_if(
        session.steps.begin(), session.steps.end(),
        [&](const std::shared_ptr<Step>& step) { return step->end() > truncate.position; });
    end_steps(session, static_cast<std::size_t>(beyond - session.steps.begin()),
              Error{Errc::cancelled, "truncated"}, Errc::cancelled);
  }
  session.touched = now;
  return {};
}

void Scheduler::close(const SessionId& id) {
  const auto entry = sessions_.find(id);
  if (entry == sessions_.end()) return;
  const std::shared_ptr<Session> session = std::move(entry->second);
  sessions_.erase(entry);
  end_steps(*session, 0, Error{Errc::closed, {}}, Errc::closed);
  pool_.close(session->table);
  session->closed = true;
  std::erase_if(finished_, [&](const Finished& finished) { return finished.session == id; });
}

std::optional<TimePoint> Scheduler::idle_deadline() const {
  std::optional<TimePoint> earliest;
  for (const auto& [id, session] : sessions_) {
    if (!session->steps.empty()) continue;
    const TimePoint when = session->touched + limits_.idle_timeout;
    if (!earliest || when < *earliest) earliest = when;
  }
  return earliest;
}

std::vector<SessionId> Scheduler::close_idle(TimePoint now) {
  std::vector<SessionId> idle;
  for (const auto& [id, session] : sessions_) {
    if (session->steps.empty() && session->touched + limits_.idle_timeout <= now) {
      idle.push_back(id);
    }
  }
  for (const SessionId& id : idle) close(id);
  return idle;
}

std::optional<SessionId> Scheduler::make_room(const wire::Open& open, TimePoint now) {
  if (open.max_positions > std::uint64_t{pool_.pages()} * pool_.page_tokens()) return std::nullopt;
  const Session* stalest = nullptr;
  for (const auto& [id, session] : sessions_) {
    const bool idle = session->steps.empty() && session->touched + limits_.idle_grace <= now;
    if (!idle || id == open.session) continue;
    if (stalest == nullptr || session->touched < stalest->touched) stalest = session.get();
  }
  if (stalest == nullptr) return std::nullopt;
  const SessionId id = stalest->id;
  close(id);
  return id;
}

std::optional<std::uint32_t> Scheduler::positions(const SessionId& id) const {
  const auto entry = sessions_.find(id);
  if (entry == sessions_.end()) return std::nullopt;
  return entry->second->computed;
}

std::optional<std::uint32_t> Scheduler::received(const SessionId& id) const {
  const auto entry = sessions_.find(id);
  if (entry == sessions_.end()) return std::nullopt;
  return entry->second->next();
}

bool Scheduler::has_steps(const SessionId& id) const {
  const auto entry = sessions_.find(id);
  return entry != sessions_.end() && !entry->second->steps.empty();
}

// --- steps ---------------------------------------------------------------------------------

Result<void> Scheduler::step(StepWork work, StepDone done, TimePoint now) {
  const auto entry = sessions_.find(work.session);
  if (entry == sessions_.end()) return Errc::session_unknown;
  Session& session = *entry->second;
  if (work.epoch < session.epoch) {
    return {Errc::stale_epoch, "epoch " + std::to_string(session.epoch) + " is open"};
  }
  const Result<void> shape = check_shape(session, work);
  if (!shape) return shape;

  const bool newer = work.epoch > session.epoch;
  const std::uint32_t expected = newer ? session.computed : session.next();
  const bool continues = newer ? work.position <= expected : work.position == expected;
  if (!continues) return {Errc::position_gap, "expects position " + std::to_string(expected)};
  if (!newer && !work.replay && session.steps.size() >= limits_.window_steps) {
    return {Errc::busy, "the session's window is full"};
  }
  const bool decodes = work.count == 1 && (newer || session.steps.empty());
  if (queued_rows_ + work.count > limits_.max_queued_rows && !decodes) {
    return {Errc::busy, "the queue is full"};
  }

  if (work.position < expected) {
    const auto truncated = pool_.truncate(session.table, work.position);
    if (!truncated) return truncated;
    session.computed = work.position;
  }
  if (newer) adopt(session, work.epoch);
  session.touched = now;
  queued_rows_ += work.count;
  auto step = std::make_shared<Step>();
  step->work = std::move(work);
  step->done = std::move(done);
  step->arrived = now;
  session.steps.push_back(std::move(step));
  wait(session);
  return {};
}

Result<void> Scheduler::check_shape(const Session& session, const StepWork& work) const {
  if (work.count == 0 || work.count > limits_.max_step_rows) {
    return {Errc::bad_shape, "a step has 1 to " + std::to_string(limits_.max_step_rows) + " rows"};
  }
  if (work.input.size() != work.count * row_bytes_) {
    return {Errc::bad_shape, "the payload is not count rows of the residual's width"};
  }
  if (work.position > session.max_positions || work.count > session.max_positions - work.position) {
    return {Errc::invalid_argument,
            "open promised " + std::to_string(session.max_positions) + " positions"};
  }
  return {};
}

/// Takes the session to a newer epoch; what is not computed whole vanishes.
void Scheduler::adopt(Session& session, std::uint32_t epoch) {
  end_steps(session, 0, Error{Errc::stale_epoch, "replaced by a newer epoch"}, Errc::stale_epoch);
  session.epoch = epoch;
}

/// Ends the steps from index `first` on: that one with `error`, the rest with `others`.
void Scheduler::end_steps(Session& session, std::size_t first, Error error, Errc others) {
  for (std::size_t i = first; i < session.steps.size(); ++i) {
    Step& step = *session.steps[i];
    step.ended = true;
    queued_rows_ -= step.work.count;
    finished_.push_back(
        {session.id, std::move(step.done),
         i == first ? std::move(error) : Error{others, "a step before it did not run"}});
  }
  if (first >= session.steps.size()) return;
  session.steps.resize(first);
  pool_.unlearn(session.table, session.next());
  if (session.steps.empty() && session.waiting) {
    std::erase(waiting_, &session);
    session.waiting = false;
  }
}

/// Puts the session behind those that wait, if it has a step and is in no batch.
void Scheduler::wait(Session& session) {
  if (session.waiting || session.running || session.steps.empty()) return;
  waiting_.push_back(&session);
  session.waiting = true;
}

Scheduler::Decoding Scheduler::decoding() const {
  Decoding all;
  for (const Session* session : waiting_) {
    const Step& step = *session->steps.front();
    if (step.work.count > 1) return {};
    if (all.rows++ == 0 || step.arrived < all.since) all.since = step.arrived;
  }
  return all;
}

// --- batches -------------------------------------------------------------------------------

std::optional<Scheduler::Batch> Scheduler::next_batch(TimePoint now, std::uint32_t decoding) {
  FARMESH_ASSERT(!running_);
  end_lapsed(now);
  if (waiting_.empty()) return std::nullopt;

  Batch batch;
  batch.began = now;
  batch.blocks = waiting_.front()->blocks;
  std::uint32_t room = limits_.max_batch_rows;
  const auto take = [&](Session& session) {
    const std::uint32_t rows = std::min(room, session.steps.front()->rows_left());
    room -= rows;
    batch.slices.push_back(cut(session, rows, batch.copies));
  };
  const auto is_decode = [](const Session* session) {
    return session->steps.front()->rows_left() == 1;
  };

  // The eldest's share is set aside, so that decoders alone cannot fill the batch before it.
  const std::uint32_t kept =
      is_decode(waiting_.front())
          ? 0
          : std::min(waiting_.front()->steps.front()->rows_left(), std::max(1u, room / 4));
  room -= kept;
  for (const bool decodes : {true, false}) {
    for (Session* session : waiting_) {
      if (room == 0 || (decodes && decoding == 0)) break;
      if (session->blocks != batch.blocks || is_decode(session) != decodes) continue;
      take(*session);
      if (decodes) --decoding;
    }
    if (decodes) room += kept;
  }
  std::erase_if(waiting_, [](const Session* session) { return !session->waiting; });
  batch.rows = limits_.max_batch_rows - room;
  running_ = true;
  return batch;
}

void Scheduler::end_lapsed(TimePoint now) {
  std::vector<Session*> lapsed;
  for (Session* session : waiting_) {
    const Step& step = *session->steps.front();
    if (step.rows_done == 0 && step.work.deadline < now) lapsed.push_back(session);
  }
  for (Session* session : lapsed) {
    end_steps(*session, 0, Error{Errc::deadline_passed, {}}, Errc::position_gap);
  }
}

/// The next `rows` rows of the session's first step, which makes it part of the batch.
Scheduler::Slice Scheduler::cut(Session& session, std::uint32_t rows,
                                std::vector<PageCopy>& copies) {
  const std::shared_ptr<Step>& step = session.steps.front();
  if (step->rows_done == 0) step->output = AlignedBuffer(step->work.input.size());
  Slice slice;
  slice.session = session.id;
  slice.position = step->work.position + step->rows_done;
  slice.rows = rows;
  pool_.grow(session.table, slice.position, slice.position + rows, copies);
  slice.pages.assign(session.table.pages().begin(), session.table.pages().end());
  const std::size_t begin = step->rows_done * row_bytes_;
  slice.input = step->work.input.view().subspan(begin, rows * row_bytes_);
  slice.output = step->output.view().subspan(begin, rows * row_bytes_);
  slice.session_ = sessions_.at(session.id);
  slice.step_ = step;
  session.waiting = false;
  session.running = true;
  return slice;
}

void Scheduler::finish_batch(Batch batch, TimePoint now) {
  FARMESH_ASSERT(running_);
  running_ = false;
  for (Slice& slice : batch.slices) finish_slice(slice, batch, now);
}

void Scheduler::finish_slice(Slice& slice, const Batch& batch, TimePoint now) {
  Session& session = *slice.session_;
  session.running = false;
  if (session.closed) return;
  Step& step = *slice.step_;
  step.computing += now - batch.began;
  step.batch_rows = batch.rows;
  session.touched = now;
  if (!step.ended && !slice.result) {
    end_steps(session, 0, slice.result.error(), Errc::position_gap);
  } else if (!step.ended) {
    step.rows_done += slice.rows;
    if (step.rows_left() == 0) finish_first(session, now);
  }
  wait(session);
}

/// The session's first step is computed whole.
void Scheduler::finish_first(Session& session, TimePoint now) {
  Step& step = *session.steps.front();
  session.computed = step.end();
  pool_.complete(session.table, session.computed);
  queued_rows_ -= step.work.count;
  StepOutput output;
  output.time.compute_us = microseconds(step.computing);
  output.time.queue_us = microseconds(now - step.arrived - step.computing);
  output.time.batch_rows = step.batch_rows;
  output.rows = Payload(std::move(step.output));
  finished_.push_back({session.id, std::move(step.done), std::move(output)});
  session.steps.pop_front();
}

std::optional<Scheduler::Finished> Scheduler::pop_finished() {
  if (finished_.empty()) return std::nullopt;
  Finished finished = std::move(finished_.front());
  finished_.pop_front();
  return finished;
}

}  // namespace farmesh::serve
