// Unpaid work into batches, and batches to the end of their life, on both back ends.
#include <set>
#include <thread>

#include <doctest/doctest.h>

#include "ledger/node_registry.hpp"
#include "ledger/payment_batches.hpp"
#include "unit/ledger/ledgers.hpp"

namespace farmesh::test {
namespace {

using ledger::BatchStatus;
using ledger::ClaimOptions;
using ledger::NodeRegistry;
using ledger::PaymentBatches;

template <class World>
void register_three(World& world) {
  NodeRegistry registry(world.store);
  for (int i = 1; i <= 3; ++i) {
    ledger::NodeRegistration node;
    node.node_id = node_name(i);
    node.wallet = wallet_name(i);
    REQUIRE(registry.register_node(node));
  }
}

template <class World>
void serve(World& world, int sessions, std::uint32_t tokens, const std::string& prefix = "r") {
  ContributionLedger book(world.store);
  for (int i = 0; i < sessions; ++i) {
    const auto opened = book.begin_session(start_of(prefix + std::to_string(i)));
    REQUIRE(opened);
    const auto ended =
        book.finalize_session({opened->session_id, SessionStatus::completed, "", log_of(tokens)});
    REQUIRE_MESSAGE(ended, ended.error().to_string());
  }
}

template <class World>
ClaimOptions claim_all(const World& world, const char* minimum = "0.00000001") {
  ClaimOptions options;
  options.minimum = far(minimum);
  options.payable_before = world.clock.now();
  return options;
}

const std::string kHash = "0x" + std::string(64, 'a');
const std::string kOther = "0x" + std::string(64, 'b');

}  // namespace

TEST_SUITE("ledger/payments") {
  TEST_CASE_TEMPLATE("unpaid work is claimed once, paid once", Backend, OnSqlite, OnPostgres) {
    World<Backend> world;
    FARMESH_SKIP_WITHOUT(world);
    register_three(world);
    serve(world, 2, 512);
    PaymentBatches payments(world.store);
    const auto claimed = payments.claim(claim_all(world));
    REQUIRE_MESSAGE(claimed, claimed.error().to_string());
    REQUIRE(*claimed);
    const std::string id = (*claimed)->id;
    CHECK((*claimed)->total == far("0.1024"));
    REQUIRE((*claimed)->items.size() == 3);
    CHECK((*claimed)->items[0].wallet == wallet_name(1));
    CHECK((*claimed)->items[0].amount == far("0.0352"));
    CHECK_FALSE(*payments.claim(claim_all(world)));
    CHECK(payments.open_batches()->size() == 1);

    CHECK(payments.confirm(id, {kHash, 1, 2, "3"}).error().code == Errc::ledger_conflict);
    REQUIRE(payments.submit(id, kHash));
    REQUIRE(payments.submit(id, kHash));
    REQUIRE(payments.fail(id, "the fee was too low"));
    REQUIRE(payments.submit(id, kOther));
    REQUIRE(payments.confirm(id, {kOther, 17, 21'000, "3.5"}));
    REQUIRE(payments.confirm(id, {kOther, 17, 21'000, "3.5"}));
    CHECK(payments.submit(id, kHash).error().code == Errc::ledger_conflict);
    CHECK(payments.fail(id, "no").error().code == Errc::ledger_conflict);
    CHECK(payments.batch(id)->status == BatchStatus::confirmed);
    CHECK(payments.open_batches()->empty());

    const auto session = ContributionLedger(world.store).session_of_request("r0");
    REQUIRE(session);
    for (const Contribution& contribution : session->contributions) {
      CHECK(contribution.payment_tx_hash == kOther);
      CHECK(contribution.paid_at == world.clock.now());
      CHECK(contribution.batch_id == id);
    }
    const auto earned = NodeRegistry(world.store).earnings(wallet_name(1));
    REQUIRE_MESSAGE(earned, earned.error().to_string());
    CHECK(earned->total == far("0.0352"));
    CHECK(earned->pending.is_zero());
    CHECK(earned->tokens == 352);
    REQUIRE(earned->history.size() == 1);
    CHECK(earned->history[0].date == "2026-11-23");
    check_audit(world.store);
  }

  TEST_CASE_TEMPLATE("dust waits, and so does work that is too young", Backend, OnSqlite,
                     OnPostgres) {
    World<Backend> world;
    FARMESH_SKIP_WITHOUT(world);
    register_three(world);
    serve(world, 1, 512);
    PaymentBatches payments(world.store);
    ClaimOptions early = claim_all(world);
    early.payable_before -= std::chrono::hours(1);
    CHECK_FALSE(*payments.claim(early));
    const auto claimed = payments.claim(claim_all(world, "0.017"));
    REQUIRE(claimed);
    REQUIRE(*claimed);
    CHECK((*claimed)->items.size() == 2);  // 0.0176 each; 0.0160 rolls over
    serve(world, 1, 512, "later");
    const auto next = payments.claim(claim_all(world, "0.032"));
    REQUIRE(next);
    REQUIRE(*next);
    REQUIRE((*next)->items.size() == 1);
    CHECK((*next)->items[0].amount == far("0.0320"));
    check_audit(world.store);
  }

  TEST_CASE_TEMPLATE("amounts whose sum no amount can hold are no session, and several batches",
                     Backend, OnSqlite, OnPostgres) {
    World<Backend> world;
    FARMESH_SKIP_WITHOUT(world);
    register_three(world);
    ContributionLedger book(world.store);
    const auto serve_at = [&](const std::string& request, std::int64_t units) {
      SessionStart start = start_of(request);
      start.price_per_token = Far::from_units(units);
      const auto opened = book.begin_session(start);
      REQUIRE(opened);
      return book.finalize_session({opened->session_id, SessionStatus::completed, "", log_of(3)});
    };
    constexpr std::int64_t kMost = 3'000'000'000'000'000'000;
    CHECK(serve_at("too much", kMost + kMost / 10).error().code == Errc::amount_invalid);
    REQUIRE(serve_at("one", kMost));
    REQUIRE(serve_at("two", kMost));
    PaymentBatches payments(world.store);
    std::set<std::string> paid;
    for (int i = 0; i < 3; ++i) {
      const auto claimed = payments.claim(claim_all(world));
      REQUIRE_MESSAGE(claimed, claimed.error().to_string());
      REQUIRE(*claimed);
      REQUIRE((*claimed)->items.size() == 1);
      CHECK((*claimed)->total == Far::from_units(2 * kMost));
      paid.insert((*claimed)->items[0].wallet);
    }
    CHECK(paid.size() == 3);
    CHECK_FALSE(*payments.claim(claim_all(world)));
  }

  TEST_CASE_TEMPLATE("work of a node without a wallet waits until it has one", Backend, OnSqlite,
                     OnPostgres) {
    World<Backend> world;
    FARMESH_SKIP_WITHOUT(world);
    serve(world, 1, 512);
    PaymentBatches payments(world.store);
    CHECK_FALSE(*payments.claim(claim_all(world)));
    register_three(world);
    const auto claimed = payments.claim(claim_all(world));
    REQUIRE(claimed);
    REQUIRE(*claimed);
    CHECK((*claimed)->total == far("0.0512"));
    check_audit(world.store);
  }

  TEST_CASE_TEMPLATE("one wallet that cannot receive never blocks the rest", Backend, OnSqlite,
                     OnPostgres) {
    World<Backend> world;
    FARMESH_SKIP_WITHOUT(world);
    register_three(world);
    serve(world, 1, 512);
    PaymentBatches payments(world.store);
    const std::string id = (*payments.claim(claim_all(world)))->id;
    REQUIRE(payments.hold(id, wallet_name(2), "the token refuses it"));
    REQUIRE(payments.hold(id, wallet_name(2), "the token refuses it"));
    CHECK(payments.hold(id, wallet_name(77), "x").error().code == Errc::not_found);
    CHECK(payments.batch(id)->total == far("0.0336"));
    REQUIRE(payments.submit(id, kHash));
    CHECK(payments.hold(id, wallet_name(1), "x").error().code == Errc::ledger_conflict);
    REQUIRE(payments.confirm(id, {kHash, 1, 1, ""}));
    check_audit(world.store);
    CHECK_FALSE(*payments.claim(claim_all(world)));
    REQUIRE(payments.held());
    REQUIRE(payments.held()->size() == 1);
    REQUIRE(payments.release(id, wallet_name(2)));
    const auto next = payments.claim(claim_all(world));
    REQUIRE_MESSAGE(next, next.error().to_string());
    REQUIRE(*next);
    CHECK((*next)->total == far("0.0176"));
    CHECK((*next)->items[0].origin_batch == id);
    REQUIRE(payments.submit((*next)->id, kOther));
    REQUIRE(payments.confirm((*next)->id, {kOther, 2, 1, ""}));
    const auto session = ContributionLedger(world.store).session_of_request("r0");
    CHECK(session->contributions[1].payment_tx_hash == kOther);
    CHECK(session->contributions[0].payment_tx_hash == kHash);
    check_audit(world.store);
  }

  TEST_CASE_TEMPLATE("payers that claim at once never share a contribution", Backend, OnSqlite,
                     OnPostgres) {
    World<Backend> world;
    FARMESH_SKIP_WITHOUT(world);
    register_three(world);
    serve(world, 20, 100);
    const auto rival = world.open();
    REQUIRE(rival);
    std::vector<ledger::PaymentBatch> batches[2];
    const auto claim = [&](int which, std::shared_ptr<ledger::Store> store) {
      ClaimOptions options = claim_all(world);
      options.max_wallets = 1;
      PaymentBatches payments(std::move(store));
      while (auto claimed = payments.claim(options)) {
        if (!*claimed) break;
        batches[which].push_back(**claimed);
      }
    };
    std::thread other([&] { claim(1, *rival); });
    claim(0, world.store);
    other.join();
    std::int64_t total = 0;
    for (const auto& list : batches) {
      for (const auto& batch : list) total += batch.total.units();
    }
    CHECK(batches[0].size() + batches[1].size() == 3);
    CHECK(Far::from_units(total) == far("0.2"));
    check_audit(world.store);
  }
}

}  // namespace farmesh::test
