#include "discovery/record_table.hpp"

#include <doctest/doctest.h>

#include "unit/discovery/samples.hpp"

namespace farmesh {
namespace {

using discovery::NodeRecord;
using discovery::RecordFault;
using discovery::RecordTable;
using discovery::RecordTableOptions;
using test::kNowMs;
using test::signed_by;
using test::some_record;
using Outcome = RecordTable::Outcome;
using namespace std::chrono_literals;

const TimePoint kStart{1h};

RecordTableOptions options() {
  RecordTableOptions options;
  options.model_hash = test::some_model();
  options.num_layers = 12;
  return options;
}

Outcome take(RecordTable& table, std::uint8_t node, const NodeRecord& record) {
  return table.take(signed_by(node, record).bytes, kNowMs, kStart);
}

NodeRecord with_sequence(std::int64_t sequence, Span span = {0, 4}) {
  NodeRecord record = some_record(span);
  record.sequence = sequence;
  return record;
}

}  // namespace

TEST_SUITE("discovery/record table") {
  TEST_CASE("the newest sequence wins, whatever comes last") {
    RecordTable table(options());
    CHECK(take(table, 1, with_sequence(5)) == Outcome::taken);
    CHECK(take(table, 1, with_sequence(7, {4, 8})) == Outcome::taken);
    CHECK(take(table, 1, with_sequence(6)) == Outcome::known);
    CHECK(take(table, 1, with_sequence(7)) == Outcome::known);
    REQUIRE(table.usable().size() == 1);
    CHECK(table.usable()[0]->record.span == Span{4, 8});
    CHECK(table.counts().taken == 2);
    CHECK(table.counts().known == 2);
  }

  TEST_CASE("a tombstone ends a node, and old news does not bring it back") {
    RecordTable table(options());
    take(table, 1, with_sequence(5));
    NodeRecord gone = with_sequence(6);
    gone.leaving = true;
    CHECK(take(table, 1, gone) == Outcome::taken);
    CHECK(table.usable().empty());
    CHECK(take(table, 1, with_sequence(5)) == Outcome::known);
    CHECK(table.usable().empty());
    CHECK(table.page({}, 10, 10'000).records.size() == 1);  // others must learn of it
  }

  TEST_CASE("a record ends with its expiry, and a fast clock buys no longer life") {
    RecordTable table(options());
    take(table, 1, some_record());
    NodeRecord ahead = some_record();
    ahead.not_before_ms += 60'000;
    ahead.expires_ms += 60'000;
    take(table, 2, ahead);
    CHECK_FALSE(table.expire(kNowMs + 119'999, kStart + 119'999ms));
    CHECK(table.usable().size() == 2);
    CHECK(table.expire(kNowMs + 120'000, kStart + 120'000ms));
    CHECK(table.usable().empty());
  }

  TEST_CASE("a hidden node comes back with what it signs later, not with what it signed before") {
    RecordTable table(options());
    take(table, 1, with_sequence(5));
    const NodeId id = test::key_of(1).id();
    const std::string address = "10.0.0.7:31330";
    CHECK(table.hide(id, address, kNowMs + 10'000));
    CHECK(table.usable().empty());
    CHECK_FALSE(table.is_usable(id));
    CHECK(table.page({}, 10, 10'000).records.empty());
    CHECK_FALSE(table.hide(id, address, kNowMs + 10'000));

    NodeRecord before = with_sequence(6);
    before.not_before_ms += 9'000;
    take(table, 1, before);
    CHECK(table.usable().empty());
    NodeRecord after = with_sequence(7);
    after.not_before_ms += 10'001;
    take(table, 1, after);
    CHECK(table.usable().size() == 1);
  }

  TEST_CASE("a contact hides a node where its record says it is, and not once it is elsewhere") {
    RecordTable table(options());
    const NodeId id = test::key_of(1).id();
    const std::string named = "/p2p/" + to_string(id);
    take(table, 1, with_sequence(5));
    CHECK_FALSE(table.hide(id, "10.0.0.7:31331" + named, kNowMs + 10'000));
    CHECK_FALSE(table.hide(id, "10.0.0.8:31330", kNowMs + 10'000));
    // Somebody else announced this address, and another key answered: no harm to whose it is.
    const std::string liar = "/p2p/" + to_string(test::key_of(66).id());
    CHECK_FALSE(table.hide(id, "10.0.0.7:31330" + liar, kNowMs + 10'000));
    CHECK(table.hide(id, "/ip4/10.0.0.7/tcp/31330" + named, kNowMs + 10'000));

    // It said so before the contact failed, and it came late.
    NodeRecord moved = with_sequence(6);
    moved.not_before_ms += 9'000;
    moved.addresses.clear();
    moved.relay = "10.0.0.9:31330/p2p/" + to_string(test::key_of(9).id());
    take(table, 1, moved);
    CHECK(table.is_usable(id));
    CHECK_FALSE(table.hide(id, "10.0.0.7:31330" + named, kNowMs + 11'000));
    CHECK_FALSE(table.hide(id, moved.relay + "/p2p-circuit" + liar, kNowMs + 11'000));
    CHECK(table.hide(id, discovery::dial_address(table.find(id)->record), kNowMs + 11'000));
    CHECK_FALSE(table.is_usable(id));
  }

  TEST_CASE("what is not believed is counted by its fault and changes nothing") {
    RecordTable table(options());
    NodeRecord absurd = some_record({0, 13});
    CHECK(take(table, 1, absurd) == Outcome::dropped);
    NodeRecord foreign = some_record();
    foreign.mesh = "another";
    CHECK(take(table, 1, foreign) == Outcome::dropped);
    std::string forged = signed_by(1, some_record()).bytes;
    forged[forged.size() - 3] ^= 1;
    CHECK(table.take(forged, kNowMs, kStart) == Outcome::dropped);
    const NodeId other = test::key_of(2).id();
    CHECK(table.take(signed_by(1, some_record()).bytes, kNowMs, kStart, &other) ==
          Outcome::dropped);
    const auto& dropped = table.counts().dropped;
    CHECK(dropped[static_cast<std::size_t>(RecordFault::absurd_span)] == 1);
    CHECK(dropped[static_cast<std::size_t>(RecordFault::foreign_mesh)] == 1);
    CHECK(dropped[static_cast<std::size_t>(RecordFault::bad_signature)] == 1);
    CHECK(dropped[static_cast<std::size_t>(RecordFault::foreign_id)] == 1);
    CHECK(table.size() == 0);
  }

  TEST_CASE("a full table refuses strangers and renews those it has") {
    RecordTableOptions few = options();
    few.max_records = 2;
    RecordTable table(few);
    take(table, 1, with_sequence(1));
    take(table, 2, with_sequence(1));
    CHECK(take(table, 3, with_sequence(1)) == Outcome::known);
    CHECK(take(table, 1, with_sequence(2)) == Outcome::taken);
    CHECK(table.size() == 2);
    CHECK(table.counts().full == 1);
  }

  TEST_CASE("other models are held and passed on, but are not usable") {
    RecordTable table(options());
    NodeRecord other = some_record();
    other.model_hash.bytes.fill(9);
    other.num_layers = 40;
    take(table, 1, other);
    CHECK(table.usable().empty());
    CHECK(table.page({}, 10, 10'000).records.size() == 1);
    CHECK(table.page({test::some_model(), {}, {}}, 10, 10'000).records.empty());
  }

  TEST_CASE("pages of a query are bounded and, put together, complete") {
    RecordTable table(options());
    for (std::uint8_t node = 1; node <= 50; ++node) take(table, node, some_record({0, 4}));
    for (std::uint8_t node = 51; node <= 60; ++node) take(table, node, some_record({8, 12}));
    RecordTable::Query query{test::some_model(), {2, 6}, {}};
    std::size_t seen = 0;
    for (;;) {
      const RecordTable::Page page = table.page(query, 7, 2'000);
      std::size_t bytes = 0;
      for (const auto& one : page.records) bytes += one->bytes.size();
      CHECK(page.records.size() <= 7);
      CHECK(bytes <= 2'000);
      seen += page.records.size();
      if (!page.more) break;
      REQUIRE_FALSE(page.records.empty());
      query.after = page.records.back()->record.id;
    }
    CHECK(seen == 50);
  }

  TEST_CASE("records that end soon are named, soonest first") {
    RecordTable table(options());
    for (std::uint8_t node = 1; node <= 3; ++node) {
      NodeRecord record = some_record();
      record.expires_ms = kNowMs + 10'000 * (4 - node);
      take(table, node, record);
    }
    const auto ending = table.ending(kNowMs + 25'000, 10);
    REQUIRE(ending.size() == 2);
    CHECK(ending[0] == test::key_of(3).id());
    CHECK(table.ending(kNowMs + 25'000, 1).size() == 1);
  }

  TEST_CASE("the wallet statement that a DHT item had no room for is added later") {
    RecordTable table(options());
    NodeRecord record = some_record();
    record.wallet_statement = {1, 2, 3};
    const auto whole = signed_by(1, record);
    CHECK(table.take(whole.item(), kNowMs, kStart) == Outcome::taken);
    CHECK(table.take(whole.bytes, kNowMs, kStart) == Outcome::taken);
    CHECK(table.take(whole.item(), kNowMs, kStart) == Outcome::known);
    CHECK(table.usable()[0]->record.wallet_statement.size() == 3);
  }
}

}  // namespace farmesh
