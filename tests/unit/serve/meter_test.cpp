// What a peer counts for sessions that are paid, and whom it serves for nothing.
#include "serve/meter.hpp"

#include <random>

#include <doctest/doctest.h>

#include "unit/serve/swarm_rig.hpp"

namespace farmesh::serve {
namespace {

using namespace std::chrono_literals;
using identity::NodeKey;
using test::embed;
using test::kAllLayers;
using test::kModel;
using test::Pair;
using wire::Want;

constexpr std::int64_t kNow = 1'795'000'000'000;
const wire::AccountId kAccount{4, 2};

wire::Grant grant_of(std::uint32_t tokens = 1'000) {
  wire::Grant grant;
  grant.account = kAccount;
  grant.model_hash = kModel;
  grant.price_per_token = Far::from_units(10'000);
  grant.token_limit = tokens;
  grant.issued_ms = kNow;
  grant.expires_ms = kNow + 3'600'000;
  return grant;
}

std::vector<std::uint8_t> signed_by(const NodeKey& key, const wire::Grant& grant) {
  const auto body = wire::encode(grant);
  return wire::encode(wire::SignedGrant{
      grant, key.public_key(), key.sign(wire::kGrantDomain, std::as_bytes(std::span(body)))});
}

MeterOptions metered(const NodeKey& node, bool demands_grants = false) {
  MeterOptions options;
  options.key = node;
  options.demands_grants = demands_grants;
  options.utc_ms = [] { return kNow + 1; };
  return options;
}

bool is_signed(const wire::SignedReceipt& receipt) {
  const auto body = wire::encode(receipt.receipt);
  return identity::node_id_of(receipt.node_key) == receipt.receipt.node_id &&
         identity::verify(receipt.node_key, wire::kReceiptDomain, std::as_bytes(std::span(body)),
                          receipt.node_signature);
}

// A meter, one driver that pays, and sessions of it.
struct Paid {
  NodeKey node = NodeKey::generate();
  NodeKey driver = NodeKey::generate();
  Meter meter{node.id(), metered(node)};
  TimePoint now{1h};

  Meter::Count open(std::uint32_t prompt, std::uint32_t held = 0, std::uint32_t limit = 1'000) {
    Meter::Count count;
    wire::Open open;
    open.span = {2, 5};
    open.model_hash = kModel;
    open.prompt_positions = prompt;
    meter.open(count, grant_of(limit), driver.id(), open, held);
    return count;
  }
  static wire::Step step(std::uint32_t position, std::uint32_t rows = 1,
                         Want want = Want::last_row) {
    wire::Step step;
    step.position = position;
    step.count = rows;
    step.want = want;
    return step;
  }
  void add(Meter::Count& count, const wire::Step& step) { meter.add(count, step, true, now); }
  wire::TokenCounts closed(Meter::Count& count, std::uint32_t positions) {
    const auto receipt = meter.close(count, positions, true);
    REQUIRE(receipt);
    CHECK(is_signed(*receipt));
    CHECK(receipt->receipt.final);
    CHECK(receipt->receipt.account == kAccount);
    CHECK(receipt->receipt.span == Span{2, 5});
    return receipt->receipt.counts;
  }
};

}  // namespace

TEST_SUITE("serve/meter") {
  TEST_CASE("a prompt, its output, and what was in cache are told apart") {
    Paid paid;
    Meter::Count count = paid.open(/*prompt=*/20, /*held=*/12);
    paid.add(count, paid.step(8, 8, Want::nothing));  // the route's smallest cache was 8
    paid.add(count, paid.step(16, 4));
    for (std::uint32_t i = 0; i < 6; ++i) paid.add(count, paid.step(20 + i));
    const wire::TokenCounts counts = paid.closed(count, 26);
    CHECK(counts == wire::TokenCounts{12, 8, 7, 0, 0, 0});
  }

  TEST_CASE("rows that were not used are no output: redone ones, and the last if nobody got it") {
    Paid paid;
    Meter::Count count = paid.open(4);
    paid.add(count, paid.step(0, 4));
    paid.add(count, paid.step(4));
    paid.add(count, paid.step(4));  // the next stage had died with the first
    paid.meter.add(count, paid.step(5), /*passed_on=*/false, paid.now);
    paid.add(count, paid.step(5));
    paid.add(count, paid.step(6));
    const wire::TokenCounts counts = paid.closed(count, 6);
    CHECK(counts == wire::TokenCounts{4, 0, 3, 0, 3, 0});
  }

  TEST_CASE("chunks of a prompt that are sent again are one prompt") {
    Paid paid;
    Meter::Count count = paid.open(12);
    paid.add(count, paid.step(0, 8, Want::nothing));
    paid.add(count, paid.step(8, 4));
    paid.add(count, paid.step(0, 8, Want::nothing));  // nothing had come back
    paid.add(count, paid.step(8, 4));
    paid.add(count, paid.step(8, 4));  // this time the first chunk had
    CHECK(paid.closed(count, 12) == wire::TokenCounts{12, 0, 1, 0, 16, 0});
  }

  TEST_CASE("a driver can disown the last token, and none that it went on behind") {
    Paid paid;
    Meter::Count count = paid.open(1);
    for (std::uint32_t i = 0; i < 10; ++i) paid.add(count, paid.step(i));
    const wire::TokenCounts counts = paid.closed(count, 0);
    CHECK(counts.decode == 9);
    CHECK(counts.rejected == 1);
  }

  TEST_CASE("replays and standby rows earn nothing, and a spare that takes over does") {
    Paid paid;
    Meter::Count count = paid.open(4);
    wire::Step replay = paid.step(0, 30, Want::nothing);
    replay.replay = true;
    paid.add(count, replay);
    wire::Step copy = paid.step(30, 1, Want::nothing);
    copy.standby = true;
    paid.add(count, copy);
    paid.add(count, paid.step(31));
    paid.add(count, paid.step(32));
    CHECK(paid.closed(count, 33) == wire::TokenCounts{0, 0, 2, 30, 0, 1});
  }

  TEST_CASE("sessions of one account and a route that comes back add up in one row of receipts") {
    Paid paid;
    Meter::Count one = paid.open(2), two = paid.open(2);
    paid.add(one, paid.step(0, 2));
    paid.add(two, paid.step(0, 2));
    CHECK_FALSE(paid.meter.close(one, 2, true));  // the other is still open
    const auto first = paid.meter.close(two, 2, true);
    REQUIRE(first);
    CHECK(first->receipt.sequence == 1);
    CHECK(first->receipt.counts.decode == 2);
    Meter::Count again = paid.open(2);
    paid.add(again, paid.step(2));
    const auto second = paid.meter.close(again, 3, true);
    REQUIRE(second);
    CHECK(second->receipt.sequence == 2);
    CHECK(second->receipt.counts.decode == 3);
    CHECK(second->receipt.counts.prefill == 4);
  }

  TEST_CASE("a receipt is due after 256 tokens or 30 seconds, and never for a single step") {
    Paid paid;
    Meter::Count count = paid.open(1, 0, 10'000);
    std::vector<std::uint64_t> at;
    for (std::uint32_t i = 0; i < 600; ++i) {
      paid.add(count, paid.step(i));
      if (const auto receipt = paid.meter.due(count, paid.now)) {
        CHECK_FALSE(receipt->receipt.final);
        at.push_back(receipt->receipt.counts.decode);
      }
    }
    CHECK(at == std::vector<std::uint64_t>{256, 512});
    paid.now += 31s;
    paid.add(count, paid.step(600));
    const auto late = paid.meter.due(count, paid.now);
    REQUIRE(late);
    CHECK(late->receipt.counts.decode == 600);
    CHECK_FALSE(paid.meter.due(count, paid.now));
  }

  TEST_CASE("a grant's tokens run out, over all its sessions; a token made again counts once") {
    Paid paid;
    Meter::Count one = paid.open(1, 0, /*limit=*/3), two = paid.open(1, 0, 3);
    for (std::uint32_t i = 0; i < 2; ++i) {
      CHECK(paid.meter.allow(one, paid.step(i)));
      paid.add(one, paid.step(i));
    }
    CHECK(paid.meter.allow(two, paid.step(0)));
    paid.add(two, paid.step(0));
    CHECK(paid.meter.allow(two, paid.step(0)));  // again
    CHECK(paid.meter.allow(one, paid.step(2)).error().code == Errc::quota);
    wire::Step replay = paid.step(0, 9, Want::nothing);
    replay.replay = true;
    CHECK(paid.meter.allow(one, replay));
  }

  TEST_CASE("what was counted for a driver is told it again, and others once it is over") {
    Paid paid;
    Meter::Count count = paid.open(3);
    paid.add(count, Paid::step(0, 3));
    paid.add(count, Paid::step(3));
    // Its driver is gone: nobody gets a receipt, and the last row may not have been used.
    CHECK_FALSE(paid.meter.close(count, std::nullopt, /*reachable=*/false));
    const auto again = paid.meter.again(paid.driver.id(), kAccount);
    REQUIRE(again.size() == 1);
    CHECK(is_signed(again[0]));
    CHECK(again[0].receipt.final);
    CHECK(again[0].receipt.counts == wire::TokenCounts{3, 0, 1, 0, 1, 0});
    const auto once_more = paid.meter.again(paid.driver.id(), kAccount);
    REQUIRE(once_more.size() == 1);
    CHECK(once_more[0].receipt.sequence == again[0].receipt.sequence + 1);
    CHECK(once_more[0].receipt.counts == again[0].receipt.counts);
    CHECK(paid.meter.again(paid.driver.id(), {4, 3}).empty());
    const NodeId other = identity::NodeKey::generate().id();
    const auto told = paid.meter.again(other, kAccount);
    REQUIRE(told.size() == 1);
    CHECK(told[0].receipt.final);
    CHECK(told[0].receipt.counts == again[0].receipt.counts);
    CHECK(paid.meter.again(other, {4, 3}).empty());
    // It goes on: that is between this node and its driver.
    Meter::Count more = paid.open(3);
    CHECK(paid.meter.again(other, kAccount).empty());
    REQUIRE(paid.meter.again(paid.driver.id(), kAccount).size() == 1);
    CHECK_FALSE(paid.meter.again(paid.driver.id(), kAccount)[0].receipt.final);
    paid.meter.close(more, std::nullopt, /*reachable=*/false);
    CHECK(paid.meter.again(other, kAccount).size() == 1);
  }

  TEST_CASE("of a session that two drivers claim nobody else is told") {
    Paid paid;
    Meter::Count count = paid.open(3);
    paid.add(count, Paid::step(0, 3));
    paid.meter.close(count, std::nullopt, /*reachable=*/false);
    const identity::NodeKey other = identity::NodeKey::generate();
    wire::Open open;
    open.span = {0, 4};
    open.prompt_positions = 3;
    Meter::Count claimed;
    paid.meter.open(claimed, grant_of(), other.id(), open, 0);
    paid.add(claimed, Paid::step(0, 3));
    paid.meter.close(claimed, std::nullopt, /*reachable=*/false);
    CHECK(paid.meter.again(paid.driver.id(), kAccount).size() == 1);
    CHECK(paid.meter.again(other.id(), kAccount).size() == 1);
    CHECK(paid.meter.again(identity::NodeKey::generate().id(), kAccount).empty());
  }

  TEST_CASE("closed tallies are forgotten, oldest first, and open ones never") {
    Paid paid;
    MeterOptions options = metered(paid.node);
    options.max_closed = 2;
    Meter meter(paid.node.id(), options);
    wire::Open open;
    open.span = {0, 1};
    const auto serve = [&](std::uint8_t account) {
      wire::Grant grant = grant_of();
      grant.account[0] = account;
      Meter::Count count;
      meter.open(count, grant, paid.driver.id(), open, 0);
      meter.add(count, paid.step(0), true, paid.now);
      return meter.close(count, 1, true)->receipt.sequence;
    };
    CHECK(serve(1) == 1);
    CHECK(serve(2) == 1);
    CHECK(serve(1) == 2);
    CHECK(serve(3) == 1);
    CHECK(serve(1) == 3);
    CHECK(serve(2) == 1);
  }

  TEST_CASE("only a grant that its own driver signed, for this model and now, is one") {
    const NodeKey node = NodeKey::generate(), driver = NodeKey::generate();
    const NodeKey stranger = NodeKey::generate();
    const Meter meter(node.id(), metered(node, /*demands_grants=*/true));
    const auto admitted = [&](std::vector<std::uint8_t> grant, const NodeKey& who,
                              const Meter& by) {
      wire::Open open;
      open.model_hash = kModel;
      open.grant = std::move(grant);
      const auto admitted = by.admit(open, who.id());
      return admitted ? Errc::ok : admitted.error().code;
    };
    CHECK(admitted(signed_by(driver, grant_of()), driver, meter) == Errc::ok);
    CHECK(admitted({}, driver, meter) == Errc::grant_required);
    CHECK(admitted({}, node, meter) == Errc::ok);
    CHECK(admitted(signed_by(driver, grant_of()), stranger, meter) == Errc::receipt_invalid);
    const auto refused = [&](auto change) {
      wire::Grant grant = grant_of();
      change(grant);
      return admitted(signed_by(driver, grant), driver, meter) == Errc::receipt_invalid;
    };
    CHECK(refused([](auto& grant) { grant.model_hash = {{9}}; }));
    CHECK(refused([](auto& grant) { grant.token_limit = 0; }));
    CHECK(refused([](auto& grant) { grant.issued_ms = kNow + 62'000; }));
    CHECK(refused([](auto& grant) {
      grant.issued_ms = 0;
      grant.expires_ms = kNow - 61'000;
    }));
    std::mt19937 random(5);
    const std::vector<std::uint8_t> good = signed_by(driver, grant_of());
    for (std::size_t i = 0; i < good.size(); ++i) {
      auto changed = good;
      changed[i] ^= static_cast<std::uint8_t>(1 + random() % 255);
      CHECK(admitted(changed, driver, meter) == Errc::receipt_invalid);
    }
    auto longer = good;
    longer.push_back(0);
    CHECK(admitted(longer, driver, meter) == Errc::receipt_invalid);

    MeterOptions choosy = metered(node);
    choosy.payers = {stranger.id()};
    const Meter chosen(node.id(), choosy);
    CHECK(admitted(signed_by(driver, grant_of()), driver, chosen) == Errc::receipt_invalid);
    CHECK(admitted(signed_by(stranger, grant_of()), stranger, chosen) == Errc::ok);
    CHECK(admitted({}, driver, chosen) == Errc::ok);  // open: and nothing is owed
  }

  TEST_CASE("a peer serves by the grant and sends its receipt when the session closes") {
    const NodeKey node = NodeKey::generate(), payer = NodeKey::generate();
    PeerOptions options;
    options.meter = metered(node, /*demands_grants=*/true);
    Pair pair(options);
    pair.driver.call_itself(payer.id());
    wire::Open open = pair.driver.open_message(kAllLayers);
    CHECK(pair.driver.open(pair.address, open).error().code == Errc::grant_required);
    open.grant = signed_by(payer, grant_of());
    open.prompt_positions = 3;
    REQUIRE(pair.driver.open(pair.address, open));
    for (std::uint32_t position : {0u, 3u, 4u}) {
      auto message = pair.driver.step_message(position);
      message.want = Want::last_row;
      pair.driver.step(pair.address, message, embed(test::Tokens(position == 0 ? 3 : 1, position)));
      pair.driver.next_reply();
    }
    CHECK(pair.driver.others.empty());
    pair.driver.push(pair.address, wire::Verb::close, wire::encode(wire::Close{open.session, 5}));
    pair.loop.until([&] { return !pair.driver.others.empty(); });
    const wire::Frame& frame = pair.driver.others.front();
    CHECK(frame.verb == wire::Verb::receipt);
    CHECK(frame.header.empty());
    const ByteView bytes = frame.payload.view();
    const auto receipt = wire::decode_signed_receipt(
        {reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()});
    REQUIRE(receipt);
    CHECK(is_signed(*receipt));
    CHECK(receipt->receipt.node_id == node.id());
    CHECK(receipt->receipt.span == kAllLayers);
    CHECK(receipt->receipt.counts == wire::TokenCounts{3, 0, 3, 0, 0, 0});

    const std::vector<wire::AccountId> accounts{kAccount, {1}};
    const std::vector<std::uint8_t> asking = wire::encode(accounts);
    pair.driver.push(pair.address, wire::Verb::receipt, {},
                     Payload::copy_of(std::as_bytes(std::span(asking))));
    pair.loop.until([&] { return pair.driver.others.size() == 2; });
    CHECK(pair.driver.others.back().verb == wire::Verb::receipt);
  }
}

}  // namespace farmesh::serve
