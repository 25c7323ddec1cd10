// What coordinators share through Redis, with a real server.
#include <doctest/doctest.h>

#include "gateway/redis_state.hpp"
#include "support/redis_server.hpp"

namespace farmesh::gateway {
namespace {

using test::RedisServer;

std::unique_ptr<RedisServer> server_or_message() {
  auto server = RedisServer::start();
  if (!server) MESSAGE("skipped: there is no redis-server here");
  return server;
}

std::shared_ptr<Redis> redis_at(const std::string& url) {
  const auto address = RedisAddress::parse(url);
  REQUIRE(address);
  return std::make_shared<Redis>(*address);
}

SealedBox::Key key_of(const std::string& secret) {
  const auto key = shared_key(secret);
  REQUIRE(key);
  return *key;
}

CachedTurn turn() {
  CachedTurn turn;
  turn.request_id = "r1";
  turn.writer = "w1";
  turn.account = "public";
  turn.body = R"({"prompt":"a secret prompt"})";
  turn.max_tokens = {4};
  return turn;
}

}  // namespace

TEST_SUITE("gateway/redis") {
  TEST_CASE("an address is read strictly, and never told back with its password") {
    const auto full = RedisAddress::parse("redis://user:p%40ss@[::1]:7000/3");
    REQUIRE(full);
    CHECK(full->host == "::1");
    CHECK(full->port == 7'000);
    CHECK(full->user == "user");
    CHECK(full->password == "p@ss");
    CHECK(full->database == 3);
    CHECK(RedisAddress::parse("redis://cache")->port == 6'379);
    for (const char* wrong : {"", "rediss://h", "redis://", "redis://h:0", "redis://h:x",
                              "redis://secret@h", "redis://h/x", "redis://:secret%zz@h"}) {
      const auto refused = RedisAddress::parse(wrong);
      REQUIRE_FALSE(refused);
      CHECK(refused.error().detail.find("secret") == std::string::npos);
    }
    CHECK_FALSE(shared_key("short"));
  }

  TEST_CASE("a turn that one coordinator keeps, another one finds, and nobody else can read") {
    const auto server = server_or_message();
    if (!server) return;
    const auto key = key_of("0123456789abcdef\n");
    RedisSessionCache one(redis_at(server->url()), key);
    RedisSessionCache other(redis_at(server->url()), key_of("0123456789abcdef"));
    REQUIRE(one.open(turn()));
    const std::vector<CachedItem> items{{0, 7}, {0, 8}};
    CHECK(*one.append("r1", "w1", 0, items) == true);
    const auto found = other.find("r1");
    REQUIRE(found);
    REQUIRE(found->has_value());
    CHECK((*found)->body == turn().body);
    CHECK((*found)->items == items);

    // The other goes on with it: the first one may write no more.
    CachedTurn taken = **found;
    taken.writer = "w2";
    REQUIRE(other.open(taken));
    CHECK(*one.append("r1", "w1", 2, items) == false);
    CHECK(*other.append("r1", "w2", 2, std::vector<CachedItem>{{0, CachedItem::kEnd}}) == true);
    CHECK((*one.find("r1"))->items.size() == 3);
    CHECK_FALSE(one.find("r2")->has_value());

    RedisSessionCache stranger(redis_at(server->url()), key_of("another secret text"));
    CHECK_FALSE(stranger.find("r1")->has_value());
    const auto raw = redis_at(server->url());
    const auto names = raw->command({"KEYS", "*"});
    REQUIRE(names);
    CHECK(names->parts.size() == 2);
    for (const RedisReply& name : names->parts) {
      CHECK(name.text->find("r1") == std::string::npos);
      const auto left = raw->command({"TTL", *name.text});
      CHECK(*left->number > 3'500);
      CHECK(*left->number <= 3'600);
    }
  }

  TEST_CASE("a request that one coordinator runs, another one finds, cancels, and takes over") {
    const auto server = server_or_message();
    if (!server) return;
    const auto key = key_of("0123456789abcdef");
    RedisRequestBoard one(redis_at(server->url()), key);
    RedisRequestBoard other(redis_at(server->url()), key);
    RequestRecord record;
    record.answer.request_id = "r1";
    record.stream = 1;
    CHECK_FALSE(other.find("r1")->has_value());
    CHECK(*other.ask_cancel("r1") == false);
    CHECK(*one.tell(record, 0, true) == false);
    record.answer.text = "Once";
    CHECK(*one.tell(record, 2, false) == false);
    record.answer.text = "On";
    CHECK(*one.tell(record, 1, false) == false);  // older than what was told
    REQUIRE(other.find("r1")->has_value());
    CHECK((*other.find("r1"))->answer.text == "Once");
    CHECK(*one.tell_alive("r1", 1) == false);
    CHECK(*other.ask_cancel("r1") == true);
    CHECK(*one.tell_alive("r1", 1) == true);
    CHECK(*one.tell_alive("r1", 2) == false);

    RequestRecord taken = record;
    taken.stream = 2;
    taken.answer.text = "Once upon";
    CHECK(*other.tell(taken, 0, true) == false);  // nobody wants that one cancelled
    CHECK(*one.tell(record, 9, false) == false);
    CHECK((*one.find("r1"))->answer.text == "Once upon");
    taken.status = RequestStatus::completed;
    CHECK(*other.tell(taken, 1, false) == false);
    CHECK((*one.find("r1"))->status == RequestStatus::completed);
    CHECK(*one.ask_cancel("r1") == false);

    RedisRequestBoard stranger(redis_at(server->url()), key_of("another secret text"));
    CHECK_FALSE(stranger.find("r1")->has_value());
    const auto raw = redis_at(server->url());
    const auto names = raw->command({"KEYS", "*"});
    REQUIRE(names->parts.size() == 1);
    const std::string name = *names->parts[0].text;
    CHECK(name.find("r1") == std::string::npos);
    CHECK(*raw->command({"TTL", name})->number > 3'500);
    // Its coordinator died in the middle.
    taken.status = RequestStatus::active;
    CHECK(*other.tell(taken, 0, true) == false);
    REQUIRE(raw->command({"HSET", name, "at", "1000"}));
    CHECK((*one.find("r1"))->status == RequestStatus::failed);
    CHECK((*one.find("r1"))->problem->code == "coordinator_lost");
    CHECK(*one.ask_cancel("r1") == false);
  }

  TEST_CASE("a bucket is one for all coordinators") {
    const auto server = server_or_message();
    if (!server) return;
    const auto key = key_of("0123456789abcdef");
    RedisRateLimits one(redis_at(server->url()), key);
    RedisRateLimits other(redis_at(server->url()), key);
    const RateLimit limit{2, std::chrono::hours(1)};
    CHECK(one.take("a", limit, 1).remaining == 1);
    CHECK(other.take("a", limit, 1).allowed);
    const RateVerdict refused = one.take("a", limit, 1);
    CHECK_FALSE(refused.allowed);
    CHECK(refused.retry_after > std::chrono::minutes(25));
    CHECK(refused.retry_after <= std::chrono::minutes(30));
    CHECK(one.take("b", limit, 1).allowed);
    other.charge("b", limit, 5);
    CHECK_FALSE(one.take("b", limit, 1).allowed);
    CHECK(one.take("c", {0, std::chrono::hours(1)}, 1).allowed);
  }

  TEST_CASE(
      "while Redis is away limits are each one's own, turns are not kept, and it may return") {
    const auto server = server_or_message();
    if (!server) return;
    const auto redis = redis_at(server->url());
    const auto key = key_of("0123456789abcdef");
    RedisRateLimits limits(redis, key);
    RedisSessionCache turns(redis, key);
    CHECK(redis->command({"PING"}));
    server->stop();
    CHECK(limits.take("a", {1, std::chrono::hours(1)}, 1).allowed);
    CHECK_FALSE(limits.take("a", {1, std::chrono::hours(1)}, 1).allowed);
    CHECK(turns.open(turn()).error().code == Errc::ledger_unavailable);
    server->restart();
    bool back = false;
    for (int i = 0; i < 500 && !back; ++i) {
      back = bool(redis->command({"PING"}));
      if (!back) ::usleep(10'000);
    }
    CHECK(back);
    const auto refused = redis_at("redis://:wrong@" + server->url().substr(16))->command({"PING"});
    CHECK_FALSE(refused);
  }
}

}  // namespace farmesh::gateway
