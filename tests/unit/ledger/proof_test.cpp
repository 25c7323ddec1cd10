// What receipts add to a log whose driver is gone.
#include "ledger/proof.hpp"

#include <map>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "base/node_id.hpp"

namespace farmesh::ledger {
namespace {

NodeId node(std::uint8_t number) {
  NodeId id{};
  id[0] = number;
  return id;
}

WorkHop hop(std::uint8_t number, Span layers) { return {to_string(node(number)), layers}; }

wire::Receipt claim(std::uint8_t number, Span layers, std::uint64_t decode,
                    std::uint64_t prefill = 0) {
  wire::Receipt receipt;
  receipt.node_id = node(number);
  receipt.span = layers;
  receipt.sequence = 1;
  receipt.final = true;
  receipt.counts.decode = decode;
  receipt.counts.prefill = prefill;
  return receipt;
}

const std::vector<WorkHop> kRoute{hop(1, {0, 3}), hop(2, {3, 8})};
constexpr ProofTerms kTerms{8, 100, 50};

WorkLog saved(std::uint32_t tokens) {
  WorkLog log;
  log.add_prompt(kRoute, 5);
  log.add_output(kRoute, tokens);
  return log;
}

}  // namespace

TEST_SUITE("ledger/proof") {
  TEST_CASE("a token is proven that every stage has seen go on") {
    const std::vector<wire::Receipt> told{claim(1, {0, 3}, 47), claim(2, {3, 8}, 46)};
    const Proof proof = prove(saved(40), told, kTerms);
    CHECK(proof.complete);
    CHECK(proof.log == saved(46));
  }

  TEST_CASE("what was charged before and made again is nobody's twice") {
    const std::vector<wire::Receipt> told{claim(1, {0, 3}, 47, 9), claim(2, {3, 8}, 46, 9)};
    ProofTerms terms = kTerms;
    terms.repeated_tokens = 10;
    CHECK(prove({}, told, terms).log.output_tokens() == 36);
    CHECK(prove(saved(30), told, terms).log == saved(36));
    terms.repeated_tokens = 46;
    CHECK(prove({}, told, terms).log.output_tokens() == 0);
    CHECK(prove(saved(3), told, terms).log == saved(3));
  }

  TEST_CASE("a stage that is silent, or may say more, leaves the log as it was saved") {
    const std::vector<wire::Receipt> one{claim(1, {0, 3}, 47)};
    CHECK_FALSE(prove(saved(40), one, kTerms).complete);
    CHECK(prove(saved(40), one, kTerms).log == saved(40));
    std::vector<wire::Receipt> open{claim(1, {0, 3}, 47), claim(2, {3, 8}, 46)};
    open[1].final = false;
    CHECK_FALSE(prove(saved(40), open, kTerms).complete);
    open.push_back(claim(2, {3, 8}, 48));
    open.back().sequence = 2;
    CHECK(prove(saved(40), open, kTerms).log == saved(47));
  }

  TEST_CASE("nobody proves more than was ordered, nor less than was saved") {
    const std::vector<wire::Receipt> much{claim(1, {0, 3}, 1'000'000),
                                          claim(2, {3, 8}, 1ull << 60)};
    CHECK(prove(saved(40), much, kTerms).log == saved(100));
    CHECK(prove(saved(40), much, {8, 30, 50}).log == saved(40));
    const std::vector<wire::Receipt> little{claim(1, {0, 3}, 39), claim(2, {3, 8}, 46)};
    CHECK(prove(saved(40), little, kTerms).complete);
    CHECK(prove(saved(40), little, kTerms).log == saved(40));
  }

  TEST_CASE("the operator's own stages sign nothing and agree") {
    WorkLog log;
    log.add_output(std::vector<WorkHop>{{"", {0, 3}}, hop(2, {3, 8})}, 10);
    const std::vector<wire::Receipt> told{claim(2, {3, 8}, 12)};
    CHECK(prove(log, told, kTerms).complete);
    CHECK(prove(log, told, kTerms).log.output_tokens() == 12);
    WorkLog own;
    own.add_output(std::vector<WorkHop>{{"", {0, 8}}}, 10);
    CHECK(prove(own, {}, kTerms).complete);
    CHECK(prove(own, {}, kTerms).log == own);
  }

  TEST_CASE("after a failover the later route goes on, the earlier one has said all") {
    const std::vector<WorkHop> later{hop(1, {0, 3}), hop(3, {3, 8})};
    WorkLog log = saved(20);
    log.add_output(later, 10);
    const std::vector<wire::Receipt> told{claim(1, {0, 3}, 34), claim(2, {3, 8}, 20),
                                          claim(3, {3, 8}, 13)};
    const Proof proof = prove(log, told, kTerms);
    CHECK(proof.complete);
    WorkLog expected = saved(20);
    expected.add_output(later, 13);
    CHECK(proof.log == expected);
  }

  TEST_CASE("texts beside each other on routes of their own are both proven") {
    const std::vector<WorkHop> beside{hop(4, {0, 8})};
    WorkLog log = saved(20);
    log.add_output(beside, 10);
    const std::vector<wire::Receipt> told{claim(1, {0, 3}, 22), claim(2, {3, 8}, 22),
                                          claim(4, {0, 8}, 15)};
    CHECK(prove(log, told, kTerms).log.output_tokens() == 37);
  }

  TEST_CASE("of a session that nothing was saved of, receipts must be one route and no more") {
    const std::vector<wire::Receipt> told{claim(2, {3, 8}, 9, 7), claim(1, {0, 3}, 10, 6)};
    const Proof proof = prove({}, told, kTerms);
    CHECK(proof.complete);
    WorkLog expected;
    expected.add_prompt(kRoute, 6);
    expected.add_output(kRoute, 9);
    CHECK(proof.log == expected);
    CHECK(prove({}, told, {8, 100, 2}).log.prompt_tokens() == 2);
    const auto unproven = [](std::vector<wire::Receipt> receipts) {
      const Proof proof = prove({}, receipts, kTerms);
      return !proof.complete && proof.log == WorkLog();
    };
    CHECK(unproven({}));
    CHECK(unproven({claim(1, {0, 3}, 10)}));                                           // a hole
    CHECK(unproven({claim(1, {0, 4}, 10), claim(2, {3, 8}, 10)}));                     // overlap
    CHECK(unproven({claim(1, {0, 3}, 9), claim(2, {3, 8}, 9), claim(3, {3, 8}, 9)}));  // two ways
    CHECK(prove({}, std::vector{told[0], told[1], claim(3, {3, 8}, 0)}, kTerms).complete);
  }
}

}  // namespace farmesh::ledger
