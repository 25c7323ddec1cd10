// Sessions from their start to their shares, on both back ends.
#include <cmath>
#include <thread>

#include <doctest/doctest.h>

#include "ledger/credits.hpp"
#include "unit/ledger/ledgers.hpp"

namespace farmesh::test {
namespace {

using ledger::Credits;
using ledger::Database;

std::string begin(ContributionLedger& book, const SessionStart& start) {
  const auto opened = book.begin_session(start);
  REQUIRE_MESSAGE(opened, opened.error().to_string());
  return opened->session_id;
}

std::int64_t count(World<OnSqlite>& world, std::string_view sql) {
  return *world.store->transact([&](Database& db) -> Result<std::int64_t> {
    const auto row = db.query_one<std::int64_t>(sql);
    return row ? std::get<0>(**row) : Result<std::int64_t>(row.error());
  });
}

}  // namespace

TEST_SUITE("ledger/sessions") {
  TEST_CASE_TEMPLATE("the published example becomes exactly these rows", Backend, OnSqlite,
                     OnPostgres) {
    World<Backend> world;
    FARMESH_SKIP_WITHOUT(world);
    ContributionLedger book(world.store);
    SessionStart start = start_of("published");
    start.split = SplitPolicy::equal;
    const std::string id = begin(book, start);
    const auto ended = book.finalize_session({id, SessionStatus::completed, "", log_of(512)});
    REQUIRE_MESSAGE(ended, ended.error().to_string());
    CHECK(ended->total_cost.to_string() == "0.0512");

    const auto stored = book.session(id);
    REQUIRE_MESSAGE(stored, stored.error().to_string());
    CHECK(stored->status == SessionStatus::completed);
    CHECK(stored->tokens_generated == 512);
    CHECK(stored->total_cost.to_string() == "0.0512");
    CHECK(stored->ended_at.has_value());
    REQUIRE(stored->contributions.size() == 3);
    CHECK(stored->contributions[0].payment.to_string(4) == "0.0170");
    CHECK(stored->contributions[1].payment.to_string(4) == "0.0171");
    CHECK(stored->contributions[2].payment.to_string(4) == "0.0171");
    CHECK(stored->contributions[2].layers.front() == 22);
    CHECK(stored->contributions[2].layers.size() == 10);
    CHECK(book.session_of_request("published")->session_id == id);
    check_audit(world.store);
  }

  TEST_CASE_TEMPLATE("beginning twice is beginning once; another body is a conflict", Backend,
                     OnSqlite, OnPostgres) {
    World<Backend> world;
    FARMESH_SKIP_WITHOUT(world);
    ContributionLedger book(world.store);
    const auto first = book.begin_session(start_of("r"));
    REQUIRE(first);
    CHECK(first->is_new);
    const auto second = book.begin_session(start_of("r"));
    REQUIRE(second);
    CHECK_FALSE(second->is_new);
    CHECK(second->session_id == first->session_id);
    SessionStart other = start_of("r");
    other.body_digest = "another";
    const auto third = book.begin_session(other);
    REQUIRE_FALSE(third);
    CHECK(third.error().code == Errc::ledger_conflict);
  }

  TEST_CASE_TEMPLATE("ending twice is ending once; another end is a conflict", Backend, OnSqlite,
                     OnPostgres) {
    World<Backend> world;
    FARMESH_SKIP_WITHOUT(world);
    ContributionLedger book(world.store);
    const std::string id = begin(book, start_of("r"));
    const SessionOutcome outcome{id, SessionStatus::completed, "", log_of(100, 7)};
    const auto first = book.finalize_session(outcome);
    const auto second = book.finalize_session(outcome);
    REQUIRE(first);
    REQUIRE(second);
    CHECK(second->total_cost == first->total_cost);
    CHECK(second->contributions.size() == 3);
    const auto other = book.finalize_session({id, SessionStatus::completed, "", log_of(101, 7)});
    REQUIRE_FALSE(other);
    CHECK(other.error().code == Errc::ledger_conflict);
    const auto unknown = book.finalize_session(
        {"00000000-0000-4000-8000-000000000000", SessionStatus::completed, "", log_of(1)});
    REQUIRE_FALSE(unknown);
    CHECK(unknown.error().code == Errc::not_found);
    CHECK(book.session("no uuid").error().code == Errc::not_found);
    check_audit(world.store);
  }

  TEST_CASE_TEMPLATE("one bad element of a batch fails alone", Backend, OnSqlite, OnPostgres) {
    World<Backend> world;
    FARMESH_SKIP_WITHOUT(world);
    ContributionLedger book(world.store);
    std::vector<SessionStart> starts = {start_of("a"), start_of(""), start_of("c")};
    const auto opened = book.begin_sessions(starts);
    REQUIRE(opened);
    CHECK((*opened)[0]);
    CHECK_FALSE((*opened)[1]);
    REQUIRE((*opened)[2]);
    std::vector<SessionOutcome> outcomes = {
        {(*opened)[0]->session_id, SessionStatus::active, "", log_of(5)},
        {(*opened)[2]->session_id, SessionStatus::completed, "", log_of(5)}};
    const auto ended = book.finalize_sessions(outcomes);
    REQUIRE(ended);
    CHECK((*ended)[0].error().code == Errc::invalid_argument);
    CHECK((*ended)[1]);
    check_audit(world.store);
  }

  TEST_CASE_TEMPLATE("the price at the start holds; prompts have their own", Backend, OnSqlite,
                     OnPostgres) {
    World<Backend> world;
    FARMESH_SKIP_WITHOUT(world);
    ContributionLedger book(world.store);
    SessionStart start = start_of("r");
    start.price_per_prompt_token = far("0.00001");
    start.platform_fee_bps = 1'000;
    const std::string id = begin(book, start);
    const auto ended = book.finalize_session({id, SessionStatus::completed, "", log_of(10, 100)});
    REQUIRE(ended);
    CHECK(ended->total_cost.to_string() == "0.002");
    CHECK(ended->platform_fee.to_string() == "0.0002");
    CHECK(book.session(id)->platform_fee.to_string() == "0.0002");
    check_audit(world.store);
  }

  TEST_CASE_TEMPLATE("a session that its coordinator lost is paid by its last checkpoint", Backend,
                     OnSqlite, OnPostgres) {
    World<Backend> world;
    FARMESH_SKIP_WITHOUT(world);
    ContributionLedger book(world.store);
    const std::string lost = begin(book, start_of("lost"));
    SessionStart elsewhere = start_of("elsewhere");
    elsewhere.coordinator = "two";
    const std::string alive = begin(book, elsewhere);
    const std::vector<SessionProgress> progress = {{lost, log_of(40)}, {alive, log_of(3)}};
    REQUIRE(book.checkpoint(progress));
    const auto closed = book.close_abandoned({"one"});
    REQUIRE_MESSAGE(closed, closed.error().to_string());
    REQUIRE(closed->size() == 1);
    CHECK((*closed)[0].session_id == lost);
    CHECK((*closed)[0].status == SessionStatus::failed);
    CHECK((*closed)[0].total_cost.to_string() == "0.004");
    CHECK(book.session(alive)->status == SessionStatus::active);
    CHECK(book.close_abandoned({"one"})->empty());
    // Too late: neither a checkpoint nor another end changes it.
    REQUIRE(book.checkpoint(progress));
    CHECK_FALSE(book.finalize_session({lost, SessionStatus::completed, "", log_of(50)}));

    Abandoned silent;
    silent.silent_since = world.clock.now() - std::chrono::minutes(5);
    CHECK(book.close_abandoned(silent)->empty());
    world.clock.advance(std::chrono::minutes(6));
    silent.silent_since = world.clock.now() - std::chrono::minutes(5);
    CHECK(book.close_abandoned(silent)->size() == 1);
    check_audit(world.store);
  }

  TEST_CASE_TEMPLATE("credit is reserved before, settled once, and never negative", Backend,
                     OnSqlite, OnPostgres) {
    World<Backend> world;
    FARMESH_SKIP_WITHOUT(world);
    ContributionLedger book(world.store);
    Credits credits(world.store);
    const std::string user = wallet_name(900);
    CHECK(credits.account(user)->balance.is_zero());
    CHECK(credits.reserve(user, "r", far("0.01")).error().code == Errc::insufficient_credit);
    REQUIRE(credits.deposit(user, far("1"), "tx 1"));
    REQUIRE(credits.deposit(user, far("1"), "tx 1"));
    CHECK(credits.deposit(user, far("2"), "tx 1").error().code == Errc::ledger_conflict);
    REQUIRE(credits.reserve(user, "r", far("0.6")));
    REQUIRE(credits.reserve(user, "r", far("0.6")));
    CHECK(credits.account(user)->reserved == far("0.6"));
    CHECK(credits.reserve(user, "s", far("0.6")).error().code == Errc::insufficient_credit);
    CHECK(credits.withdraw(user, far("0.5"), "w").error().code == Errc::insufficient_credit);
    REQUIRE(credits.reserve(user, "unused", far("0.4")));
    REQUIRE(credits.release("unused"));
    REQUIRE(credits.release("unused"));

    const std::string id = begin(book, start_of("r"));
    REQUIRE(book.finalize_session({id, SessionStatus::completed, "", log_of(100)}));
    REQUIRE(book.finalize_session({id, SessionStatus::completed, "", log_of(100)}));
    CHECK(credits.account(user)->balance == far("0.99"));
    CHECK(credits.account(user)->reserved.is_zero());
    REQUIRE(credits.withdraw(user, far("0.99"), "w2"));
    CHECK(credits.account(user)->balance.is_zero());
    check_audit(world.store);
  }

  TEST_CASE_TEMPLATE("a cost beyond the account's credit is charged as far as it goes", Backend,
                     OnSqlite, OnPostgres) {
    World<Backend> world;
    FARMESH_SKIP_WITHOUT(world);
    ContributionLedger book(world.store);
    Credits credits(world.store);
    REQUIRE(credits.deposit(wallet_name(900), far("0.005"), "tx"));
    REQUIRE(credits.reserve(wallet_name(900), "r", far("0.005")));
    const std::string id = begin(book, start_of("r"));
    const auto ended = book.finalize_session({id, SessionStatus::completed, "", log_of(100)});
    REQUIRE(ended);
    CHECK(ended->uncollected == far("0.005"));
    CHECK(credits.account(wallet_name(900))->balance.is_zero());
    check_audit(world.store);
  }

  TEST_CASE_TEMPLATE("SQL in every text is only text", Backend, OnSqlite, OnPostgres) {
    World<Backend> world;
    FARMESH_SKIP_WITHOUT(world);
    ContributionLedger book(world.store);
    const std::string attack = "'); DROP TABLE far_nodes; --";
    SessionStart start = start_of(attack);
    start.user_wallet = start.model_id = start.body_digest = start.coordinator = attack;
    start.prompt_text = attack + "\n?1 {payment_far} $1";
    const std::string id = begin(book, start);
    REQUIRE(book.finalize_session({id, SessionStatus::failed, attack, log_of(1)}));
    const auto stored = book.session_of_request(attack);
    REQUIRE(stored);
    CHECK(stored->user_wallet == attack);
    CHECK(stored->error_message == attack);
    check_audit(world.store);
  }

  TEST_CASE_TEMPLATE("text beyond its bounds is refused", Backend, OnSqlite, OnPostgres) {
    World<Backend> world;
    FARMESH_SKIP_WITHOUT(world);
    ContributionLedger book(world.store);
    const auto refuses = [&](auto change) {
      SessionStart start = start_of("r");
      change(start);
      const auto opened = book.begin_session(start);
      return !opened && (opened.error().code == Errc::invalid_argument ||
                         opened.error().code == Errc::amount_invalid);
    };
    CHECK(refuses([](SessionStart& s) { s.request_id = std::string(256, 'a'); }));
    CHECK(refuses([](SessionStart& s) { s.request_id = std::string("a\0b", 3); }));
    CHECK(refuses([](SessionStart& s) { s.request_id = "\xff\xfe"; }));
    CHECK(refuses([](SessionStart& s) { s.user_wallet = std::string(43, 'x'); }));
    CHECK(refuses([](SessionStart& s) { s.model_id = ""; }));
    CHECK(refuses([](SessionStart& s) { s.prompt_text = std::string("a\0b", 3); }));
    CHECK(refuses([](SessionStart& s) { s.prompt_text.assign((1u << 20) + 1, 'a'); }));
    CHECK(refuses([](SessionStart& s) { s.temperature = std::nan(""); }));
    CHECK(refuses([](SessionStart& s) { s.price_per_token = far("-1"); }));
    CHECK(refuses([](SessionStart& s) { s.platform_fee_bps = 10'001; }));
    CHECK_FALSE(refuses([](SessionStart& s) { s.prompt_text = "two\nlines\tof \xe2\x82\xac"; }));
  }

  TEST_CASE_TEMPLATE("threads and connections end the same sessions at once, once each", Backend,
                     OnSqlite, OnPostgres) {
    World<Backend> world;
    FARMESH_SKIP_WITHOUT(world);
    const auto rival = world.open();
    REQUIRE(rival);
    ContributionLedger here(world.store), there(*rival);
    std::vector<SessionOutcome> outcomes;
    for (int i = 0; i < 20; ++i) {
      const std::string id = begin(here, start_of("r" + std::to_string(i)));
      outcomes.push_back({id, SessionStatus::completed, "", log_of(10 + static_cast<unsigned>(i))});
    }
    int failures = 0;
    std::thread other([&] {
      for (auto outcome = outcomes.rbegin(); outcome != outcomes.rend(); ++outcome) {
        failures += there.finalize_session(*outcome) ? 0 : 1;
      }
    });
    for (const SessionOutcome& outcome : outcomes) CHECK(here.finalize_session(outcome));
    other.join();
    CHECK(failures == 0);
    check_audit(world.store);
  }

  TEST_CASE("a tampered row is found by the audit") {
    World<OnSqlite> world;
    ContributionLedger book(world.store);
    const std::string id = begin(book, start_of("r"));
    REQUIRE(book.finalize_session({id, SessionStatus::completed, "", log_of(512)}));
    const auto tamper = [&](const char* sql) {
      return world.store->transact([&](Database& db) { return db.script(sql); });
    };
    // The rows defend themselves…
    CHECK_FALSE(tamper("UPDATE far_session_contributions SET payment_far_units = 1"));
    CHECK_FALSE(tamper("DELETE FROM far_session_contributions"));
    CHECK_FALSE(tamper("DELETE FROM far_mesh_sessions"));
    // …and whoever takes the guard away is seen.
    REQUIRE(
        tamper("DROP TRIGGER far_guard_contribution; UPDATE far_session_contributions SET "
               "payment_far_units = payment_far_units + 1 WHERE id = 1"));
    const auto report = book.audit();
    REQUIRE(report);
    CHECK(report->findings.size() == 2);  // the share, and its node's total
    CHECK(count(world, "SELECT count(*) FROM far_session_contributions") == 3);
  }
}

}  // namespace farmesh::test
