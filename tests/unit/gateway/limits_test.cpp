// Token buckets, places in the queue, and requests by their id.
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "gateway/fair_queue.hpp"
#include "gateway/rate_limiter.hpp"
#include "gateway/request_table.hpp"

namespace farmesh::gateway {
namespace {

using namespace std::chrono_literals;

// What two coordinators would find in Redis.
struct MemoryBoard final : RequestBoard {
  struct Told {
    RequestRecord record;
    std::uint64_t revision = 0;
    bool cancel = false;
  };
  std::map<std::string, Told> all;
  bool away = false;

  Result<bool> tell(const RequestRecord& record, std::uint64_t revision, bool first) override {
    if (away) return Error{Errc::ledger_unavailable, "away"};
    Told& told = all[record.answer.request_id];
    if (first) told = {};
    if (!first && (told.record.stream != record.stream || told.revision >= revision)) {
      return told.cancel && told.record.stream == record.stream;
    }
    told.record = record;
    told.revision = revision;
    return told.cancel;
  }
  Result<bool> tell_alive(const std::string& id, std::uint64_t) override {
    if (away) return Error{Errc::ledger_unavailable, "away"};
    return all[id].cancel;
  }
  Result<std::optional<RequestRecord>> find(const std::string& id) override {
    if (away) return Error{Errc::ledger_unavailable, "away"};
    if (!all.contains(id)) return std::optional<RequestRecord>();
    return std::optional<RequestRecord>(all[id].record);
  }
  Result<bool> ask_cancel(const std::string& id) override {
    if (away) return Error{Errc::ledger_unavailable, "away"};
    const bool known = all.contains(id) && all[id].record.status == RequestStatus::active;
    if (known) all[id].cancel = true;
    return known;
  }
};

RequestRecord record(const std::string& id, const std::string& digest = "d") {
  RequestRecord record;
  record.answer.request_id = id;
  record.body_digest = digest;
  return record;
}

}  // namespace

TEST_SUITE("gateway/rate_limiter") {
  TEST_CASE("a bucket may be spent at once, and refills evenly") {
    RateLimiter limiter;
    const RateLimit limit{2, 20s};
    const RateLimiter::Clock::time_point start{};
    CHECK(limiter.take("a", limit, 1, start).remaining == 1);
    CHECK(limiter.take("a", limit, 1, start).allowed);
    const RateVerdict refused = limiter.take("a", limit, 1, start);
    CHECK_FALSE(refused.allowed);
    CHECK(refused.retry_after == 10s);
    CHECK(refused.reset == 20s);
    CHECK(limiter.take("b", limit, 1, start).allowed);
    CHECK(limiter.take("a", limit, 1, start + 10s).allowed);
  }

  TEST_CASE("what is charged afterwards is waited for") {
    RateLimiter limiter;
    const RateLimit limit{10, 10s};
    const RateLimiter::Clock::time_point start{};
    limiter.charge("a", limit, 15, start);
    CHECK(limiter.take("a", limit, 1, start).retry_after == 6s);
    CHECK(limiter.take("a", limit, 1, start + 6s).allowed);
  }

  TEST_CASE("a limit of 0 is none") { CHECK(RateLimiter().take("a", {0, 1s}).allowed); }

  TEST_CASE("buckets are bounded in number") {
    RateLimiter limiter(4);
    for (int i = 0; i < 100; ++i) CHECK(limiter.take(std::to_string(i), {1, 1h}).allowed);
  }
}

TEST_SUITE("gateway/fair_queue") {
  TEST_CASE("an account has so many places, and the queue so many in all") {
    FairQueue queue({.places = 2, .waiting = 0, .per_account = 1});
    FairQueue::Ticket ticket;
    auto first = queue.acquire("a", 0, ticket);
    REQUIRE(first);
    CHECK(queue.acquire("a", 0, ticket).problem().status == 429);
    auto second = queue.acquire("b", 0, ticket);
    REQUIRE(second);
    CHECK(queue.acquire("c", 0, ticket).problem().status == 503);
    *second = {};
    CHECK(queue.acquire("c", 0, ticket));
    CHECK(queue.running() == 1);
  }

  TEST_CASE("places go by tier, then by account in turn") {
    FairQueue queue({.places = 1, .waiting = 10, .per_account = 10});
    FairQueue::Ticket ticket;
    auto held = queue.acquire("x", 0, ticket);
    REQUIRE(held);
    std::mutex mutex;
    std::vector<std::string> order;
    std::vector<std::thread> threads;
    const auto wait_as = [&](const std::string& account, int priority) {
      const std::size_t before = queue.waiting();
      threads.emplace_back([&, account, priority] {
        FairQueue::Ticket mine;
        const auto place = queue.acquire(account, priority, mine);
        const std::lock_guard lock(mutex);
        order.push_back(account);
      });
      while (queue.waiting() == before) std::this_thread::yield();
    };
    wait_as("greedy", 0);
    wait_as("greedy", 0);
    wait_as("modest", 0);
    wait_as("premium", 1);
    *held = {};
    for (std::thread& thread : threads) thread.join();
    CHECK(order == std::vector<std::string>{"premium", "greedy", "modest", "greedy"});
    CHECK(queue.running() == 0);
  }

  TEST_CASE("a wait that is called off leaves nothing behind") {
    FairQueue queue({.places = 1, .waiting = 1, .per_account = 10});
    FairQueue::Ticket ticket;
    auto held = queue.acquire("a", 0, ticket);
    FairQueue::Ticket waiting;
    std::thread thread([&] { CHECK(queue.acquire("b", 0, waiting).problem().status == 499); });
    while (queue.waiting() == 0) std::this_thread::yield();
    queue.call_off(waiting);
    thread.join();
    CHECK(queue.waiting() == 0);
    *held = {};
    CHECK(queue.acquire("b", 0, ticket));
  }
}

TEST_SUITE("gateway/request_table") {
  TEST_CASE("an id is one request's; its answer is kept for an hour") {
    RequestTable table;
    const RequestTable::Clock::time_point start{};
    CHECK(table.open(record("r"), start));
    CHECK(table.open(record("r"), start).problem().code == "request_in_progress");
    CHECK(table.open(record("r", "other"), start).problem().code == "request_id_reused");
    RequestRecord ended = record("r");
    ended.status = RequestStatus::completed;
    table.close(ended, start);
    const auto again = table.open(record("r"), start + 1min);
    REQUIRE(again);
    CHECK(again->has_value());
    CHECK(table.open(record("s"), start + 2h));
    CHECK_FALSE(table.find("r"));
  }

  TEST_CASE("a failed one may be tried again") {
    RequestTable table;
    CHECK(table.open(record("r")));
    RequestRecord ended = record("r");
    ended.status = RequestStatus::failed;
    table.close(ended);
    const auto again = table.open(record("r"));
    REQUIRE(again);
    CHECK_FALSE(again->has_value());
  }

  TEST_CASE("the oldest that ended are forgotten first, those under way never") {
    RequestTable table(2);
    CHECK(table.open(record("a")));
    CHECK(table.open(record("b")));
    CHECK(table.open(record("c")).problem().status == 503);
    RequestRecord ended = record("a");
    ended.status = RequestStatus::completed;
    table.close(ended);
    CHECK(table.open(record("c")));
    CHECK_FALSE(table.find("a"));
  }

  TEST_CASE("a cancel reaches the request that is under way, and no other") {
    RequestTable table;
    CHECK(table.open(record("r")));
    int cancelled = 0;
    table.set_cancel(record("r"), [&] { ++cancelled; });
    CHECK(table.cancel("r"));
    CHECK(cancelled == 1);
    CHECK_FALSE(table.cancel("s"));
  }

  TEST_CASE("tables with one board know each other's requests, and cancel them") {
    const auto board = std::make_shared<MemoryBoard>();
    RequestTable one(board), other(board);
    RequestRecord mine = record("r");
    mine.stream = 1;
    CHECK(one.open(mine));
    CHECK(other.open(record("r")).problem().code == "request_in_progress");
    CHECK(other.open(record("r", "else")).problem().code == "request_id_reused");
    mine.answer.tokens_generated = 1;
    one.add_text(mine, "Once");
    CHECK(other.find("r")->answer.text.empty());
    one.share();
    CHECK(other.find("r")->answer.text == "Once");

    int cancelled = 0;
    one.set_cancel(mine, [&] { ++cancelled; });
    CHECK(other.cancel("r"));
    CHECK(cancelled == 0);
    one.share();
    CHECK(cancelled == 1);
    mine.status = RequestStatus::cancelled;
    one.close(mine);
    CHECK(other.find("r")->status == RequestStatus::cancelled);
    CHECK_FALSE(other.cancel("r"));

    // It is tried again there, and comes to an end there.
    RequestRecord theirs = record("r");
    theirs.stream = 2;
    CHECK_FALSE(other.open(theirs)->has_value());
    theirs.status = RequestStatus::completed;
    theirs.answer.text = "Once upon";
    other.close(theirs);
    CHECK(one.find("r")->answer.text == "Once upon");
    CHECK(one.open(record("r"))->has_value() == false);  // its own was cancelled: it may try again
  }

  TEST_CASE("while the board is away each table knows its own") {
    const auto board = std::make_shared<MemoryBoard>();
    board->away = true;
    RequestTable table(board);
    CHECK(table.open(record("r")));
    table.share();
    CHECK(table.find("r"));
    CHECK_FALSE(table.find("s"));
    CHECK_FALSE(table.cancel("s"));
    CHECK(table.cancel("r"));
  }

  TEST_CASE("a record comes back from its bytes as it was") {
    RequestRecord full = record("r");
    full.owner = "key:1";
    full.stream = UINT64_MAX;
    full.status = RequestStatus::failed;
    full.problem = Problem{504, "timeout", "late", {}};
    full.answer.model_id = "org/model";
    full.answer.text = "caf\xc3\xa9";
    full.answer.tokens_generated = 7;
    full.answer.cost = Far::from_units(70'000);
    full.answer.latency_ms = 12;
    full.answer.finish = "length";
    full.answer.nodes = {{"a", {0, 2}}, {"b", {2, 4}}};
    full.answer.fallback = true;
    const std::string bytes = encode_record(full);
    const auto back = decode_record(bytes);
    REQUIRE(back);
    CHECK(encode_record(*back) == bytes);
    CHECK(back->answer.nodes[1].layers == Span{2, 4});
    CHECK(back->problem->code == "timeout");
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      CHECK_FALSE(decode_record(bytes.substr(0, size)));
    }
  }
}

}  // namespace farmesh::gateway
