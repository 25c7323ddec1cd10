#include "serve/scheduler.hpp"

#include <algorithm>
#include <chrono>
#include <map>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "unit/serve/serve_rig.hpp"

namespace farmesh::serve {
namespace {

using namespace std::chrono_literals;
using test::bytes_of;
using test::embed;
using test::kAllLayers;
using test::kPageTokens;
using test::kRowBytes;
using test::names_of;
using test::session_id;
using test::Solo;
using test::Tokens;

constexpr std::uint32_t kPages = 128;

struct Outcome {
  std::uint32_t session = 0;
  std::uint32_t position = 0;
  Result<StepOutput> result;
};

/// A scheduler over a stand-in engine; time passes only by hand.
class Rig {
 public:
  explicit Rig(WorkerLimits limits = small_limits(), std::uint32_t pages = kPages)
      : engine(test::make_engine()), scheduler(engine->info(), pages, limits) {
    REQUIRE(engine->reserve_pages(pages));
  }

  static WorkerLimits small_limits() {
    WorkerLimits limits;
    limits.max_sessions = 40;
    limits.max_batch_rows = 8;
    limits.max_step_rows = 32;
    limits.window_steps = 4;
    limits.max_queued_rows = 96;
    return limits;
  }

  Result<wire::OpenReply> open(std::uint32_t session, std::uint32_t max_positions = 64,
                               Span span = kAllLayers, std::uint32_t epoch = 1,
                               std::vector<PageName> names = {}, std::uint8_t driver = 1) {
    wire::Open message;
    message.session = session_id(session);
    message.epoch = epoch;
    message.span = span;
    message.max_positions = max_positions;
    message.page_names = std::move(names);
    return scheduler.open(message, test::node_id(driver), now);
  }

  Errc step(std::uint32_t session, std::uint32_t position, const Tokens& ids,
            std::uint32_t epoch = 1, TimePoint deadline = TimePoint::max(), bool replay = false) {
    StepWork work;
    work.session = session_id(session);
    work.epoch = epoch;
    work.position = position;
    work.count = static_cast<std::uint32_t>(ids.size());
    work.input = embed(ids);
    work.deadline = deadline;
    work.replay = replay;
    auto done = [this, session, position](Result<StepOutput> result) {
      outcomes.push_back({session, position, std::move(result)});
    };
    const Result<void> taken = scheduler.step(std::move(work), done, now);
    return taken ? Errc::ok : taken.error().code;
  }

  Errc truncate(std::uint32_t session, std::uint32_t position, std::uint32_t epoch = 1) {
    const auto done = scheduler.truncate({session_id(session), epoch, position}, now);
    return done ? Errc::ok : done.error().code;
  }

  /// What the compute thread would do.
  void compute(Scheduler::Batch& batch) {
    for (const PageCopy& copy : batch.copies) REQUIRE(engine->copy_page(copy.from, copy.to));
    std::vector<model::SequenceRows> rows;
    for (const Scheduler::Slice& slice : batch.slices) {
      rows.push_back({slice.pages, slice.position, slice.rows, slice.input, slice.output});
    }
    REQUIRE(engine->forward(batch.blocks, rows));
  }

  std::vector<Outcome> take_outcomes() {
    while (auto finished = scheduler.pop_finished()) finished->done(std::move(finished->result));
    return std::exchange(outcomes, {});
  }

  /// One batch from begin to end; the rows it had.
  std::uint32_t run_one() {
    auto batch = scheduler.next_batch(now);
    if (!batch) return 0;
    compute(*batch);
    const std::uint32_t rows = batch->rows;
    scheduler.finish_batch(std::move(*batch), now);
    return rows;
  }
  void run_all() {
    while (run_one() > 0) {
    }
  }

  std::unique_ptr<model::StageEngine> engine;
  Scheduler scheduler;
  TimePoint now{};
  std::vector<Outcome> outcomes;
};

/// (position, rows) of each slice, to compare what a batch is made of.
std::vector<std::pair<std::uint32_t, std::uint32_t>> slices(const Scheduler::Batch& batch) {
  std::vector<std::pair<std::uint32_t, std::uint32_t>> out;
  for (const auto& slice : batch.slices) out.emplace_back(slice.position, slice.rows);
  return out;
}

Errc code(const Outcome& outcome) {
  return outcome.result ? Errc::ok : outcome.result.error().code;
}

}  // namespace

TEST_SUITE("serve/scheduler") {
  TEST_CASE("steps that wait together run in one pass and equal each session alone") {
    Rig rig;
    for (std::uint32_t session = 0; session < 8; ++session) {
      REQUIRE(rig.open(session));
      REQUIRE(rig.step(session, 0, {session + 10}) == Errc::ok);
    }
    CHECK(rig.run_one() == 8);
    CHECK(rig.run_one() == 0);
    for (std::uint32_t session = 0; session < 8; ++session) {
      REQUIRE(rig.step(session, 1, {40 - session}) == Errc::ok);
    }
    CHECK(rig.run_one() == 8);

    const auto outcomes = rig.take_outcomes();
    REQUIRE(outcomes.size() == 16);
    std::map<std::uint32_t, Solo> solo;
    for (const Outcome& outcome : outcomes) {
      REQUIRE(outcome.result);
      const Tokens ids{outcome.position == 0 ? outcome.session + 10 : 40 - outcome.session};
      CHECK(bytes_of(outcome.result->rows) ==
            solo[outcome.session].run(outcome.position, embed(ids)));
      CHECK(outcome.result->time.batch_rows == 8);
    }
  }

  TEST_CASE("a long step is cut over several passes, decoders going first in each") {
    Rig rig;
    REQUIRE(rig.open(1));
    REQUIRE(rig.open(2));
    const Tokens prompt = test::text(3, 19);
    REQUIRE(rig.step(1, 0, prompt) == Errc::ok);
    REQUIRE(rig.step(2, 0, {5}) == Errc::ok);

    using Slices = std::vector<std::pair<std::uint32_t, std::uint32_t>>;
    auto batch = rig.scheduler.next_batch(rig.now);
    REQUIRE(batch);
    CHECK(slices(*batch) == Slices{{0, 1}, {0, 7}});
    rig.compute(*batch);
    rig.scheduler.finish_batch(std::move(*batch), rig.now);
    REQUIRE(rig.step(2, 1, {6}) == Errc::ok);
    batch = rig.scheduler.next_batch(rig.now);
    REQUIRE(batch);
    CHECK(slices(*batch) == Slices{{1, 1}, {7, 7}});
    rig.compute(*batch);
    rig.scheduler.finish_batch(std::move(*batch), rig.now);
    CHECK(rig.run_one() == 5);

    const auto outcomes = rig.take_outcomes();
    REQUIRE(outcomes.size() == 3);
    REQUIRE(outcomes[2].result);
    CHECK(outcomes[2].session == 1);
    CHECK(bytes_of(outcomes[2].result->rows) == Solo().run(0, embed(prompt)));
    CHECK(rig.scheduler.queued_rows() == 0);
  }

  TEST_CASE("prefills take turns, and more decoders than a batch holds do not starve one") {
    Rig rig;
    REQUIRE(rig.open(100));
    REQUIRE(rig.open(101));
    REQUIRE(rig.step(100, 0, test::text(1, 16)) == Errc::ok);
    REQUIRE(rig.step(101, 0, test::text(2, 16)) == Errc::ok);
    SUBCASE("prefills alone") {
      for (int i = 0; i < 3; ++i) CHECK(rig.run_one() == 8);
      const auto outcomes = rig.take_outcomes();
      REQUIRE(outcomes.size() == 1);
      CHECK(outcomes[0].session == 100);
      rig.run_one();
      CHECK(rig.take_outcomes().size() == 1);
    }
    SUBCASE("beside twelve sessions that always decode") {
      for (std::uint32_t session = 0; session < 12; ++session) {
        REQUIRE(rig.open(session, 20));
        REQUIRE(rig.step(session, 0, {1}) == Errc::ok);
      }
      int prefills = 0;
      std::map<std::uint32_t, std::uint32_t> decoded;
      for (int pass = 0; pass < 16; ++pass) {
        CHECK(rig.run_one() == 8);
        for (const Outcome& outcome : rig.take_outcomes()) {
          if (outcome.session >= 100) {
            ++prefills;
          } else {
            ++decoded[outcome.session];
            REQUIRE(rig.step(outcome.session, outcome.position + 1, {2}) == Errc::ok);
          }
        }
      }
      CHECK(prefills == 2);
      for (std::uint32_t session = 0; session < 12; ++session) CHECK(decoded[session] >= 6);
    }
  }

  TEST_CASE("a batch holds one sub-span of layers, and sub-spans take turns") {
    Rig rig;
    constexpr Span kFront{0, 3};
    REQUIRE(rig.open(1, 64, kFront));
    REQUIRE(rig.open(2, 64, kAllLayers));
    REQUIRE(rig.open(3, 64, kFront));
    for (std::uint32_t session : {1u, 2u, 3u}) REQUIRE(rig.step(session, 0, {9, 9}) == Errc::ok);
    auto batch = rig.scheduler.next_batch(rig.now);
    REQUIRE(batch);
    CHECK(batch->blocks == kFront);
    CHECK(batch->slices.size() == 2);
    rig.compute(*batch);
    rig.scheduler.finish_batch(std::move(*batch), rig.now);
    REQUIRE(rig.step(1, 2, {9}) == Errc::ok);
    batch = rig.scheduler.next_batch(rig.now);
    REQUIRE(batch);
    CHECK(batch->blocks == kAllLayers);
    rig.compute(*batch);
    rig.scheduler.finish_batch(std::move(*batch), rig.now);
    rig.run_all();
    for (const Outcome& outcome : rig.take_outcomes()) {
      if (outcome.position != 0) continue;
      const Span span = outcome.session == 2 ? kAllLayers : kFront;
      REQUIRE(outcome.result);
      CHECK(bytes_of(outcome.result->rows) == Solo(span).run(0, embed({9, 9})));
    }
  }

  TEST_CASE("what cannot be opened is refused by name") {
    Rig rig;
    CHECK(rig.open(1, 64, {0, 7}).error().code == Errc::span_unavailable);
    CHECK(rig.open(1, 64, {3, 3}).error().code == Errc::span_unavailable);
    CHECK(rig.open(1, 0).error().code == Errc::invalid_argument);
    CHECK(rig.open(1, wire::kMaxPosition + 1).error().code == Errc::invalid_argument);
    CHECK(rig.open(1, kPages * kPageTokens + 1).error().code == Errc::no_cache_space);
    CHECK(rig.scheduler.sessions() == 0);
    CHECK(rig.step(1, 0, {1}) == Errc::session_unknown);
    CHECK(rig.truncate(1, 0) == Errc::session_unknown);
    CHECK_FALSE(rig.scheduler.positions(session_id(1)));

    WorkerLimits limits = Rig::small_limits();
    limits.max_sessions = 2;
    Rig full(limits);
    REQUIRE(full.open(1));
    REQUIRE(full.open(2));
    CHECK(full.open(3).error().code == Errc::too_many_sessions);
    full.scheduler.close(session_id(1));
    CHECK(full.open(3));
  }

  TEST_CASE("steps that do not fit are refused, and change nothing") {
    Rig rig;
    REQUIRE(rig.open(1, 40));
    REQUIRE(rig.open(2, 40));
    REQUIRE(rig.step(1, 0, {1, 2}) == Errc::ok);
    CHECK(rig.step(1, 0, {1, 2}) == Errc::position_gap);  // sent twice
    CHECK(rig.step(1, 3, {1}) == Errc::position_gap);
    CHECK(rig.step(1, 2, {}) == Errc::bad_shape);
    CHECK(rig.step(1, 2, test::text(1, 33)) == Errc::bad_shape);
    CHECK(rig.step(2, 20, test::text(1, 21)) == Errc::invalid_argument);
    CHECK(rig.step(1, 2, {1}, 0) == Errc::stale_epoch);
    StepWork narrow;
    narrow.session = session_id(1);
    narrow.epoch = 1;
    narrow.position = 2;
    narrow.count = 1;
    narrow.input = Payload(AlignedBuffer(kRowBytes - 4));
    CHECK(rig.scheduler.step(narrow, {}, rig.now).error().code == Errc::bad_shape);

    for (std::uint32_t position : {2u, 3u, 4u}) REQUIRE(rig.step(1, position, {1}) == Errc::ok);
    CHECK(rig.step(1, 5, {1}) == Errc::busy);                           // the window of four
    CHECK(rig.step(1, 5, {1}, 1, TimePoint::max(), true) == Errc::ok);  // replays come at once
    rig.run_all();
    CHECK(rig.take_outcomes().size() == 5);
    CHECK(rig.scheduler.positions(session_id(1)) == 6u);
  }

  TEST_CASE("a full queue is busy for the sender that floods it, and serves the rest") {
    WorkerLimits limits = Rig::small_limits();
    limits.window_steps = 100;
    limits.max_queued_rows = 40;
    Rig rig(limits);
    REQUIRE(rig.open(1, 128));
    REQUIRE(rig.open(2, 16));
    REQUIRE(rig.step(2, 0, {3}) == Errc::ok);
    std::uint32_t position = 0;
    while (rig.step(1, position, test::text(1, 8)) == Errc::ok) position += 8;
    CHECK(position == 32);
    CHECK(rig.scheduler.queued_rows() == 33);
    rig.run_one();
    const auto outcomes = rig.take_outcomes();
    REQUIRE(outcomes.size() == 1);
    CHECK(outcomes[0].session == 2);
    rig.run_all();
    CHECK(rig.take_outcomes().size() == 4);
  }

  TEST_CASE("a lapsed deadline drops the step before it begins, and those queued behind it") {
    Rig rig;
    REQUIRE(rig.open(1));
    REQUIRE(rig.step(1, 0, {1}, 1, rig.now + 10ms) == Errc::ok);
    REQUIRE(rig.step(1, 1, {2}) == Errc::ok);
    rig.now += 11ms;
    CHECK(rig.run_one() == 0);
    const auto outcomes = rig.take_outcomes();
    REQUIRE(outcomes.size() == 2);
    CHECK(code(outcomes[0]) == Errc::deadline_passed);
    CHECK(code(outcomes[1]) == Errc::position_gap);
    CHECK(rig.step(1, 1, {2}) == Errc::position_gap);
    CHECK(rig.step(1, 0, {1}, 1, rig.now) == Errc::ok);  // due now is not late
    CHECK(rig.run_one() == 1);
  }

  TEST_CASE("a deadline that lapses in mid-step lets the step end") {
    Rig rig;
    REQUIRE(rig.open(1));
    REQUIRE(rig.step(1, 0, test::text(1, 12), 1, rig.now + 10ms) == Errc::ok);
    CHECK(rig.run_one() == 8);
    rig.now += 1h;
    CHECK(rig.run_one() == 4);
    CHECK(code(rig.take_outcomes().at(0)) == Errc::ok);
  }

  TEST_CASE("a newer epoch discards what older ones queued, and may step back") {
    Rig rig;
    REQUIRE(rig.open(1));
    const Tokens prompt = test::text(5, 6);
    REQUIRE(rig.step(1, 0, prompt) == Errc::ok);
    rig.run_all();
    REQUIRE(rig.step(1, 6, {1}) == Errc::ok);
    REQUIRE(rig.step(1, 7, {2}) == Errc::ok);
    auto batch = rig.scheduler.next_batch(rig.now);  // position 6 is running
    REQUIRE(batch);
    rig.take_outcomes();

    SUBCASE("by a step below what is computed") {
      CHECK(rig.step(1, 8, {4}, 2) == Errc::position_gap);  // beyond what is computed whole
      REQUIRE(rig.step(1, 4, {33, 34}, 2) == Errc::ok);
    }
    SUBCASE("by open, then a step") {
      const auto reply = rig.open(1, 64, kAllLayers, 2);
      REQUIRE(reply);
      CHECK(reply->held_positions == 6);
      CHECK(rig.step(1, 6, {1}, 1) == Errc::stale_epoch);
      CHECK(rig.truncate(1, 4, 1) == Errc::stale_epoch);
      REQUIRE(rig.truncate(1, 4, 2) == Errc::ok);
      REQUIRE(rig.step(1, 4, {33, 34}, 2) == Errc::ok);
    }
    const auto dropped = rig.take_outcomes();
    REQUIRE(dropped.size() == 2);
    CHECK(code(dropped[0]) == Errc::stale_epoch);
    CHECK(code(dropped[1]) == Errc::stale_epoch);
    rig.compute(*batch);
    rig.scheduler.finish_batch(std::move(*batch), rig.now);
    rig.run_all();
    const auto outcomes = rig.take_outcomes();
    REQUIRE(outcomes.size() == 1);
    REQUIRE(outcomes[0].result);
    Solo solo;
    solo.run(0, embed(prompt));
    CHECK(bytes_of(outcomes[0].result->rows) == solo.run(4, embed({33, 34})));
  }

  TEST_CASE("a newer epoch with another span empties the cache") {
    Rig rig;
    REQUIRE(rig.open(1, 64, {0, 3}));
    REQUIRE(rig.step(1, 0, test::text(1, 8)) == Errc::ok);
    rig.run_all();
    CHECK(rig.open(1, 64, {0, 4}).error().code == Errc::invalid_argument);
    const auto reply = rig.open(1, 64, {0, 4}, 2);
    REQUIRE(reply);
    CHECK(reply->held_positions == 0);
    CHECK(rig.scheduler.pool().used() == 0);
    CHECK(rig.step(1, 8, {1}, 2) == Errc::position_gap);
    CHECK(rig.step(1, 0, {1}, 2) == Errc::ok);
    CHECK(rig.open(1, 64, {0, 4}, 1).error().code == Errc::stale_epoch);

    const auto refused = rig.open(1, kPages * kPageTokens + 1, {0, 5}, 3);
    CHECK(refused.error().code == Errc::no_cache_space);
    CHECK(rig.scheduler.sessions() == 0);
    CHECK(rig.scheduler.pool().promisable() == kPages);
  }

  TEST_CASE("a truncation ends queued steps that reach beyond it") {
    Rig rig;
    REQUIRE(rig.open(1));
    REQUIRE(rig.step(1, 0, {1, 2}) == Errc::ok);
    REQUIRE(rig.step(1, 2, {3}) == Errc::ok);
    REQUIRE(rig.step(1, 3, {4}) == Errc::ok);
    REQUIRE(rig.truncate(1, 3) == Errc::ok);
    auto outcomes = rig.take_outcomes();
    REQUIRE(outcomes.size() == 1);
    CHECK(outcomes[0].position == 3);
    CHECK(code(outcomes[0]) == Errc::cancelled);
    REQUIRE(rig.step(1, 3, {50}) == Errc::ok);
    rig.run_all();
    outcomes = rig.take_outcomes();
    REQUIRE(outcomes.size() == 3);
    Solo solo;
    solo.run(0, embed({1, 2, 3}));
    REQUIRE(outcomes[2].result);
    CHECK(bytes_of(outcomes[2].result->rows) == solo.run(3, embed({50})));
    REQUIRE(rig.truncate(1, 100) == Errc::ok);  // nothing there to forget
    CHECK(rig.scheduler.positions(session_id(1)) == 4u);
  }

  TEST_CASE("a session closed in mid-batch leaves no result and its pages to nobody in it") {
    Rig rig(Rig::small_limits(), 8);
    REQUIRE(rig.open(1, 16));
    REQUIRE(rig.step(1, 0, test::text(1, 8)) == Errc::ok);
    auto batch = rig.scheduler.next_batch(rig.now);
    REQUIRE(batch);
    rig.scheduler.close(session_id(1));
    CHECK(rig.scheduler.pool().free() == 8);
    REQUIRE(rig.open(1, 32));  // the same id again, wanting every page
    REQUIRE(rig.step(1, 0, {7, 8, 9}) == Errc::ok);
    rig.compute(*batch);
    rig.scheduler.finish_batch(std::move(*batch), rig.now);
    rig.run_all();
    const auto outcomes = rig.take_outcomes();
    REQUIRE(outcomes.size() == 1);
    REQUIRE(outcomes[0].result);
    CHECK(bytes_of(outcomes[0].result->rows) == Solo().run(0, embed({7, 8, 9})));
  }

  TEST_CASE("a result that waits to be taken vanishes when its session closes") {
    Rig rig;
    REQUIRE(rig.open(1));
    REQUIRE(rig.step(1, 0, {1}) == Errc::ok);
    rig.run_all();
    CHECK(rig.scheduler.has_finished());
    rig.scheduler.close(session_id(1));
    CHECK_FALSE(rig.scheduler.has_finished());
  }

  TEST_CASE("a failed pass fails its steps, and the session goes on from before them") {
    Rig rig;
    REQUIRE(rig.open(1));
    REQUIRE(rig.open(2));
    REQUIRE(rig.step(1, 0, {1, 2}) == Errc::ok);
    REQUIRE(rig.step(1, 2, {3}) == Errc::ok);
    REQUIRE(rig.step(2, 0, {9}) == Errc::ok);
    auto batch = rig.scheduler.next_batch(rig.now);
    REQUIRE(batch);
    rig.compute(*batch);
    for (auto& slice : batch->slices) {
      if (slice.rows == 2) slice.result = Error{Errc::compute_failed, "kernel"};
    }
    rig.scheduler.finish_batch(std::move(*batch), rig.now);
    const auto outcomes = rig.take_outcomes();
    REQUIRE(outcomes.size() == 3);
    for (const Outcome& outcome : outcomes) {
      if (outcome.session == 2) CHECK(code(outcome) == Errc::ok);
      if (outcome.session == 1) {
        CHECK(code(outcome) == (outcome.position == 0 ? Errc::compute_failed : Errc::position_gap));
      }
    }
    REQUIRE(rig.step(1, 0, {1, 2}) == Errc::ok);
    rig.run_all();
    const auto retried = rig.take_outcomes();
    REQUIRE(retried.at(0).result);
    CHECK(bytes_of(retried[0].result->rows) == Solo().run(0, embed({1, 2})));
  }

  TEST_CASE("a second session starts after the prefix that the first computed") {
    Rig rig;
    const Tokens prompt = test::text(8, 14);
    REQUIRE(rig.open(1, 32, kAllLayers, 1, names_of(prompt)));
    REQUIRE(rig.step(1, 0, prompt) == Errc::ok);
    rig.run_all();
    rig.take_outcomes();

    auto reply = rig.open(2, 32, kAllLayers, 1, names_of(prompt));
    REQUIRE(reply);
    CHECK(reply->held_positions == 12);
    SUBCASE("and computes the same") {
      REQUIRE(rig.step(2, 12, {prompt[12], prompt[13], 60}) == Errc::ok);
    }
    SUBCASE("also after a cut inside the shared page, which leaves the first one's rows alone") {
      REQUIRE(rig.truncate(2, 10) == Errc::ok);
      REQUIRE(rig.step(2, 10, {70, 71, 72}) == Errc::ok);
      rig.run_all();
      rig.take_outcomes();
      REQUIRE(rig.step(1, 14, {60}) == Errc::ok);
      rig.run_all();
      const auto outcomes = rig.take_outcomes();
      REQUIRE(outcomes.at(0).result);
      Solo solo;
      solo.run(0, embed(prompt));
      CHECK(bytes_of(outcomes[0].result->rows) == solo.run(14, embed({60})));
      REQUIRE(rig.truncate(2, 10) == Errc::ok);
      REQUIRE(rig.step(2, 10, {prompt[10], prompt[11], prompt[12], prompt[13], 60}) == Errc::ok);
    }
    rig.run_all();
    const auto outcomes = rig.take_outcomes();
    REQUIRE(outcomes.size() == 1);
    REQUIRE(outcomes[0].result);
    Tokens whole = prompt;
    whole.push_back(60);
    const auto expected = Solo().run(0, embed(whole));
    const auto got = bytes_of(outcomes[0].result->rows);
    CHECK(got ==
          test::Bytes(expected.end() - static_cast<std::ptrdiff_t>(got.size()), expected.end()));

    CHECK(rig.open(3, 32, {0, 5}, 1, names_of(prompt))->held_positions == 0);
    CHECK(rig.open(4, 32, kAllLayers, 1, names_of(prompt), 2)->held_positions == 0);
  }

  TEST_CASE("a later turn names the pages of the turn before") {
    Rig rig;
    const Tokens conversation = test::text(4, 16);
    REQUIRE(rig.open(1, 32));
    REQUIRE(rig.step(1, 0, conversation) == Errc::ok);
    rig.run_all();
    CHECK(rig.open(2, 32, kAllLayers, 1, names_of(conversation))->held_positions == 0);
    const auto again = rig.open(1, 32, kAllLayers, 1, names_of(conversation));
    REQUIRE(again);
    CHECK(again->held_positions == 16);
    CHECK(rig.open(3, 32, kAllLayers, 1, names_of(conversation))->held_positions == 16);
  }

  TEST_CASE("a session that nobody touches is closed, one that waits is not") {
    Rig rig;
    CHECK_FALSE(rig.scheduler.idle_deadline());
    REQUIRE(rig.open(1));
    rig.now += 30min;
    REQUIRE(rig.open(2));
    REQUIRE(rig.open(3));
    REQUIRE(rig.step(3, 0, {1}) == Errc::ok);
    CHECK(*rig.scheduler.idle_deadline() == TimePoint{} + 60min);
    rig.now += 30min;
    CHECK(rig.scheduler.close_idle(rig.now) == std::vector{session_id(1)});
    rig.now += 30min;
    CHECK(rig.scheduler.close_idle(rig.now) == std::vector{session_id(2)});
    CHECK(rig.scheduler.sessions() == 1);
    CHECK_FALSE(rig.scheduler.idle_deadline());
  }

  TEST_CASE("times tell waiting from computing") {
    Rig rig;
    REQUIRE(rig.open(1));
    REQUIRE(rig.step(1, 0, test::text(1, 16)) == Errc::ok);
    for (int pass = 0; pass < 2; ++pass) {
      rig.now += 5ms;
      auto batch = rig.scheduler.next_batch(rig.now);
      REQUIRE(batch);
      rig.compute(*batch);
      rig.now += 20ms;
      rig.scheduler.finish_batch(std::move(*batch), rig.now);
    }
    const auto outcomes = rig.take_outcomes();
    REQUIRE(outcomes.at(0).result);
    CHECK(outcomes[0].result->time.queue_us == 10'000);
    CHECK(outcomes[0].result->time.compute_us == 40'000);
    CHECK(outcomes[0].result->time.batch_rows == 8);
  }
}

}  // namespace farmesh::serve
