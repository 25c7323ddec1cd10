// Nodes, keys, logins and idempotency keys, on both back ends.
#include "ledger/access.hpp"

#include <doctest/doctest.h>

#include "ledger/node_registry.hpp"
#include "unit/ledger/ledgers.hpp"

namespace farmesh::test {

using ledger::ApiKeys;
using ledger::Database;
using ledger::IdempotencyKeys;
using ledger::LoginNonces;
using ledger::NodeRegistry;

TEST_SUITE("ledger/access") {
  TEST_CASE_TEMPLATE("a key is shown once, stored as a hash, listed, and revoked", Backend,
                     OnSqlite, OnPostgres) {
    World<Backend> world;
    FARMESH_SKIP_WITHOUT(world);
    ApiKeys keys(world.store);
    ledger::ApiKey wanted;
    wanted.name = "first";
    wanted.scopes = {true, false, true};
    const auto made = keys.create(wanted);
    REQUIRE_MESSAGE(made, made.error().to_string());
    CHECK(made->key.account == "key:" + made->key.key_id);
    const auto found = keys.authenticate(made->secret);
    REQUIRE(found);
    CHECK(found->scopes == wanted.scopes);
    CHECK(found->name == "first");
    std::string wrong = made->secret;
    wrong.back() = wrong.back() == '0' ? '1' : '0';
    for (const std::string& secret : {wrong, std::string("far_"), std::string(), made->key.key_id,
                                      std::string(85, '\''), std::string(85, '\0')}) {
      CHECK(keys.authenticate(secret).error().code == Errc::not_found);
    }
    const auto stored = world.store->transact([&](Database& db) {
      return db.query_one<std::int64_t>(
          "SELECT count(*) FROM far_api_keys WHERE key_id LIKE '%' || ?1 || '%'",
          {std::string_view(made->secret).substr(21)});
    });
    REQUIRE(stored);
    CHECK(std::get<0>(**stored) == 0);
    REQUIRE(keys.revoke(made->key.key_id));
    REQUIRE(keys.revoke(made->key.key_id));
    CHECK_FALSE(keys.authenticate(made->secret));
    CHECK(keys.revoke("0123456789abcdef").error().code == Errc::not_found);
    REQUIRE(keys.list());
    CHECK(keys.list()->size() == 1);
    CHECK(keys.list("key:other")->empty());

    wanted.expires_at = world.clock.now() + std::chrono::hours(1);
    const auto brief = keys.create(wanted);
    REQUIRE(brief);
    CHECK(keys.authenticate(brief->secret));
    world.clock.advance(std::chrono::hours(2));
    CHECK_FALSE(keys.authenticate(brief->secret));
    wanted.tier = "gold";
    CHECK(keys.create(wanted).error().code == Errc::invalid_argument);
  }

  TEST_CASE_TEMPLATE("a login nonce is of one wallet, fresh, and used once", Backend, OnSqlite,
                     OnPostgres) {
    World<Backend> world;
    FARMESH_SKIP_WITHOUT(world);
    LoginNonces nonces(world.store);
    const auto nonce = nonces.issue(wallet_name(1));
    REQUIRE_MESSAGE(nonce, nonce.error().to_string());
    CHECK_FALSE(nonces.consume(nonce->nonce, wallet_name(2)));
    CHECK(nonces.consume(nonce->nonce, wallet_name(1)));
    CHECK(nonces.consume(nonce->nonce, wallet_name(1)).error().code == Errc::not_found);
    const auto old = nonces.issue(wallet_name(1));
    REQUIRE(old);
    world.clock.advance(std::chrono::minutes(6));
    CHECK_FALSE(nonces.consume(old->nonce, wallet_name(1)));
  }

  TEST_CASE_TEMPLATE("a repeated request gets the first answer; another body is a conflict",
                     Backend, OnSqlite, OnPostgres) {
    World<Backend> world;
    FARMESH_SKIP_WITHOUT(world);
    IdempotencyKeys keys(world.store);
    using State = IdempotencyKeys::State;
    const auto state = [&](const char* digest) { return keys.begin("a", "k", digest); };
    REQUIRE(state("d"));
    CHECK(state("d")->state == State::running);
    CHECK(state("e").error().code == Errc::ledger_conflict);
    REQUIRE(keys.complete("a", "k", "{\"text\":\"one\"}"));
    REQUIRE(keys.complete("a", "k", "{\"text\":\"two\"}"));
    CHECK(state("d")->state == State::answered);
    CHECK(state("d")->response == "{\"text\":\"one\"}");
    REQUIRE(keys.abandon("a", "k"));  // too late
    CHECK(state("d")->state == State::answered);
    CHECK(keys.begin("b", "k", "d")->state == State::fresh);
    world.clock.advance(std::chrono::hours(1));
    REQUIRE(keys.expire(world.clock.now()));
    CHECK(state("d")->state == State::fresh);
    CHECK(keys.complete("a", "none", "x").error().code == Errc::not_found);
  }

  TEST_CASE_TEMPLATE("nodes register, live by heartbeats, go stale, and come back", Backend,
                     OnSqlite, OnPostgres) {
    World<Backend> world;
    FARMESH_SKIP_WITHOUT(world);
    NodeRegistry registry(world.store);
    ledger::NodeRegistration node;
    node.node_id = node_name(1);
    node.wallet = wallet_name(1);
    node.gpu_model = "RTX 3060'; DROP TABLE far_nodes; --";
    node.vram_gb = 12;
    node.latitude = 52.52;
    node.location = "DE-Berlin";
    node.model = ledger::ServedModel{"llama", {0, 11}, 32, "int8", 8};
    const auto id = registry.register_node(node);
    REQUIRE_MESSAGE(id, id.error().to_string());
    const auto again = registry.register_node(node);
    REQUIRE(again);
    CHECK(*again == *id);
    const auto listed = registry.active_nodes("llama");
    REQUIRE_MESSAGE(listed, listed.error().to_string());
    REQUIRE(listed->size() == 1);
    CHECK((*listed)[0].gpu_model == node.gpu_model);
    CHECK((*listed)[0].model.layers == Span{0, 11});
    CHECK(registry.active_nodes("llama", "DE")->size() == 1);
    CHECK(registry.active_nodes("llama", "FR")->empty());
    CHECK(registry.active_nodes("other")->empty());
    const auto holders = registry.coverage("llama");
    REQUIRE(holders);
    CHECK(holders->size() == 32);
    CHECK((*holders)[10] == 1);
    CHECK((*holders)[11] == 0);

    ledger::Heartbeat beat;
    beat.node_id = node_name(1);
    beat.latency_ms = 41.5;
    for (int i = 0; i < 4; ++i) {
      world.clock.advance(std::chrono::seconds(30));
      REQUIRE(registry.heartbeat(beat));
    }
    CHECK((*registry.active_nodes("llama"))[0].avg_latency_ms == 41.5);
    CHECK((*registry.active_nodes("llama"))[0].uptime_percent == doctest::Approx(100));
    world.clock.advance(std::chrono::seconds(121));
    CHECK(registry.active_nodes("llama")->empty());
    CHECK(*registry.mark_stale() == 1);
    CHECK(*registry.mark_stale() == 0);
    CHECK(registry.stats()->active_nodes == 0);
    CHECK(registry.stats()->total_nodes == 1);
    REQUIRE(registry.heartbeat(beat));
    CHECK(registry.active_nodes("llama")->size() == 1);
    CHECK((*registry.active_nodes("llama"))[0].uptime_percent < 99);
    REQUIRE(registry.record_metrics({12.5, 20.0, std::nullopt}));

    // Each of two models lives by its own heartbeats, where they say which one they are of.
    node.model->model_id = "mistral";
    REQUIRE(registry.register_node(node));
    CHECK(registry.active_nodes("")->size() == 2);
    beat.model_id = "mistral";
    world.clock.advance(std::chrono::seconds(100));
    REQUIRE(registry.heartbeat(beat));
    world.clock.advance(std::chrono::seconds(100));
    REQUIRE(registry.heartbeat(beat));
    CHECK(registry.active_nodes("llama")->empty());
    REQUIRE(registry.active_nodes("")->size() == 1);
    CHECK((*registry.active_nodes(""))[0].model.model_id == "mistral");
    beat.model_id.clear();

    beat.node_id = node_name(2);
    CHECK(registry.heartbeat(beat).error().code == Errc::not_found);
    beat.latency_ms = -1;
    CHECK(registry.heartbeat(beat).error().code == Errc::invalid_argument);
    beat.latency_ms.reset();
    beat.node_id = node_name(1);
    for (const auto& [signed_ms, taken] :
         std::vector<std::pair<std::int64_t, bool>>{{1'000, true},
                                                    {1'000, false},
                                                    {999, false},
                                                    {0, true},
                                                    {1'000, false},
                                                    {1'001, true}}) {
      CAPTURE(signed_ms);
      beat.signed_ms = signed_ms;
      const Result<void> beaten = registry.heartbeat(beat);
      CHECK(bool(beaten) == taken);
      if (!taken) CHECK(beaten.error().code == Errc::ledger_conflict);
    }
    node.signed_ms = 1'001;
    CHECK(registry.register_node(node).error().code == Errc::ledger_conflict);
    node.signed_ms = 1'002;
    CHECK(registry.register_node(node));
    CHECK(registry.register_node(node).error().code == Errc::ledger_conflict);
    world.clock.advance(std::chrono::hours(7 * 24));
    CHECK(*registry.forget_strangers() == 0);
    ledger::NodeRegistration stranger;
    stranger.node_id = node_name(9);
    stranger.model = node.model;
    REQUIRE(registry.register_node(stranger));
    ContributionLedger book(world.store);
    const auto session = book.begin_session(start_of("earned"));
    REQUIRE(session);
    WorkLog log;
    log.add_output(std::vector<WorkHop>{{node_name(1), {0, 4}}}, 5);
    REQUIRE(book.finalize_session({session->session_id, SessionStatus::completed, "", log}));
    world.clock.advance(std::chrono::hours(7 * 24) + std::chrono::seconds(1));
    CHECK(*registry.forget_strangers() == 1);  // the one that earned stays
    CHECK(registry.stats()->total_nodes == 1);
    node.signed_ms = 1'003;
    node.model->layers = {0, 33};
    CHECK(registry.register_node(node).error().code == Errc::invalid_argument);
    check_audit(world.store);
  }
}

}  // namespace farmesh::test
