// When a batch of sessions that decode begins.

#include "serve/pipeline.hpp"

#include <vector>

#include <doctest/doctest.h>

using namespace farmesh;
using namespace farmesh::serve;
using namespace std::chrono_literals;

namespace {

SessionId id(std::uint8_t number) { return {{number}}; }

/// A stage whose small batches take 8 ms.
struct Stage {
  Pipeline pipeline;
  TimePoint now{1s};

  explicit Stage(bool first) : pipeline(first) {}

  void come(std::uint8_t from, std::uint8_t to, std::uint32_t groups,
            std::uint32_t batch_rows = 0) {
    for (std::uint8_t i = from; i < to; ++i) pipeline.came(id(i), groups, batch_rows, now);
  }
  Pipeline::Plan plan(std::uint32_t waiting) {
    return pipeline.plan({now, waiting, now, now, 8ms});
  }
  void begin(std::uint8_t from, std::uint8_t to) {
    std::vector<SessionId> sessions;
    for (std::uint8_t i = from; i < to; ++i) sessions.push_back(id(i));
    pipeline.begun(sessions);
  }
  /// A round in which all 16 sessions come in groups of `rows`.
  void round(std::uint8_t rows) {
    for (std::uint8_t i = 0; i < 16; i += rows) {
      come(i, i + rows, 4);
      static_cast<void>(plan(rows));
      begin(i, i + rows);
      now += 8ms;
    }
  }
};

}  // namespace

TEST_SUITE("serve/pipeline") {
  TEST_CASE("a chain that is full lets its first stage wait, and what comes joins the next group") {
    Stage stage(true);
    stage.round(4);
    stage.come(0, 4, 4);
    CHECK(stage.plan(4).begin <= stage.now);  // three of four groups are under way
    stage.begin(0, 2);                        // as if two had come late
    CHECK(stage.plan(2).begin > stage.now);
    stage.come(4, 8, 4);
    const Pipeline::Plan plan = stage.plan(6);
    CHECK(plan.begin <= stage.now);
    CHECK(plan.rows == 4);  // six are more than a group
  }

  TEST_CASE("a group that lacks one row does not wait for it, nor leave one behind") {
    Stage stage(true);
    stage.round(4);
    stage.come(0, 3, 4);
    CHECK(stage.plan(3).begin <= stage.now);
    stage.come(3, 5, 4);
    CHECK(stage.plan(5).rows == UINT32_MAX);
  }

  TEST_CASE("waiting ends, and who waited in vain does not wait again soon") {
    Stage stage(true);
    stage.round(4);
    stage.come(0, 1, 4);
    stage.begin(0, 1);
    stage.come(1, 2, 4);
    const TimePoint until = stage.plan(1).begin;
    CHECK(until > stage.now);
    CHECK(until <= stage.now + 3 * 8ms);
    stage.now = until;
    static_cast<void>(stage.plan(1));
    stage.begin(1, 2);
    stage.come(2, 3, 4);
    CHECK(stage.plan(1).begin <= stage.now);
  }

  TEST_CASE("nobody waits while a driver has not measured its chain") {
    Stage stage(true);
    stage.round(4);
    stage.come(16, 17, 0);
    const Pipeline::Plan plan = stage.plan(1);
    CHECK(plan.begin <= stage.now);
    CHECK(plan.rows == UINT32_MAX);
  }

  TEST_CASE("sessions that went away count no more after three rounds, closed ones at once") {
    Stage stage(true);
    stage.round(4);
    stage.round(4);
    for (std::uint8_t i = 4; i < 16; ++i) stage.pipeline.closed(id(i));
    stage.come(0, 2, 4);
    CHECK(stage.plan(2).begin <= stage.now);
    stage.round(4);
    stage.now += 10s;
    stage.come(0, 2, 4);
    CHECK(stage.plan(2).begin <= stage.now);
  }

  TEST_CASE("a silly number of groups spoils no more than its session's share") {
    Stage stage(true);
    stage.round(4);
    stage.come(0, 12, 4);
    stage.come(12, 16, 255);
    CHECK(stage.plan(16).rows == 4);  // 3.02 rounded up
  }

  TEST_CASE("a later stage waits a moment for the rest of a group, and learns when that is vain") {
    Stage stage(false);
    stage.come(0, 1, 4, 4);
    const TimePoint until = stage.plan(1).begin;
    CHECK(until > stage.now);
    CHECK(until <= stage.now + 1ms);
    stage.come(1, 4, 4, 4);
    CHECK(stage.plan(4).begin <= stage.now);
    stage.begin(0, 4);
    for (int i = 0; i < 20; ++i) {
      stage.come(0, 1, 4, 4);
      static_cast<void>(stage.plan(1));
      stage.begin(0, 1);
    }
    stage.come(0, 1, 4, 4);
    CHECK(stage.plan(1).begin <= stage.now + 10us);
  }
}
