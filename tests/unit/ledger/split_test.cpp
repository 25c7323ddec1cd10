// The split and what it pays: the published example, failover, and properties over random logs.
#include <algorithm>
#include <random>

#include <doctest/doctest.h>

#include "ledger/work_log.hpp"
#include "unit/ledger/ledgers.hpp"

namespace farmesh::ledger {
namespace {

using test::far;
using test::node_name;

Prices price(const char* per_token, SplitPolicy split, std::uint32_t fee_bps = 0) {
  return {far(per_token), Far(), fee_bps, split};
}

std::vector<std::string> payments(const Settlement& settlement) {
  std::vector<std::string> texts;
  for (const Payout& payout : settlement.payouts) texts.push_back(payout.payment.to_string(4));
  return texts;
}

WorkLog random_log(std::mt19937& random) {
  const auto below = [&random](std::uint32_t n) {
    return static_cast<std::uint32_t>(random() % n);
  };
  WorkLog log;
  for (std::uint32_t segments = below(6); segments > 0; --segments) {
    std::vector<WorkHop> route;
    std::uint32_t layer = 0;
    for (std::uint32_t hops = below(6); hops > 0; --hops) {
      const std::uint32_t end = layer + 1 + below(20);
      const int node = static_cast<int>(below(8));
      route.push_back({node == 0 ? "" : node_name(node), {layer, end}});
      layer = end;
    }
    if (!route.empty() && !route[0].node_id.empty() && below(2) == 0) route[0].head = true;
    log.add_output(route, 1 + below(1'000));
    log.add_prompt(route, below(100));
  }
  return log;
}

}  // namespace

TEST_SUITE("ledger/split") {
  TEST_CASE("the published example: 512 tokens, three equal nodes") {
    const auto settlement = settle(test::log_of(512), price("0.0001", SplitPolicy::equal));
    REQUIRE(settlement);
    CHECK(settlement->cost.to_string() == "0.0512");
    REQUIRE(settlement->payouts.size() == 3);
    CHECK(settlement->payouts[0].tokens == 170);
    CHECK(settlement->payouts[1].tokens == 171);
    CHECK(settlement->payouts[2].tokens == 171);
    CHECK(payments(*settlement) == std::vector<std::string>{"0.0170", "0.0171", "0.0171"});
  }

  TEST_CASE("by layers, 11, 11 and 10 of 32 give 176, 176 and 160 tokens") {
    const auto settlement = settle(test::log_of(512), price("0.0001", SplitPolicy::layer_units));
    REQUIRE(settlement);
    REQUIRE(settlement->payouts.size() == 3);
    CHECK(settlement->payouts[0].tokens == 176);
    CHECK(settlement->payouts[2].tokens == 160);
    CHECK(payments(*settlement) == std::vector<std::string>{"0.0176", "0.0176", "0.0160"});
    CHECK(settlement->payouts[1].layers.front() == 11);
    CHECK(settlement->payouts[1].layers.back() == 21);
  }

  TEST_CASE("after a failover in mid-session each node is paid for the tokens it made") {
    WorkLog log;
    std::vector<WorkHop> route = {{node_name(1), {0, 16}}, {node_name(2), {16, 32}}};
    log.add_output(route, 100);
    route[1].node_id = node_name(3);
    log.add_output(route, 300);
    const auto shares = split_tokens(log.output, SplitPolicy::layer_units);
    REQUIRE(shares.size() == 3);
    CHECK(shares[0].tokens == 200);  // half of all
    CHECK(shares[1].node_id == node_name(2));
    CHECK(shares[1].tokens == 50);  // half of the first hundred
    CHECK(shares[2].tokens == 150);
  }

  TEST_CASE("a provider's head counts as one layer, the coordinator's as none") {
    WorkLog log;
    log.add_output(std::vector<WorkHop>{{node_name(1), {0, 3}, true}, {node_name(2), {3, 7}}}, 80);
    auto shares = split_tokens(log.output, SplitPolicy::layer_units);
    CHECK(shares[0].weight == shares[1].weight);
    log.output[0].route[0].node_id.clear();
    shares = split_tokens(log.output, SplitPolicy::layer_units);
    CHECK(shares[0].weight == 80 * 3);
  }

  TEST_CASE("fallback tokens are the operator's, one for one") {
    WorkLog log = test::log_of(100);
    log.add_output({}, 28);
    const auto settlement = settle(log, price("0.0001", SplitPolicy::layer_units));
    REQUIRE(settlement);
    CHECK(settlement->payouts.back().node_id.empty());
    CHECK(settlement->payouts.back().tokens == 28);
    CHECK(settlement->cost.to_string() == "0.0128");
  }

  TEST_CASE("the platform's fee is a part of each token's price") {
    const auto settlement = settle(test::log_of(512), price("0.0001", SplitPolicy::equal, 250));
    REQUIRE(settlement);
    CHECK(settlement->cost.to_string() == "0.0512");
    CHECK(settlement->fee.to_string() == "0.00128");
    CHECK(settlement->payouts[0].payment == *far("0.0000975").times(170));
  }

  TEST_CASE("shares always sum up, are never negative and keep one order (random logs)") {
    for (std::uint32_t seed = 0; seed < 2'000; ++seed) {
      std::mt19937 random(seed);
      const WorkLog log = random_log(random);
      CAPTURE(seed);
      REQUIRE(check_work(log));
      const auto policy = seed % 2 ? SplitPolicy::equal : SplitPolicy::layer_units;
      const auto shares = split_tokens(log.output, policy);
      std::uint64_t sum = 0, weights = 0, routed = 0;
      for (const TokenShare& share : shares) {
        sum += share.tokens;
        weights += share.weight;
      }
      REQUIRE(sum == log.output_tokens());
      for (const WorkSegment& segment : log.output)
        routed += segment.route.empty() ? 0 : segment.tokens;
      bool extra_before =
          true;  // leftovers go to the last ones: no share with one before one without
      for (auto share = shares.rbegin(); share != shares.rend(); ++share) {
        if (share->node_id.empty() || share->weight == 0) continue;
        const std::uint64_t exact = routed * share->weight / weights;
        REQUIRE((share->tokens == exact || share->tokens == exact + 1));
        if (share->tokens == exact + 1) REQUIRE(extra_before);
        if (share->tokens == exact && routed * share->weight % weights != 0) extra_before = false;
      }
      const Prices prices{Far::from_units(1 + seed), Far::from_units(seed % 3), seed % 10'001,
                          policy};
      const auto settlement = settle(log, prices);
      REQUIRE(settlement);
      std::int64_t paid = settlement->fee.units();
      for (const Payout& payout : settlement->payouts) {
        REQUIRE_FALSE(payout.payment.is_negative());
        paid += payout.payment.units();
      }
      REQUIRE(paid == settlement->cost.units());
      const auto again = decode_work(encode_work(log));
      REQUIRE(again);
      REQUIRE(*again == log);
    }
  }

  TEST_CASE("a log outside its bounds is refused") {
    const auto refuses = [](std::vector<WorkHop> route, std::uint32_t tokens = 1) {
      WorkLog log;
      log.output.push_back({tokens, std::move(route)});
      return !check_work(log);
    };
    CHECK(refuses({{"'; DROP TABLE far_nodes; --", {0, 4}}}));
    CHECK(refuses({{node_name(1), {0, 4}}, {node_name(2), {3, 8}}}));
    CHECK(refuses({{node_name(1), {0, 2'000}}}));
    CHECK(refuses({{node_name(1), {4, 4}}}));
    CHECK(refuses({{node_name(1), {5, 4}}}));
    CHECK(refuses({{node_name(1), {0, 4}, true}, {node_name(2), {4, 8}, true}}));
    CHECK(refuses({{node_name(1), {0, 4}}}, 0));
    CHECK(refuses({{node_name(1), {0, 4}}}, kMaxTokens + 1));
    CHECK_FALSE(refuses({{node_name(1), {0, 4}}}, kMaxTokens));
  }

  TEST_CASE("damaged logs are told from good ones") {
    for (const char* text : {"", "{}", "[]", "{\"prompt\":[],\"output\":[{}]}",
                             "{\"prompt\":[],\"output\":[{\"tokens\":-1,\"route\":[]}]}",
                             "{\"prompt\":[],\"output\":[{\"tokens\":1,\"route\":[[1,2,3,4]]}]}",
                             "{\"prompt\":[],\"output\":[{\"tokens\":1,\"route\":[[]]}"}) {
      CAPTURE(text);
      CHECK_FALSE(decode_work(text));
    }
  }

  TEST_CASE("a log cut to what was delivered keeps its first tokens") {
    WorkLog log = test::log_of(100);
    log.add_output({}, 50);
    log.keep_output(120);
    CHECK(log.output_tokens() == 120);
    log.keep_output(100);
    CHECK(log.output.size() == 1);
    log.keep_output(0);
    CHECK(log.output.empty());
  }
}

}  // namespace farmesh::ledger
