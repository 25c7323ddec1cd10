// Grants and receipts: their bytes, their signatures, their rows, and disputes.
#include "ledger/receipts.hpp"

#include <random>

#include <doctest/doctest.h>

#include "ledger/checks.hpp"
#include "unit/ledger/ledgers.hpp"

namespace farmesh::test {
namespace {

using identity::NodeKey;
using ledger::CheckedReceipt;
using ledger::Database;
using ledger::Receipts;

wire::Receipt receipt_of(const std::string& session, const NodeKey& key, Span span,
                         std::uint32_t sequence, std::uint64_t decode) {
  wire::Receipt receipt;
  receipt.account = ledger::uuid_bytes(session);
  receipt.node_id = key.id();
  receipt.span = span;
  receipt.sequence = sequence;
  receipt.counts = {7, 3, decode, 2, 1, 4};
  receipt.made_ms = 1'795'000'000'000;
  return receipt;
}

CheckedReceipt checked(const wire::Receipt& receipt, const NodeKey& key) {
  const auto good = CheckedReceipt::check(ledger::sign(receipt, key));
  REQUIRE(good);
  return *good;
}

}  // namespace

TEST_SUITE("ledger/receipts") {
  TEST_CASE("grants and receipts keep every field; a changed byte is refused or unsigned") {
    const NodeKey key = NodeKey::generate();
    const std::string session = ledger::new_uuid();
    wire::Receipt receipt = receipt_of(session, key, {11, 22}, 5, 512);
    receipt.final = true;
    const auto bytes = wire::encode(ledger::sign(receipt, key));
    const auto back = wire::decode_signed_receipt(bytes);
    REQUIRE(back);
    CHECK(back->receipt == receipt);
    REQUIRE(CheckedReceipt::check(*back));
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      auto changed = bytes;
      changed[i] ^= 1;
      const auto decoded = wire::decode_signed_receipt(changed);
      CHECK_FALSE((decoded && CheckedReceipt::check(*decoded)));
    }

    wire::Grant grant;
    grant.account = receipt.account;
    grant.model_hash.bytes.fill(9);
    grant.price_per_token = far("0.0001");
    grant.token_limit = 512;
    grant.issued_ms = 1'000'000;
    grant.expires_ms = 2'000'000;
    const wire::SignedGrant sent{grant, key.public_key(), {}};
    const auto travelled = wire::decode_signed_grant(wire::encode(sent));
    REQUIRE(travelled);
    CHECK(travelled->grant == grant);
    CHECK(travelled->payer_key == key.public_key());
  }

  TEST_CASE("bytes of any kind never decode into something out of bounds") {
    std::mt19937 random(7);
    for (int i = 0; i < 20'000; ++i) {
      std::vector<std::uint8_t> bytes(i % 3 == 0 ? random() % 300 : wire::kReceiptBytes);
      for (auto& byte : bytes) byte = static_cast<std::uint8_t>(random() % 4);
      if (!bytes.empty()) bytes[0] = 1;
      const auto receipt = wire::decode_receipt(bytes);
      if (receipt) CHECK(receipt->span.end <= wire::kMaxLayers);
    }
    CHECK_FALSE(wire::decode_grant({}));
    CHECK_FALSE(wire::decode_signed_grant({}));
  }

  TEST_CASE("a question after receipts names whole sessions, and not too many") {
    const std::vector<wire::AccountId> two{{1, 2}, {3}};
    const auto bytes = wire::encode(two);
    CHECK(bytes.size() == 32);
    CHECK(*wire::decode_accounts(bytes) == two);
    CHECK_FALSE(wire::decode_accounts({}));
    CHECK_FALSE(wire::decode_accounts(std::span(bytes).first(31)));
    const std::vector<std::uint8_t> many((wire::kMaxAskedAccounts + 1) * sizeof(wire::AccountId));
    CHECK_FALSE(wire::decode_accounts(many));
  }

  TEST_CASE_TEMPLATE("a receipt is kept once, goes on from the last, and comes back whole", Backend,
                     OnSqlite, OnPostgres) {
    World<Backend> world;
    FARMESH_SKIP_WITHOUT(world);
    ContributionLedger book(world.store);
    Receipts receipts(world.store);
    const NodeKey key = NodeKey::generate(), driver = NodeKey::generate();
    const std::string session = book.begin_session(start_of("r"))->session_id;
    CheckedReceipt first = checked(receipt_of(session, key, {0, 32}, 1, 256), key);
    first.countersign(driver);
    const auto record = [&](const CheckedReceipt& receipt) {
      const auto answers = receipts.record({&receipt, 1});
      REQUIRE_MESSAGE(answers, answers.error().to_string());
      return answers->front();
    };
    CHECK(record(first));
    CHECK(record(first));
    CHECK(record(checked(receipt_of(session, key, {0, 32}, 2, 512), key)));
    CHECK(record(checked(receipt_of(session, key, {0, 32}, 2, 513), key)).error().code ==
          Errc::ledger_conflict);
    CHECK(record(checked(receipt_of(session, key, {0, 32}, 3, 500), key)).error().code ==
          Errc::receipt_invalid);
    CHECK(record(checked(receipt_of(ledger::new_uuid(), key, {0, 32}, 1, 1), key)).error().code ==
          Errc::not_found);
    const auto stored = receipts.of_session(session);
    REQUIRE(stored);
    REQUIRE(stored->size() == 2);
    CHECK((*stored)[0].receipt.receipt == first.receipt());
    CHECK((*stored)[0].driver_key == driver.public_key());
    check_audit(world.store);
    const auto tampered = world.store->transact(
        [](Database& db) { return db.script("UPDATE far_receipts SET decode_tokens = 1"); });
    CHECK_FALSE(tampered);
  }

  TEST_CASE_TEMPLATE("where receipt and log disagree the log pays, and a dispute stays open",
                     Backend, OnSqlite, OnPostgres) {
    World<Backend> world;
    FARMESH_SKIP_WITHOUT(world);
    ContributionLedger book(world.store);
    Receipts receipts(world.store);
    const NodeKey honest = NodeKey::generate(), greedy = NodeKey::generate();
    WorkLog log;
    log.add_output(
        std::vector<WorkHop>{{to_string(honest.id()), {0, 16}}, {to_string(greedy.id()), {16, 32}}},
        100);
    const std::string session = book.begin_session(start_of("r"))->session_id;
    const CheckedReceipt early[] = {checked(receipt_of(session, honest, {0, 16}, 1, 100), honest),
                                    checked(receipt_of(session, greedy, {16, 32}, 1, 900), greedy)};
    REQUIRE(receipts.record(early));
    const auto ended = book.finalize_session({session, SessionStatus::completed, "", log});
    REQUIRE_MESSAGE(ended, ended.error().to_string());
    CHECK(ended->contributions[1].tokens == 50);
    auto disputes = book.open_disputes();
    REQUIRE(disputes);
    REQUIRE(disputes->size() == 1);
    CHECK((*disputes)[0].node_id == to_string(greedy.id()));
    CHECK((*disputes)[0].claimed_tokens == 900);
    CHECK((*disputes)[0].logged_tokens == 100);
    CHECK((*disputes)[0].layers == Span{16, 32});
    // A receipt that comes late is compared as well.
    const CheckedReceipt late = checked(receipt_of(session, greedy, {16, 32}, 2, 901), greedy);
    REQUIRE(receipts.record({&late, 1}));
    CHECK(book.open_disputes()->size() == 2);
    REQUIRE(book.resolve_dispute((*disputes)[0].id, "the log stands"));
    REQUIRE(book.resolve_dispute((*disputes)[0].id, "again"));
    CHECK(book.open_disputes()->size() == 1);
    CHECK(book.resolve_dispute(12'345, "x").error().code == Errc::not_found);
    check_audit(world.store);
  }

  TEST_CASE_TEMPLATE(
      "an old receipt of a node that vanished, and one the driver countersigned, agree", Backend,
      OnSqlite, OnPostgres) {
    World<Backend> world;
    FARMESH_SKIP_WITHOUT(world);
    ContributionLedger book(world.store);
    Receipts receipts(world.store);
    const NodeKey gone = NodeKey::generate(), ahead = NodeKey::generate();
    const NodeKey modest = NodeKey::generate(), driver = NodeKey::generate();
    WorkLog log;  // cut to what was delivered: the driver had four tokens more
    log.add_output(std::vector<WorkHop>{{to_string(gone.id()), {0, 8}},
                                        {to_string(ahead.id()), {8, 16}},
                                        {to_string(modest.id()), {16, 24}}},
                   100);
    const std::string session = book.begin_session(start_of("r"))->session_id;
    wire::Receipt last = receipt_of(session, ahead, {8, 16}, 1, 104);
    last.final = true;
    wire::JudgedReceipt judged;
    judged.receipt = ledger::sign(last, ahead);
    CHECK_FALSE(CheckedReceipt::check(judged)->countersigned());
    judged.driver_key = driver.public_key();
    CHECK(CheckedReceipt::check(judged).error().code == Errc::receipt_invalid);
    const auto body = wire::encode(last);
    judged.driver_signature = driver.sign(wire::kCountersignDomain, std::as_bytes(std::span(body)));
    const auto agreed = CheckedReceipt::check(judged);
    REQUIRE(agreed);
    CHECK(agreed->countersigned());
    CheckedReceipt old = checked(receipt_of(session, gone, {0, 8}, 1, 60), gone);
    old.countersign(driver);
    const CheckedReceipt sent[] = {old, *agreed};
    REQUIRE(receipts.record(sent));
    REQUIRE(book.finalize_session({session, SessionStatus::completed, "", log}));
    CHECK(book.open_disputes()->empty());
    check_audit(world.store);
    // One that claims less than was paid is a disagreement as well.
    const CheckedReceipt late = checked(receipt_of(session, modest, {16, 24}, 1, 99), modest);
    REQUIRE(receipts.record({&late, 1}));
    REQUIRE(book.open_disputes()->size() == 1);
    CHECK(book.open_disputes()->front().claimed_tokens == 99);
    check_audit(world.store);
    REQUIRE(
        world.store->transact([](Database& db) { return db.script("DELETE FROM far_disputes"); }));
    const auto missing = book.audit();
    REQUIRE(missing);
    REQUIRE(missing->findings.size() == 1);
    CHECK(missing->findings.front().table == "far_disputes");
  }

  TEST_CASE_TEMPLATE("sessions whose coordinator did not live to hear their nodes are found",
                     Backend, OnSqlite, OnPostgres) {
    World<Backend> world;
    FARMESH_SKIP_WITHOUT(world);
    ContributionLedger book(world.store);
    Receipts receipts(world.store);
    const NodeKey first = NodeKey::generate(), second = NodeKey::generate();
    WorkLog log;
    log.add_output(
        std::vector<WorkHop>{
            {to_string(first.id()), {0, 16}}, {to_string(second.id()), {16, 24}}, {"", {24, 32}}},
        40);
    SessionStart elsewhere = start_of("elsewhere");
    elsewhere.coordinator = "two";
    std::vector<std::string> ids;
    SessionStart lost = start_of("lost");
    lost.repeated_tokens = 11;
    lost.prompt_charged = true;
    for (const SessionStart& start : {lost, start_of("ended"), elsewhere}) {
      ids.push_back(book.begin_session(start)->session_id);
      const SessionProgress progress{ids.back(), log};
      REQUIRE(book.checkpoint({&progress, 1}));
    }
    REQUIRE(book.finalize_session({ids[1], SessionStatus::failed, "timeout", log}));
    REQUIRE(book.close_abandoned({}));
    const LedgerTime start = world.clock.now();
    const auto missing = [&](LedgerTime since) {
      auto found = receipts.missing("one", since);
      REQUIRE_MESSAGE(found, found.error().to_string());
      return *std::move(found);
    };
    REQUIRE(missing(start).size() == 1);
    CHECK(missing(start)[0].session_id == ids[0]);
    CHECK(missing(start)[0].model_id == start_of("lost").model_id);
    CHECK(missing(start)[0].repeated_tokens == 11);
    CHECK(missing(start)[0].prompt_charged);
    CHECK(missing(start)[0].log == log);
    CHECK(missing(start + std::chrono::milliseconds(1)).empty());

    const CheckedReceipt told[] = {checked(receipt_of(ids[0], first, {0, 16}, 1, 40), first),
                                   checked(receipt_of(ids[0], second, {16, 24}, 1, 39), second)};
    REQUIRE(receipts.record(told));
    CHECK(missing(start).size() == 1);
    const CheckedReceipt all = checked(receipt_of(ids[0], second, {16, 24}, 2, 40), second);
    REQUIRE(receipts.record({&all, 1}));
    CHECK(missing(start).empty());
  }
}

}  // namespace farmesh::test
