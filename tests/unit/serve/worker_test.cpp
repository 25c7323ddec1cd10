#include "serve/worker.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <future>
#include <limits>
#include <map>
#include <new>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>
#include <doctest/doctest.h>

#include "base/log.hpp"
#include "net/clock.hpp"
#include "serve/pacing.hpp"
#include "unit/serve/serve_rig.hpp"

namespace farmesh::serve {
namespace {

using namespace std::chrono_literals;
using test::bytes_of;
using test::embed;
using test::kAllLayers;
using test::kRowBytes;
using test::node_id;
using test::session_id;
using test::Solo;
using test::Tokens;

/// A worker on virtual time: a pass takes 10 ms, whatever is in it.
class Rig {
 public:
  explicit Rig(WorkerLimits limits = {}, bool head = true, Duration per_row = 0ms)
      : worker(*Worker::create(std::make_unique<test::ProbeEngine>(log, kAllLayers, head),
                               make_sim_compute(clock, 10ms, per_row), clock, limits)) {}

  void open(std::uint32_t session, std::uint32_t max_positions = 64) {
    wire::Open open;
    open.session = session_id(session);
    open.epoch = 1;
    open.span = kAllLayers;
    open.max_positions = max_positions;
    REQUIRE(worker->open(open, node_id(1)));
  }

  Errc step(std::uint32_t session, std::uint32_t position, Payload input, StepDone done) {
    StepWork work;
    work.session = session_id(session);
    work.epoch = 1;
    work.position = position;
    work.count = static_cast<std::uint32_t>(input.size() / kRowBytes);
    work.input = std::move(input);
    const auto queued = worker->step(std::move(work), std::move(done));
    return queued ? Errc::ok : queued.error().code;
  }

  /// Sends the session its tokens one by one, each `away` after the result before.
  void decode(std::uint32_t session, Tokens ids, Duration away, std::uint32_t position = 0) {
    if (position == ids.size()) return;
    const Errc sent =
        step(session, position, embed({ids[position]}), [=, this](Result<StepOutput> result) {
          REQUIRE(result);
          outputs[session].push_back(bytes_of(result->rows));
          clock.call_at(clock.now() + away,
                        [=, this] { decode(session, ids, away, position + 1); });
        });
    REQUIRE(sent == Errc::ok);
  }

  bool run_until(const std::function<bool()>& done, Duration limit = 1h) {
    return clock.run_until(done, clock.now() + limit);
  }
  void run_for(Duration time) {
    run_until([] { return false; }, time);
  }

  asio::io_context context;
  net::SimClock clock{context};
  std::shared_ptr<test::ProbeEngine::Log> log = std::make_shared<test::ProbeEngine::Log>();
  std::unique_ptr<Worker> worker;
  std::map<std::uint32_t, std::vector<test::Bytes>> outputs;
};

Payload with_nan(const Tokens& ids) {
  AlignedBuffer rows(ids.size() * kRowBytes);
  const Payload clean = embed(ids);
  std::memcpy(rows.data(), clean.view().data(), rows.size());
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::memcpy(rows.data() + rows.size() - sizeof nan, &nan, sizeof nan);
  return Payload(std::move(rows));
}

std::vector<float> logits_of(const Payload& hidden, std::uint32_t rows) {
  std::vector<float> logits(rows * 97u);
  REQUIRE(test::make_engine()->logits(hidden.view(), rows, logits));
  return logits;
}

}  // namespace

TEST_SUITE("serve/worker") {
  TEST_CASE("sixteen sessions at once share passes, and each computes what it would alone") {
    Rig rig;
    for (std::uint32_t session = 0; session < 16; ++session) {
      rig.open(session, 32);
      rig.decode(session, test::text(session, 20), 0ms);
    }
    REQUIRE(rig.run_until([&] {
      for (std::uint32_t session = 0; session < 16; ++session) {
        if (rig.outputs[session].size() < 20) return false;
      }
      return true;
    }));
    CHECK(rig.log->forwards == 20);
    CHECK(rig.clock.now().time_since_epoch() == 200ms);
    for (std::uint32_t session = 0; session < 16; ++session) {
      Solo solo;
      const Tokens ids = test::text(session, 20);
      for (std::uint32_t i = 0; i < 20; ++i) {
        REQUIRE(rig.outputs[session][i] == solo.run(i, embed({ids[i]})));
      }
    }
  }

  TEST_CASE("work that comes while a pass runs is in the next one") {
    Rig rig;
    for (std::uint32_t session : {1u, 2u, 3u}) rig.open(session);
    rig.decode(1, {5}, 0ms);
    rig.run_for(4ms);
    rig.decode(2, {6}, 0ms);
    rig.run_for(4ms);
    rig.decode(3, {7}, 0ms);
    rig.run_for(20ms);
    CHECK(rig.log->batch_rows == std::vector<std::uint32_t>{1, 2});
  }

  TEST_CASE("a row that is not finite fails its step and no other of the batch") {
    Rig rig;
    rig.open(1);
    rig.open(2);
    std::map<int, Errc> codes;
    const auto note = [&](int key) {
      return [&codes, key](Result<StepOutput> r) { codes[key] = r ? Errc::ok : r.error().code; };
    };
    REQUIRE(rig.step(1, 0, with_nan({4, 5}), note(1)) == Errc::ok);
    REQUIRE(rig.step(1, 2, embed({6}), note(2)) == Errc::ok);
    REQUIRE(rig.step(2, 0, embed({4, 5}), note(3)) == Errc::ok);
    rig.run_for(1s);
    CHECK(codes[1] == Errc::bad_payload);
    CHECK(codes[2] == Errc::position_gap);
    CHECK(codes[3] == Errc::ok);
    CHECK(rig.step(1, 0, embed({4, 5}), note(4)) == Errc::ok);
    rig.run_for(1s);
    CHECK(codes[4] == Errc::ok);
  }

  TEST_CASE("a pass that fails or throws fails its steps; the worker goes on") {
    Rig rig;
    rig.open(1);
    Errc code = Errc::ok;
    std::string detail;
    const auto note = [&](Result<StepOutput> result) {
      code = result ? Errc::ok : result.error().code;
      detail = result ? "" : result.error().detail;
    };
    rig.log->before = [] { return Result<void>(Errc::compute_failed, "kernel"); };
    REQUIRE(rig.step(1, 0, embed({4}), note) == Errc::ok);
    rig.run_for(1s);
    CHECK(code == Errc::compute_failed);
    const LogLevel level = log_level();
    set_log_level(LogLevel::off);
    rig.log->before = []() -> Result<void> { throw std::runtime_error("/home/me/secret"); };
    REQUIRE(rig.step(1, 0, embed({4}), note) == Errc::ok);
    rig.run_for(1s);
    CHECK(code == Errc::compute_failed);
    CHECK(detail.find("secret") == std::string::npos);
    rig.log->before = []() -> Result<void> { throw std::bad_alloc(); };
    REQUIRE(rig.step(1, 0, embed({4}), note) == Errc::ok);
    rig.run_for(1s);
    CHECK(code == Errc::out_of_memory);
    set_log_level(level);
    rig.log->before = {};
    REQUIRE(rig.step(1, 0, embed({4}), note) == Errc::ok);
    rig.run_for(1s);
    CHECK(code == Errc::ok);
  }

  TEST_CASE("head requests that wait together are one call, and answered each with its rows") {
    Rig rig;
    rig.open(1);
    rig.decode(1, {1}, 0ms);
    rig.run_for(1ms);  // a pass is under way: what follows waits for its end
    std::vector<test::Bytes> rows;
    std::vector<std::vector<float>> logits;
    for (std::uint32_t i = 0; i < 5; ++i) {
      rig.worker->embed(test::text(i, i + 1), [&](Result<Payload> result) {
        REQUIRE(result);
        rows.push_back(bytes_of(*result));
      });
      rig.worker->logits(embed(test::text(i, i + 1)), i + 1,
                         [&](Result<std::vector<float>> result) {
                           REQUIRE(result);
                           logits.push_back(*result);
                         });
    }
    rig.run_for(1s);
    CHECK(rig.log->embeds == 1);
    CHECK(rig.log->logits == 1);
    REQUIRE(rows.size() == 5);
    REQUIRE(logits.size() == 5);
    for (std::uint32_t i = 0; i < 5; ++i) {
      const Payload hidden = embed(test::text(i, i + 1));
      CHECK(rows[i] == bytes_of(hidden));
      CHECK(logits[i] == logits_of(hidden, i + 1));
    }
  }

  TEST_CASE("a head request that cannot be computed is refused alone") {
    WorkerLimits limits;
    limits.max_queued_rows = 8;
    limits.max_step_rows = 7;
    Rig rig(limits);
    std::map<int, Errc> codes;
    const auto note = [&](int key) {
      return [&codes, key](const auto& r) { codes[key] = r ? Errc::ok : r.error().code; };
    };
    rig.worker->logits(embed({1, 2}), 2, note(0));
    rig.worker->logits(with_nan({3}), 1, note(1));
    rig.worker->logits(embed({4}), 1, note(2));
    rig.worker->logits(embed({4}), 2, note(3));
    rig.worker->logits({}, 0, note(4));
    rig.worker->embed({1, 97}, note(5));
    rig.worker->embed(test::text(1, 5), note(6));
    rig.worker->embed({}, note(7));
    rig.worker->embed(test::text(1, 8), note(8));
    rig.run_for(1s);
    CHECK(codes == std::map<int, Errc>{{0, Errc::ok},
                                       {1, Errc::bad_payload},
                                       {2, Errc::ok},
                                       {3, Errc::bad_shape},
                                       {4, Errc::bad_shape},
                                       {5, Errc::bad_payload},
                                       {6, Errc::busy},
                                       {7, Errc::bad_shape},
                                       {8, Errc::bad_shape}});
    CHECK(rig.worker->load().queued_rows == 0);

    rig.log->before = [] { return Result<void>(Errc::compute_failed); };
    rig.worker->logits(embed({1}), 1, note(10));
    rig.worker->logits(with_nan({1}), 1, note(11));
    rig.worker->embed({1}, note(12));
    rig.run_for(1s);
    CHECK(codes[10] == Errc::compute_failed);
    CHECK(codes[11] == Errc::bad_payload);
    CHECK(codes[12] == Errc::compute_failed);

    Rig headless({}, false);
    headless.worker->embed({1}, note(20));
    headless.worker->logits(embed({1}), 1, note(21));
    CHECK(codes[20] == Errc::head_unavailable);
    CHECK(codes[21] == Errc::head_unavailable);
  }

  TEST_CASE("blocks and head take turns when both always have work") {
    WorkerLimits limits;
    limits.max_batch_rows = 4;
    Rig rig(limits);
    rig.open(1, 1'000);
    int steps = 0, heads = 0;
    REQUIRE(rig.step(1, 0, embed(test::text(1, 400)), [&](auto) { ++steps; }) == Errc::ok);
    for (int i = 0; i < 100; ++i) {
      rig.worker->logits(embed({1, 2, 3, 4}), 4, [&](const auto&) { ++heads; });
    }
    rig.run_for(501ms);
    CHECK(heads == 25);
    CHECK(rig.log->forwards == 25);
    CHECK(steps == 0);
  }

  TEST_CASE("two groups of decoding sessions merge into one") {
    Rig rig;
    for (std::uint32_t session = 0; session < 4; ++session) {
      rig.open(session);
      if (session == 2) rig.run_for(5ms);
      rig.decode(session, test::text(session, 40), 500us);
    }
    rig.run_for(5s);
    const auto& rows = rig.log->batch_rows;
    REQUIRE(rows.size() < 45);
    CHECK(std::count(rows.begin(), rows.end(), 4u) >= 38);
  }

  TEST_CASE("nothing waits for sessions that stay away for longer than a moment") {
    Rig rig;
    rig.open(1);
    rig.open(2);
    rig.decode(1, test::text(1, 30), 30ms);
    rig.run_for(15ms);
    rig.decode(2, test::text(2, 30), 30ms);
    const TimePoint begin{};
    REQUIRE(rig.run_until([&] { return rig.outputs[1].size() == 30; }));
    const Duration alone = 30 * 10ms + 29 * 30ms;
    CHECK(rig.clock.now() - begin < alone + 10ms);
  }

  TEST_CASE("a session that ends is waited for once at most, half of a short batch") {
    Pacing pacing;
    TimePoint now{};
    pacing.batch_ended(now, 20ms);
    CHECK(pacing.begin_at() <= now);
    pacing.sent_off(session_id(1), now);
    pacing.sent_off(session_id(2), now);
    CHECK(pacing.begin_at() == now + 10ms);
    pacing.came_back(session_id(1), now + 1ms);
    CHECK(pacing.begin_at() == now + 10ms);
    pacing.closed(session_id(2));
    CHECK(pacing.begin_at() <= now);

    for (int i = 0; i < 20; ++i) {
      pacing.batch_ended(now, 20ms);
      pacing.sent_off(session_id(1), now);
      pacing.came_back(session_id(1), now + 15ms);
    }
    pacing.sent_off(session_id(1), now);
    CHECK(pacing.begin_at() <= now);
  }

  TEST_CASE("the time of the head's own passes is neither time away nor waiting") {
    Pacing pacing;
    TimePoint now{};
    for (int i = 0; i < 20; ++i) {
      now += 40ms;
      pacing.batch_ended(now, 20ms);
      pacing.sent_off(session_id(1), now);
      now += 15ms;
      pacing.head_ended(now, 14ms);
      CHECK(pacing.begin_at() == now + 10ms);
      pacing.came_back(session_id(1), now + 1ms);
    }
  }

  TEST_CASE("memory decides the pages, and too little of it is said at once") {
    WorkerLimits limits;
    limits.cache_bytes = 10 * test::make_engine()->info().page_bytes + 1;
    Rig rig(limits);
    CHECK(rig.worker->load().free_pages == 10);

    auto log = std::make_shared<test::ProbeEngine::Log>();
    log->out_of_memory = true;
    const auto worker = Worker::create(std::make_unique<test::ProbeEngine>(log),
                                       make_sim_compute(rig.clock, 1ms, 0ms), rig.clock, {});
    REQUIRE_FALSE(worker);
    CHECK(worker.error().code == Errc::out_of_memory);

    limits.window_steps = 0;
    const auto useless = Worker::create(test::make_engine(), make_sim_compute(rig.clock, 1ms, 0ms),
                                        rig.clock, limits);
    REQUIRE_FALSE(useless);
    CHECK(useless.error().code == Errc::invalid_argument);
  }

  TEST_CASE("an idle session is closed and its pages are free") {
    Rig rig;
    std::vector<SessionId> closed;
    rig.worker->on_idle_close([&](const SessionId& session) { closed.push_back(session); });
    rig.open(1);
    rig.decode(1, {1, 2, 3}, 20min);
    rig.run_for(99min);
    CHECK(closed.empty());
    CHECK(rig.worker->positions(session_id(1)) == 3u);
    rig.run_for(2min);
    CHECK(closed == std::vector{session_id(1)});
    CHECK_FALSE(rig.worker->positions(session_id(1)));
    CHECK(rig.worker->load().free_pages == 4'096);
  }

  TEST_CASE("a lapsed step is told so without any other work to wake the worker") {
    Rig rig;
    rig.open(1);
    rig.open(2);
    rig.decode(2, {1}, 0ms);
    rig.run_for(1ms);
    StepWork work;
    work.session = session_id(1);
    work.epoch = 1;
    work.count = 1;
    work.input = embed({1});
    work.deadline = rig.clock.now() + 5ms;
    Errc code = Errc::ok;
    const auto note = [&](Result<StepOutput> r) { code = r ? Errc::ok : r.error().code; };
    REQUIRE(rig.worker->step(work, note));
    rig.run_for(1s);
    CHECK(code == Errc::deadline_passed);
    CHECK(rig.log->forwards == 1);
  }

  TEST_CASE("results may close sessions or the worker itself") {
    Rig rig;
    rig.open(1);
    rig.open(2);
    int results = 0;
    const auto end_other = [&](std::uint32_t other) {
      return [&, other](Result<StepOutput>) {
        ++results;
        rig.worker->close(session_id(other));
      };
    };
    REQUIRE(rig.step(1, 0, embed({1}), end_other(2)) == Errc::ok);
    REQUIRE(rig.step(2, 0, embed({1}), end_other(1)) == Errc::ok);
    rig.run_for(1s);
    CHECK(results == 1);

    rig.open(3);
    rig.open(4);
    for (std::uint32_t session : {3u, 4u}) {
      REQUIRE(rig.step(session, 0, embed({1}), [&](Result<StepOutput>) {
        ++results;
        rig.worker.reset();
      }) == Errc::ok);
    }
    rig.run_for(1s);
    CHECK(results == 2);
  }

  TEST_CASE("a worker that ends in mid-pass calls nobody back") {
    Rig rig;
    rig.open(1);
    REQUIRE(rig.step(1, 0, embed({1}), [](auto) { FAIL("called back"); }) == Errc::ok);
    rig.worker->embed({1}, [](auto) { FAIL("called back"); });
    rig.run_for(5ms);
    rig.worker.reset();
    rig.run_for(1s);
  }

  TEST_CASE("a compute thread runs passes beside the network thread, and ends with the worker") {
    asio::io_context context;
    const auto busy = asio::make_work_guard(context);
    const auto clock = net::make_real_clock(context);
    const auto log = std::make_shared<test::ProbeEngine::Log>();
    const std::thread::id here = std::this_thread::get_id();
    bool elsewhere = true;
    log->before = [&] {
      elsewhere = elsewhere && std::this_thread::get_id() != here;
      return Result<void>();
    };
    auto worker = std::move(*Worker::create(std::make_unique<test::ProbeEngine>(log),
                                            *make_compute_thread(*clock), *clock, {}));
    wire::Open open;
    open.session = session_id(1);
    open.span = kAllLayers;
    open.max_positions = 16;
    REQUIRE(worker->open(open, node_id(1)));
    StepWork work;
    work.session = session_id(1);
    work.count = 3;
    work.input = embed({1, 2, 3});
    test::Bytes output;
    REQUIRE(worker->step(work, [&](Result<StepOutput> result) {
      REQUIRE(result);
      CHECK(std::this_thread::get_id() == here);
      output = bytes_of(result->rows);
    }));
    while (output.empty()) REQUIRE(context.run_one_for(10s) == 1);
    CHECK(output == Solo().run(0, embed({1, 2, 3})));
    CHECK(elsewhere);

    std::promise<void> worker_ends;
    log->before = [ends = worker_ends.get_future().share()] {
      ends.wait();
      return Result<void>();
    };
    work.position = 3;
    REQUIRE(worker->step(work, [](auto) { FAIL("called back"); }));
    context.poll();
    worker_ends.set_value();
    worker.reset();
    context.poll();
  }
}

}  // namespace farmesh::serve
