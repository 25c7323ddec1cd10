#include "wire/reach.hpp"

#include <doctest/doctest.h>

#include "wire/messages.hpp"

namespace farmesh::wire {
namespace {

RelayTicket some_ticket() {
  RelayTicket ticket;
  for (std::size_t i = 0; i < ticket.size(); ++i) ticket[i] = static_cast<std::uint8_t>(3 * i);
  return ticket;
}

}  // namespace

TEST_SUITE("wire/reach") {
  TEST_CASE("questions and answers come back as they were") {
    CHECK(decode<Reach>(encode(Reach{"[2001:db8::1]:31330"}))->address == "[2001:db8::1]:31330");
    const auto reply = decode<ReachReply>(encode(ReachReply{true, "203.0.113.7"}));
    REQUIRE(reply);
    CHECK(reply->reached);
    CHECK(reply->seen == "203.0.113.7");
    const auto relay = decode<Relay>(encode(Relay{NodeId{1, 2}, some_ticket()}));
    REQUIRE(relay);
    CHECK(relay->node == NodeId{1, 2});
    CHECK(relay->ticket == some_ticket());
    CHECK(decode<RelayReply>(encode(RelayReply{some_ticket()}))->ticket == some_ticket());
  }

  TEST_CASE("text that is too long or cannot be printed is refused, and so is no table") {
    const std::string long_text(kMaxTextField + 1, '1');
    CHECK(decode<Reach>(encode(Reach{long_text})).error().code == Errc::bad_header);
    CHECK(decode<Reach>(encode(Reach{"a\nb"})).error().code == Errc::bad_header);
    CHECK(decode<ReachReply>(encode(ReachReply{false, long_text})).error().code ==
          Errc::bad_header);
    const HeaderBytes noise(64, std::byte{0xff});
    CHECK(decode<Reach>(noise).error().code == Errc::bad_header);
    CHECK(decode<ReachReply>(noise).error().code == Errc::bad_header);
    CHECK(decode<Relay>(noise).error().code == Errc::bad_header);
    CHECK(decode<RelayReply>(noise).error().code == Errc::bad_header);
  }

  TEST_CASE("a preamble is the words and the ticket, and nothing else is one") {
    auto bytes = encode_preamble(some_ticket());
    CHECK(bytes[0] == kPreambleBegins);
    CHECK(decode_preamble(bytes) == some_ticket());
    bytes[7] = std::byte{'2'};
    CHECK_FALSE(decode_preamble(bytes));
  }
}

}  // namespace farmesh::wire
