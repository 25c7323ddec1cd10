#include "discovery/record.hpp"

#include <functional>

#include <doctest/doctest.h>

#include "discovery/directory.hpp"
#include "discovery/rendezvous.hpp"
#include "net/tcp_address.hpp"
#include "unit/discovery/samples.hpp"
#include "wire/messages.hpp"

namespace farmesh {
namespace {

using discovery::check_record;
using discovery::NodeRecord;
using discovery::RecordFault;
using discovery::SignedRecord;
using test::expectation;
using test::kNowMs;
using test::signed_by;
using test::some_record;

/// Why a record with this change, signed properly, is not believed; nothing if it is.
std::optional<RecordFault> fault_after(const std::function<void(NodeRecord&)>& change) {
  NodeRecord record = some_record();
  change(record);
  const auto checked = check_record(signed_by(1, record).bytes, expectation());
  if (const auto* fault = std::get_if<RecordFault>(&checked)) return *fault;
  return std::nullopt;
}

}  // namespace

TEST_SUITE("discovery/record") {
  TEST_CASE("a record comes back whole and belongs to the hash of its key") {
    NodeRecord sent = some_record();
    sent.wallet_statement = {1, 2, 3};
    sent.head = true;
    sent.relay = "10.0.0.9:31330";
    sent.relays = true;
    const auto checked = check_record(signed_by(1, sent).bytes, expectation());
    REQUIRE(std::holds_alternative<SignedRecord>(checked));
    const NodeRecord& back = std::get<SignedRecord>(checked).record;
    CHECK(back.id == test::key_of(1).id());
    CHECK(back.key == test::key_of(1).public_key());
    CHECK(back.sequence == sent.sequence);
    CHECK(back.addresses == sent.addresses);
    CHECK(back.relay == sent.relay);
    CHECK(back.place == sent.place);
    CHECK(back.model_hash == sent.model_hash);
    CHECK(back.span == sent.span);
    CHECK(back.head);
    CHECK(back.relays);
    CHECK(back.layer_us == sent.layer_us);
    CHECK(back.wallet_statement == sent.wallet_statement);
  }

  TEST_CASE(
      "nobody is dialled through two relays, or by a relay's word for an address of one's own") {
    const std::string circuit = net::circuit_address("10.0.0.9:31330", NodeId{7});
    NodeRecord record = some_record();
    record.relay = circuit;
    CHECK(sign_record(record, test::key_of(1)).error().code == Errc::invalid_argument);
    record = some_record();
    record.addresses = {circuit};
    CHECK(sign_record(record, test::key_of(1)).error().code == Errc::invalid_argument);
  }

  TEST_CASE("who has a relay is dialled through it, and no other key will do") {
    NodeRecord record = some_record();
    record.addresses.clear();
    record.relay = "10.0.0.9:31330/p2p/" + to_string(NodeId{7});
    const auto made = sign_record(record, test::key_of(1));
    REQUIRE(made);
    const std::string address = dial_address(made->record);
    const auto parsed = net::parse_address(address);
    REQUIRE(parsed);
    CHECK(parsed->id == test::key_of(1).id());
    CHECK(parsed->relay == record.relay);
    CHECK(address.size() <= wire::kMaxTextField);
  }

  TEST_CASE("a flipped bit anywhere is noticed") {
    const std::string good = signed_by(1, some_record()).bytes;
    for (std::size_t at = 0; at < good.size(); ++at) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ 0x10);
      CAPTURE(at);
      CHECK(std::holds_alternative<RecordFault>(check_record(bad, expectation())));
    }
  }

  TEST_CASE("a record that is cut or has bytes after its end is malformed") {
    const std::string good = signed_by(1, some_record()).bytes;
    for (std::size_t size = 0; size < good.size(); ++size) {
      const auto checked = check_record(good.substr(0, size), expectation());
      CHECK(std::get<RecordFault>(checked) == RecordFault::malformed);
    }
    const auto longer = check_record(good + "x", expectation());
    CHECK(std::get<RecordFault>(longer) == RecordFault::malformed);
  }

  TEST_CASE("another key's signature is a bad signature") {
    const std::string good = signed_by(1, some_record()).bytes;
    std::string forged = good;
    const std::size_t signature = good.size() - 2 - 64;
    const std::string other = signed_by(2, some_record()).bytes;
    forged.replace(signature, 64, other.substr(signature, 64));
    CHECK(std::get<RecordFault>(check_record(forged, expectation())) == RecordFault::bad_signature);
  }

  TEST_CASE("another wallet statement than the signed one is a bad signature") {
    NodeRecord record = some_record();
    record.wallet_statement = {1, 2, 3};
    std::string forged = signed_by(1, record).bytes;
    forged.back() = 4;
    CHECK(std::get<RecordFault>(check_record(forged, expectation())) == RecordFault::bad_signature);
  }

  TEST_CASE("a record of another node than the one asked for is foreign") {
    auto expected = expectation();
    expected.id = test::key_of(2).id();
    const auto checked = check_record(signed_by(1, some_record()).bytes, expected);
    CHECK(std::get<RecordFault>(checked) == RecordFault::foreign_id);
  }

  TEST_CASE("a record of another mesh is foreign") {
    CHECK(fault_after([](NodeRecord& r) { r.mesh = "another"; }) == RecordFault::foreign_mesh);
  }

  TEST_CASE("spans that cannot be are absurd") {
    const auto absurd = RecordFault::absurd_span;
    CHECK(fault_after([](NodeRecord& r) { r.span = {4, 4}; }) == absurd);
    CHECK(fault_after([](NodeRecord& r) { r.span = {8, 4}; }) == absurd);
    CHECK(fault_after([](NodeRecord& r) { r.span = {0, 13}; }) == absurd);
    CHECK(fault_after([](NodeRecord& r) { r.num_layers = 11; }) == absurd);
    CHECK(fault_after([](NodeRecord& r) { r.num_layers = 0xffff'ffff; }) == absurd);
    CHECK(fault_after([](NodeRecord& r) { r.model_hash = {}; }) == absurd);
    CHECK_FALSE(fault_after([](NodeRecord& r) {
      r.span = {4, 4};
      r.head = true;
    }));
  }

  TEST_CASE("clocks may differ by a minute, not by more") {
    CHECK_FALSE(fault_after([](NodeRecord& r) {
      r.not_before_ms = kNowMs + 60'000;
      r.expires_ms = kNowMs + 180'000;
    }));
    CHECK(fault_after([](NodeRecord& r) {
            r.not_before_ms = kNowMs + 60'001;
            r.expires_ms = kNowMs + 180'000;
          }) == RecordFault::clock_off);
    CHECK(fault_after([](NodeRecord& r) { r.expires_ms = kNowMs + 3'600'001; }) ==
          RecordFault::clock_off);
    CHECK(fault_after([](NodeRecord& r) { r.expires_ms = r.not_before_ms; }) ==
          RecordFault::clock_off);
    CHECK(fault_after([](NodeRecord& r) {
            r.not_before_ms = INT64_MIN;
            r.expires_ms = INT64_MAX;
          }) == RecordFault::clock_off);
  }

  TEST_CASE("what has expired is not believed") {
    CHECK(fault_after([](NodeRecord& r) {
            r.not_before_ms = kNowMs - 120'000;
            r.expires_ms = kNowMs;
          }) == RecordFault::expired);
  }

  TEST_CASE("addresses that nobody can dial are malformed") {
    auto expected = expectation();
    NodeRecord record = some_record();
    record.addresses = {"10.0.0.7"};
    CHECK_FALSE(discovery::sign_record(record, test::key_of(1)));
    record.addresses = {};
    CHECK_FALSE(discovery::sign_record(record, test::key_of(1)));
    record.leaving = true;
    CHECK(discovery::sign_record(record, test::key_of(1)));
  }

  TEST_CASE("more than a record may be is oversized, or not signed at all") {
    const auto checked =
        check_record(std::string(discovery::kMaxRecordBytes + 1, 'x'), expectation());
    CHECK(std::get<RecordFault>(checked) == RecordFault::oversized);
    NodeRecord record = some_record();
    record.wallet_statement.resize(discovery::kMaxStatementBytes + 1);
    CHECK_FALSE(discovery::sign_record(record, test::key_of(1)));
    record = some_record();
    record.place = std::string(discovery::kMaxNameBytes + 1, 'x');
    CHECK_FALSE(discovery::sign_record(record, test::key_of(1)));
    record = some_record();
    record.addresses.assign(discovery::kMaxAddresses + 1, "10.0.0.7:1");
    CHECK_FALSE(discovery::sign_record(record, test::key_of(1)));
  }

  TEST_CASE("the largest record fits into a DHT item, without its wallet statement") {
    NodeRecord record = some_record();
    record.wallet_statement.assign(discovery::kMaxStatementBytes, 9);
    record.model_id = std::string(discovery::kMaxNameBytes, 'm');
    record.place = std::string(discovery::kMaxNameBytes, 'p');
    record.software = std::string(discovery::kMaxNameBytes, 's');
    record.mesh = std::string(discovery::kMaxNameBytes, 'n');
    record.addresses = {std::string(100, 'a') + ":1"};
    const SignedRecord made = signed_by(1, record);
    CHECK(made.bytes.size() <= discovery::kMaxRecordBytes);
    const discovery::DhtItem item = discovery::make_item(test::key_of(1), 5, made.item());
    CHECK(item.value.size() < discovery::kMaxItemBytes);
    CHECK(verify_item(item));

    auto expected = expectation();
    expected.mesh = record.mesh;
    const auto checked = check_record(item.value, expected);
    REQUIRE(std::holds_alternative<SignedRecord>(checked));
    CHECK(std::get<SignedRecord>(checked).record.wallet_statement.empty());
  }

  TEST_CASE("an item with another sequence, value or key does not verify") {
    const discovery::DhtItem good = discovery::make_item(test::key_of(1), 5, "value");
    CHECK(verify_item(good));
    discovery::DhtItem bad = good;
    bad.sequence = 6;
    CHECK_FALSE(verify_item(bad));
    bad = good;
    bad.value = "valuf";
    CHECK_FALSE(verify_item(bad));
    bad = good;
    bad.key = test::key_of(2).public_key();
    CHECK_FALSE(verify_item(bad));
  }
}

}  // namespace farmesh
