// Sessions of a coordinator that is gone: what is owed for them, by what their nodes can prove.
#include "gateway/closing.hpp"

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "gateway/resumption.hpp"
#include "gateway/services.hpp"
#include "ledger/checks.hpp"
#include "ledger/receipts.hpp"
#include "unit/gateway/scripted_model.hpp"

namespace farmesh::test {
namespace {

using namespace std::chrono_literals;
using gateway::Closing;
using identity::NodeKey;

/// A coordinator that finds the session of another, and the two nodes that served it.
struct Left {
  World world;
  NodeKey nodes[2] = {NodeKey::generate(), NodeKey::generate()};
  Span spans[2] = {{0, 2}, {2, 4}};
  NodeKey driver = NodeKey::generate();
  std::uint64_t claims[2] = {0, 0};  // output tokens that each node will tell
  std::uint64_t prefill = 0;         // and prompt tokens
  bool answer = true;
  int asked = 0;
  std::uint32_t sequence = 0;
  ContributionLedger book{world.store};

  Left() {
    world.model->on_ask = [this](const std::shared_ptr<driver::Bill>& bill) { tell(*bill); };
  }

  static SessionStart stream() {
    SessionStart start;
    start.streamed = true;
    return start;
  }
  std::string begin(const std::string& request_id, std::uint32_t saved,
                    SessionStart start = stream()) {
    start.request_id = request_id;
    start.user_wallet = "public";
    start.model_id = "org/model";
    start.max_tokens = 100;
    start.price_per_token = Far::from_units(10'000);
    start.coordinator = "gone";
    const std::string id = book.begin_session(start)->session_id;
    const SessionProgress progress{id, log(saved)};
    REQUIRE(book.checkpoint({&progress, 1}));
    return id;
  }
  WorkLog log(std::uint32_t tokens) const {
    WorkLog log;
    log.add_output(std::vector<WorkHop>{{to_string(nodes[0].id()), spans[0]},
                                        {to_string(nodes[1].id()), spans[1]}},
                   tokens);
    return log;
  }

  void tell(driver::Bill& bill) {
    ++asked;
    if (!answer) return;
    ++sequence;
    for (int i = 0; i < 2; ++i) {
      wire::Receipt receipt;
      receipt.account = bill.account();
      receipt.node_id = nodes[i].id();
      receipt.span = spans[i];
      receipt.counts.decode = claims[i];
      receipt.counts.prefill = prefill;
      receipt.final = true;
      receipt.sequence = sequence;
      (void)bill.take(nodes[i].id(), ledger::sign(receipt, nodes[i]), driver);
    }
  }

  SessionRecord close(const std::string& id, std::optional<std::uint64_t> told = std::nullopt,
                      std::chrono::milliseconds patience = Closing::kPatience) {
    Closing closing(world.coordinator->services(), patience);
    auto found = book.find_abandoned({.session_id = id});
    REQUIRE(found);
    for (AbandonedSession& session : *found) closing.add(std::move(session), told);
    closing.finish();
    world.coordinator->services().metering.collect();
    const auto ended = book.session(id);
    REQUIRE(ended);
    CHECK(ended->status == SessionStatus::failed);
    const auto audit = book.audit();
    REQUIRE(audit);
    CHECK(audit->findings.empty());
    return *ended;
  }
  std::vector<ledger::StoredReceipt> receipts(const std::string& id) {
    return *ledger::Receipts(world.store).of_session(id);
  }
};

}  // namespace

TEST_SUITE("gateway/closing") {
  TEST_CASE("a stream is paid as far as every node has seen it go on, and nothing is disputed") {
    Left left;
    const std::string id = left.begin("r", 4);
    left.claims[0] = 10;  // the last step had not come through yet
    left.claims[1] = 9;
    const SessionRecord ended = left.close(id);
    CHECK(ended.tokens_generated == 9);
    CHECK(ended.total_cost == *Far::parse("0.0009"));
    REQUIRE(ended.contributions.size() == 2);
    CHECK(ended.contributions[0].tokens + ended.contributions[1].tokens == 9);
    CHECK(left.book.open_disputes()->empty());
    const auto receipts = left.receipts(id);
    REQUIRE(receipts.size() == 2);
    for (const auto& stored : receipts) CHECK(stored.driver_key.has_value());
    CHECK(left.book.find_abandoned({})->empty());
  }

  TEST_CASE("one node's word alone proves nothing, and is disputed") {
    Left left;
    const std::string id = left.begin("r", 4);
    left.claims[0] = 100'000;
    left.claims[1] = 6;
    CHECK(left.close(id).tokens_generated == 6);
    const auto disputes = left.book.open_disputes();
    REQUIRE(disputes->size() == 1);
    CHECK(disputes->front().node_id == to_string(left.nodes[0].id()));
    CHECK(disputes->front().logged_tokens == 6);
  }

  TEST_CASE("a client that is here owes what it has") {
    Left left;
    const std::string id = left.begin("r", 4);
    left.claims[0] = left.claims[1] = 9;
    CHECK(left.close(id, 6).tokens_generated == 6);
    CHECK(left.book.open_disputes()->empty());
    const std::string other = left.begin("s", 4);
    CHECK(left.close(other, 2).tokens_generated == 4);  // as it was saved
  }

  TEST_CASE("nodes that do not answer leave what was saved") {
    Left left;
    left.answer = false;
    const std::string id = left.begin("r", 4);
    CHECK(left.close(id, std::nullopt, 300ms).tokens_generated == 4);
    CHECK(left.asked >= 2);  // for a proof, and for receipts behind the end
  }

  TEST_CASE("a whole answer that never went out is owed by nobody") {
    Left left;
    left.claims[0] = left.claims[1] = 50;
    const std::string id = left.begin("r", 0, {});
    CHECK(left.close(id).tokens_generated == 0);
    CHECK(left.asked == 0);
  }

  TEST_CASE(
      "a stream of which nothing was saved yet is paid by what its nodes prove, prompt and all") {
    Left left;
    left.claims[0] = left.claims[1] = 5;
    left.prefill = 7;
    const std::string id = left.begin("r", 0);
    const SessionRecord ended = left.close(id);
    CHECK(ended.tokens_generated == 5);
    CHECK(ended.prompt_tokens == 7);
    CHECK(left.receipts(id).size() == 2);
    CHECK(left.book.open_disputes()->empty());
  }

  TEST_CASE("of a stream that goes on nothing is owed twice, and the rest is") {
    for (const std::uint32_t saved : {0u, 4u}) {
      CAPTURE(saved);
      Left left;
      left.claims[0] = left.claims[1] = 50;
      left.prefill = 7;
      SessionStart start = Left::stream();
      start.repeated_tokens = 20;
      start.prompt_charged = true;
      const std::string id = left.begin(gateway::session_request_id("r", 1), saved, start);
      const SessionRecord ended = left.close(id);
      CHECK(ended.tokens_generated == 30);
      CHECK(ended.prompt_tokens == 0);
    }
  }

  TEST_CASE("receipts that a restart asks for once more may tell what was done again") {
    for (const bool resumed : {true, false}) {
      CAPTURE(resumed);
      Left left;
      left.claims[0] = left.claims[1] = 50;
      left.prefill = 7;
      SessionStart start = Left::stream();
      start.repeated_tokens = resumed ? 20 : 0;
      start.prompt_charged = resumed;
      const std::string id = left.begin(gateway::session_request_id("r", 1), 30, start);
      REQUIRE(left.book.close_abandoned({.session_id = id}));
      auto missing = ledger::Receipts(left.world.store).missing("gone", LedgerTime());
      REQUIRE(missing);
      REQUIRE(missing->size() == 1);
      Closing closing(left.world.coordinator->services());
      closing.hear(std::move(missing->front()));
      closing.finish();
      left.world.coordinator->services().metering.collect();
      CHECK(left.receipts(id).size() == 2);
      CHECK(left.book.open_disputes()->size() == (resumed ? 0 : 2));
      CHECK(left.book.session(id)->tokens_generated == 30);
    }
  }

  TEST_CASE("a session that another ended meanwhile stays as it is") {
    Left left;
    const std::string id = left.begin("r", 4);
    left.claims[0] = left.claims[1] = 9;
    auto found = left.book.find_abandoned({.session_id = id});
    REQUIRE(found);
    REQUIRE(left.book.finalize_session({id, SessionStatus::failed, "elsewhere", left.log(7)}));
    Closing closing(left.world.coordinator->services());
    closing.add(std::move(found->front()));
    closing.finish();
    CHECK(left.book.session(id)->tokens_generated == 7);
  }
}

}  // namespace farmesh::test
