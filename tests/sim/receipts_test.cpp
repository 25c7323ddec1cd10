// Sessions that are paid, on peers that die: what every living peer signs is what the driver
// committed with it, to the last token.

#include <algorithm>
#include <map>
#include <sstream>

#include <doctest/doctest.h>

#include "node/swarm.hpp"

using namespace farmesh;
using namespace farmesh::sim;

namespace {

constexpr std::uint32_t kPrompt = 21;
constexpr std::uint32_t kTokens = 40;

using Place = std::pair<NodeId, Span>;
struct Work {
  std::uint64_t prefill = 0;
  std::uint64_t decode = 0;
};

std::uint64_t overlap(std::uint32_t begin, std::uint32_t end, std::uint32_t from,
                      std::uint32_t to) {
  const std::uint32_t first = std::max(begin, from), last = std::min(end, to);
  return last > first ? last - first : 0;
}

/// By the driver's own record of positions; not by the bill, which is to be checked.
std::map<Place, Work> committed(const Swarm& swarm, const driver::Generator& generator) {
  std::map<Place, Work> work;
  for (const driver::CommittedRows& rows : generator.committed()) {
    for (const wire::Hop& hop : rows.route) {
      Work& one = work[{swarm.peers->node_id(hop.address), hop.span}];
      one.prefill += overlap(rows.begin, rows.end, 0, kPrompt);
      // The row before a token is the one that makes it.
      one.decode += overlap(rows.begin, rows.end, kPrompt - 1, kPrompt + kTokens - 1);
    }
  }
  return work;
}

struct Run {
  std::string trouble;  // empty: every sum holds
  std::uint64_t cached = 0, replay = 0, rejected = 0, standby = 0;
  std::size_t receipts = 0;
};

Run pay(Swarm& swarm, Talk& talk) {
  Run run;
  std::ostringstream what;
  what << swarm.hold(talk);
  const std::map<Place, Work> work = committed(swarm, *talk.generator);
  what << swarm.leaks();  // closes the sessions: the last receipts come
  std::map<Place, wire::Receipt> newest;
  for (const wire::JudgedReceipt& judged : talk.bill->receipts()) {
    ++run.receipts;
    if (!judged.driver_key) what << "a receipt that the driver disputes; ";
    newest[{judged.receipt.receipt.node_id, judged.receipt.receipt.span}] = judged.receipt.receipt;
  }
  std::uint64_t units = 0;
  for (const auto& [place, one] : work) {
    units += one.decode * place.second.size();
    const auto receipt = newest.find(place);
    bool lives = false;
    for (const std::string name : {"a", "b", "c", "s"}) {
      if (swarm.peers->node_id(name + ":1") == place.first) lives = swarm.alive(name);
    }
    if (receipt == newest.end()) {
      if (lives) what << "no receipt of a living peer; ";
      continue;
    }
    const wire::TokenCounts& counts = receipt->second.counts;
    const bool equal = counts.decode == one.decode && counts.prefill == one.prefill;
    const bool within = counts.decode <= one.decode && counts.prefill <= one.prefill;
    if (lives ? !equal || !receipt->second.final : !within) {
      what << "claims " << counts.prefill << "+" << counts.decode << ", did " << one.prefill << "+"
           << one.decode << "; ";
    }
  }
  if (units != std::uint64_t{kTokens} * kLayers) what << units << " layer units in all; ";
  for (const auto& [place, receipt] : newest) {
    run.cached += receipt.counts.cached;
    run.replay += receipt.counts.replay;
    run.rejected += receipt.counts.rejected;
    run.standby += receipt.counts.standby;
  }
  run.trouble = what.str();
  return run;
}

SwarmOptions paid() {
  SwarmOptions options;
  options.paid = true;
  return options;
}

void add_three(Swarm& swarm) {
  swarm.add("a", {0, 4});
  swarm.add("b", {4, 8});
  swarm.add("c", {8, 12});
}

}  // namespace

TEST_SUITE("sim/receipts") {
  TEST_CASE("a quiet session: each peer signs for the prompt and every token, once") {
    Swarm swarm(paid());
    add_three(swarm);
    swarm.connect();
    Talk talk{prompt_of(7, kPrompt), kTokens, greedy()};
    const Run run = pay(swarm, talk);
    CHECK(run.trouble == "");
    CHECK(run.receipts == 3);
    CHECK(run.replay + run.rejected + run.standby + run.cached == 0);
    CHECK(talk.bill->complete());
    CHECK(talk.bill->refused() == 0);
    CHECK(swarm.peers->refused_receipts() == 0);
  }

  TEST_CASE("any one peer killed at every step: the others' receipts are exact") {
    for (const std::string victim : {"a", "b", "c"}) {
      for (const std::string host : {"driver", "a", "b", "c"}) {
        for (int nth = 1; nth <= int{kTokens} + 2; nth += host == "driver" ? 1 : 5) {
          Swarm swarm(paid());
          add_three(swarm);
          swarm.connect();
          swarm.network.on_frame([&, left = nth](const std::string& from, const std::string&,
                                                 const wire::Frame& frame) mutable {
            if (from == host && frame.verb == wire::Verb::step && --left == 0) swarm.kill(victim);
          });
          swarm.add("s", {0, 12});
          Talk talk{prompt_of(7, kPrompt), kTokens, greedy()};
          const Run run = pay(swarm, talk);
          INFO(victim, " killed at frame ", nth, " of ", host);
          CHECK(run.trouble == "");
          CHECK(swarm.peers->refused_receipts() == 0);
        }
      }
    }
  }

  TEST_CASE("guesses that came to nothing are receipted as rejected, and earn nothing") {
    for (const std::string victim : {"", "a", "b", "c"}) {
      for (std::size_t at = 3; at < kTokens; at += 6) {
        Swarm swarm(paid());
        add_three(swarm);
        swarm.connect();
        if (!victim.empty()) swarm.add("s", {0, 12});
        Talk talk{prompt_of(7, kPrompt), kTokens, greedy()};
        talk.sampling.logit_bias = {{40, 100}, {41, 97}};
        talk.max_draft = 6;
        talk.on_token = [&](std::size_t told) {
          if (told == at && !victim.empty()) swarm.kill(victim);
        };
        const Run run = pay(swarm, talk);
        INFO(victim, " killed at token ", at);
        CHECK(run.trouble == "");
        CHECK(run.rejected > 0);
      }
    }
  }

  TEST_CASE("a spare that was kept warm is paid from where it took over") {
    for (std::size_t at = 3; at < kTokens; at += 6) {
      SwarmOptions options = paid();
      options.chain.warm_standby = true;
      Swarm swarm(options);
      add_three(swarm);
      swarm.add("s", {0, 12});
      swarm.connect();
      Talk talk{prompt_of(9, kPrompt), kTokens, greedy()};
      talk.on_token = [&](std::size_t told) {
        if (told == at) swarm.kill("b");
      };
      const Run run = pay(swarm, talk);
      CHECK(run.trouble == "");
    }
  }

  TEST_CASE("a prefix that was in cache is receipted as cached, and computed by nobody") {
    Swarm swarm(paid());
    add_three(swarm);
    swarm.connect();
    Talk first{prompt_of(7, kPrompt), kTokens, greedy()};
    CHECK(pay(swarm, first).trouble == "");
    Talk second{prompt_of(7, kPrompt), kTokens, greedy()};
    const Run run = pay(swarm, second);
    CHECK(run.trouble == "");
    CHECK(run.cached == 3 * 20);  // five whole pages on each of three peers
  }

  TEST_CASE("without a grant, peers that want to be paid serve nobody") {
    Swarm swarm(paid());
    add_three(swarm);
    swarm.connect();
    Talk talk{prompt_of(7, kPrompt), kTokens, greedy()};
    swarm.options.paid = false;
    swarm.start(talk);
    REQUIRE(swarm.run());
    REQUIRE_FALSE(*talk.finish);
    CHECK(talk.finish->error().to_string().find("grant_required") != std::string::npos);
    CHECK(swarm.leaks() == "");
  }
}
