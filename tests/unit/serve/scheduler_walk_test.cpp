// Random requests against a model so simple that it is right: every session by itself.
#include <chrono>
#include <deque>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "serve/scheduler.hpp"
#include "unit/serve/serve_rig.hpp"

namespace farmesh::serve {
namespace {

using namespace std::chrono_literals;
using test::embed;
using test::kPageTokens;
using test::names_of;
using test::node_id;
using test::session_id;
using test::Solo;
using test::Tokens;

constexpr Span kSpans[] = {{0, 6}, {0, 3}, {2, 6}};

class Walk {
 public:
  Walk(std::uint32_t seed, std::uint32_t pages)
      : random_(seed), engine_(test::make_engine()), scheduler_(engine_->info(), pages, limits()) {
    REQUIRE(engine_->reserve_pages(pages));
  }

  void step() {
    now_ += std::chrono::milliseconds(pick(4));
    switch (pick(16)) {
      case 0:
      case 1: open(); break;
      case 2: reopen(); break;
      case 3: close(); break;
      case 4: truncate(); break;
      case 5: wrong_step(); break;
      case 6: newer_step(); break;
      case 7:
      case 8:
      case 9:
      case 10: next_step(); break;
      default: running_ ? finish_batch() : begin_batch();
    }
    if (pick(3) == 0) take_finished();
    check_pages();
  }

  void end() {
    for (int guard = 0; guard < 1'000; ++guard) {
      if (running_) finish_batch();
      begin_batch();
      if (!running_) break;
    }
    take_finished();
    for (const auto& [id, session] : sessions_) {
      CHECK(session.queued.empty());
      CHECK(session.outcomes.empty());
    }
    CHECK(scheduler_.queued_rows() == 0);
    while (!sessions_.empty()) close();
    CHECK(scheduler_.pool().used() == 0);
    CHECK(scheduler_.pool().promisable() == scheduler_.pool().pages());
  }

  std::map<std::string, int> seen;

 private:
  struct Queued {
    std::uint32_t position = 0;
    std::uint32_t count = 0;
    TimePoint deadline;
    bool begun = false;
  };
  struct Session {
    std::uint32_t epoch = 1;
    Span span;
    std::uint32_t max_positions = 0;
    std::uint8_t driver = 1;
    Tokens text;  // what it computes
    std::uint32_t computed = 0;
    std::deque<Queued> queued;
    std::deque<Errc> outcomes;  // of steps that ended and were not yet taken, in order

    std::uint32_t next() const {
      return queued.empty() ? computed : queued.back().position + queued.back().count;
    }
  };

  static WorkerLimits limits() {
    WorkerLimits limits;
    limits.max_sessions = 8;
    limits.max_batch_rows = 6;
    limits.max_step_rows = 16;
    limits.window_steps = 3;
    limits.max_queued_rows = 48;
    return limits;
  }

  std::uint32_t pick(std::size_t below) { return static_cast<std::uint32_t>(random_() % below); }

  void rewrite(Tokens& text, std::uint32_t from) {
    const TokenId kind = 40 * pick(2);
    for (std::size_t i = from; i < text.size(); ++i) text[i] = kind + static_cast<TokenId>(i / 3);
    if (from < text.size() && pick(3) == 0) text[from + pick(text.size() - from)] = 96;
  }
  std::vector<PageName> some_names(const Tokens& text) {
    return names_of({text.begin(), text.begin() + pick(text.size() + 1)});
  }
  std::map<std::uint32_t, Session>::iterator any() {
    auto entry = sessions_.begin();
    std::advance(entry, pick(sessions_.size()));
    return entry;
  }

  // --- requests, and what they must do --------------------------------------------------------

  wire::Open message_for(std::uint32_t id, const Session& session) {
    wire::Open open;
    open.session = session_id(id);
    open.epoch = session.epoch;
    open.span = session.span;
    open.max_positions = session.max_positions;
    open.page_names = some_names(session.text);
    return open;
  }

  void open() {
    const std::uint32_t id = pick(12);
    if (sessions_.contains(id)) return;
    Session session;
    session.span = kSpans[pick(3)];
    session.max_positions = 1 + pick(40);
    session.driver = static_cast<std::uint8_t>(1 + pick(4) / 3);
    session.text.resize(session.max_positions);
    rewrite(session.text, 0);
    const auto reply = scheduler_.open(message_for(id, session), node_id(session.driver), now_);
    if (!reply) {
      const bool full = sessions_.size() == limits().max_sessions;
      CHECK(reply.error().code == (full ? Errc::too_many_sessions : Errc::no_cache_space));
      ++seen[full ? "too many sessions" : "no cache space"];
      return;
    }
    if (reply->held_positions > 0) ++seen["prefix held"];
    session.computed = reply->held_positions;
    sessions_[id] = std::move(session);
  }

  void reopen() {
    if (sessions_.empty()) return;
    const auto entry = any();
    Session& session = entry->second;
    Session wanted = session;
    const bool newer = pick(2) == 0;
    if (newer) ++wanted.epoch;
    if (newer && pick(3) == 0) wanted.span = kSpans[pick(3)];
    if (pick(3) == 0) wanted.max_positions += pick(40);
    wanted.text.resize(wanted.max_positions, 5);
    const bool moves = wanted.span != session.span;
    const auto reply =
        scheduler_.open(message_for(entry->first, wanted), node_id(wanted.driver), now_);
    if (!reply) {
      REQUIRE(reply.error().code == Errc::no_cache_space);
      REQUIRE((moves || wanted.max_positions > session.max_positions));
      ++seen[moves ? "lost by moving" : "raise refused"];
      if (moves) sessions_.erase(entry);
      return;
    }
    session.max_positions = wanted.max_positions;
    session.text = wanted.text;
    if (newer) adopt(session, wanted.epoch);
    if (moves) {
      ++seen["moved"];
      session.span = wanted.span;
      session.computed = reply->held_positions;
    }
    CHECK(reply->held_positions == session.computed);
  }

  void close() {
    if (sessions_.empty()) return;
    const auto entry = any();
    scheduler_.close(session_id(entry->first));
    sessions_.erase(entry);
  }

  void truncate() {
    if (sessions_.empty()) return;
    const auto entry = any();
    Session& session = entry->second;
    const bool newer = pick(3) == 0;
    const std::uint32_t next = session.next();
    const std::uint32_t position = pick(next + 2);
    const auto result = scheduler_.truncate(
        {session_id(entry->first), session.epoch + (newer ? 1 : 0), position}, now_);
    if (!result) {
      CHECK(result.error().code == Errc::no_cache_space);
      ++seen["cut refused"];
      return;
    }
    if (newer) adopt(session, session.epoch + 1);
    while (!session.queued.empty() &&
           session.queued.back().position + session.queued.back().count > position) {
      session.queued.pop_back();
      session.outcomes.push_back(Errc::cancelled);
    }
    session.computed = std::min(session.computed, position);
    rewrite(session.text, position < next ? session.next() : position);
  }

  Result<void> send(std::uint32_t id, const Session& session, std::uint32_t epoch,
                    std::uint32_t position, std::uint32_t count, TimePoint deadline) {
    StepWork work;
    work.session = session_id(id);
    work.epoch = epoch;
    work.position = position;
    work.count = count;
    work.deadline = deadline;
    Tokens ids(count, 1);
    for (std::uint32_t i = 0; i < count && position + i < session.text.size(); ++i) {
      ids[i] = session.text[position + i];
    }
    work.input = embed(ids);
    return scheduler_.step(
        std::move(work), [this, id](Result<StepOutput> result) { take(id, std::move(result)); },
        now_);
  }

  void next_step() {
    if (sessions_.empty()) return;
    const auto entry = any();
    Session& session = entry->second;
    const std::uint32_t position = session.next();
    const std::uint32_t left = session.max_positions - position;
    if (left == 0) return;
    const std::uint32_t count = pick(2) == 0 ? 1 : 1 + pick(std::min(left, 16u));
    const TimePoint deadline = pick(8) == 0 ? now_ + 2ms : TimePoint::max();
    const auto taken = send(entry->first, session, session.epoch, position, count, deadline);
    if (!taken) {
      REQUIRE(taken.error().code == Errc::busy);
      const bool window = session.queued.size() >= limits().window_steps;
      REQUIRE((window || scheduler_.queued_rows() + count > limits().max_queued_rows));
      ++seen[window ? "window full" : "queue full"];
      return;
    }
    session.queued.push_back({position, count, deadline});
  }

  void newer_step() {
    if (sessions_.empty()) return;
    const auto entry = any();
    Session& session = entry->second;
    const std::uint32_t position = pick(session.computed + 1);
    if (position == session.max_positions) return;
    const Tokens before = session.text;
    if (position < session.computed) rewrite(session.text, position);
    const auto taken =
        send(entry->first, session, session.epoch + 1, position, 1, TimePoint::max());
    if (!taken) {
      CHECK((taken.error().code == Errc::no_cache_space || taken.error().code == Errc::busy));
      if (taken.error().code == Errc::no_cache_space) ++seen["cut refused"];
      session.text = before;
      return;
    }
    ++seen["stepped back"];
    adopt(session, session.epoch + 1);
    session.computed = position;
    session.queued.push_back({position, 1, TimePoint::max()});
  }

  void wrong_step() {
    if (sessions_.empty()) return;
    const auto entry = any();
    const Session& session = entry->second;
    const auto error = [&](std::uint32_t epoch, std::uint32_t position, std::uint32_t count) {
      const auto taken = send(entry->first, session, epoch, position, count, TimePoint::max());
      return taken ? Errc::ok : taken.error().code;
    };
    CHECK(error(session.epoch - 1, session.next(), 1) == Errc::stale_epoch);
    if (session.next() + 2 <= session.max_positions) {
      CHECK(error(session.epoch, session.next() + 1, 1) == Errc::position_gap);
    }
    if (session.next() > 0) {
      CHECK(error(session.epoch, session.next() - 1, 1) == Errc::position_gap);
    }
    CHECK(error(session.epoch, session.next(), 17) == Errc::bad_shape);
    CHECK(error(session.epoch, session.max_positions, 1) == Errc::invalid_argument);
  }

  void adopt(Session& session, std::uint32_t epoch) {
    session.outcomes.insert(session.outcomes.end(), session.queued.size(), Errc::stale_epoch);
    session.queued.clear();
    session.epoch = epoch;
  }

  // --- batches ------------------------------------------------------------------------------

  void begin_batch() {
    for (auto& [id, session] : sessions_) {
      if (session.queued.empty() || session.queued.front().begun) continue;
      if (session.queued.front().deadline >= now_) continue;
      ++seen["deadline passed"];
      session.outcomes.push_back(Errc::deadline_passed);
      session.outcomes.insert(session.outcomes.end(), session.queued.size() - 1,
                              Errc::position_gap);
      session.queued.clear();
    }
    running_ = scheduler_.next_batch(now_);
    if (!running_) return;
    std::uint32_t rows = 0;
    for (const auto& slice : running_->slices) {
      rows += slice.rows;
      for (auto& [id, session] : sessions_) {
        if (session_id(id) == slice.session) session.queued.front().begun = true;
      }
    }
    CHECK(rows == running_->rows);
    CHECK(rows <= limits().max_batch_rows);
  }

  /// Computes only now, so that a page given away while the batch was under way would show.
  void finish_batch() {
    for (const PageCopy& copy : running_->copies) {
      ++seen["page copied"];
      REQUIRE(engine_->copy_page(copy.from, copy.to));
    }
    const bool fails = pick(12) == 0;
    std::vector<model::SequenceRows> rows;
    for (auto& slice : running_->slices) {
      rows.push_back({slice.pages, slice.position, slice.rows, slice.input, slice.output});
      if (fails) slice.result = Error{Errc::compute_failed, {}};
    }
    REQUIRE(engine_->forward(running_->blocks, rows));
    scheduler_.finish_batch(std::move(*running_), now_);
    running_.reset();
    take_finished();
  }

  // --- results --------------------------------------------------------------------------------

  void take_finished() {
    while (auto finished = scheduler_.pop_finished()) finished->done(std::move(finished->result));
    for (auto& [id, session] : sessions_) {
      if (!session.outcomes.empty()) CHECK(session.outcomes.front() == Errc::ok);
    }
  }

  void take(std::uint32_t id, Result<StepOutput> result) {
    REQUIRE(sessions_.contains(id));  // nothing comes after close()
    Session& session = sessions_[id];
    if (!session.outcomes.empty()) {
      REQUIRE_FALSE(result);
      CHECK(result.error().code == session.outcomes.front());
      session.outcomes.pop_front();
      return;
    }
    REQUIRE_FALSE(session.queued.empty());
    const Queued step = session.queued.front();
    session.queued.pop_front();
    if (!result) {
      REQUIRE(result.error().code == Errc::compute_failed);
      ++seen["compute failed"];
      session.outcomes.insert(session.outcomes.end(), session.queued.size(), Errc::position_gap);
      session.queued.clear();
      return;
    }
    ++seen["computed"];
    REQUIRE(session.computed == step.position);
    session.computed += step.count;
    const Payload input = embed({session.text.begin(), session.text.begin() + session.computed});
    const test::Bytes whole = Solo(session.span, session.max_positions).run(0, input);
    const test::Bytes rows = test::bytes_of(result->rows);
    REQUIRE(std::equal(rows.begin(), rows.end(),
                       whole.end() - static_cast<std::ptrdiff_t>(rows.size()), whole.end()));
  }

  void check_pages() {
    const PagePool& pool = scheduler_.pool();
    REQUIRE(pool.used() + pool.cached() + pool.free() == pool.pages());
    REQUIRE(pool.promisable() <= pool.pages() - pool.used());
    for (const auto& [id, session] : sessions_) {
      REQUIRE(scheduler_.positions(session_id(id)) == session.computed);
    }
  }

  std::mt19937 random_;
  std::unique_ptr<model::StageEngine> engine_;
  Scheduler scheduler_;
  TimePoint now_{};
  std::map<std::uint32_t, Session> sessions_;
  std::optional<Scheduler::Batch> running_;
};

}  // namespace

TEST_SUITE("serve/scheduler") {
  TEST_CASE("random sessions compute what each would alone, and every request does as told") {
    std::map<std::string, int> seen;
    for (std::uint32_t seed = 1; seed <= 300; ++seed) {
      CAPTURE(seed);
      Walk walk(seed, 12 + seed % 30);
      for (int i = 0; i < 400; ++i) walk.step();
      walk.end();
      for (const auto& [what, times] : walk.seen) seen[what] += times;
    }
    for (const std::string what :
         {"computed", "prefix held", "page copied", "no cache space", "too many sessions",
          "window full", "queue full", "deadline passed", "compute failed", "stepped back", "moved",
          "lost by moving", "raise refused", "cut refused"}) {
      CAPTURE(what);
      CHECK(seen[what] > 0);
    }
  }
}

}  // namespace farmesh::serve
