#include "net/accept_gate.hpp"

#include <chrono>
#include <string>
#include <vector>

#include <doctest/doctest.h>

namespace farmesh {
namespace {

using namespace std::chrono_literals;
using net::AcceptGate;

net::LinkLimits limits() {
  net::LinkLimits limits;
  limits.max_accepted_links = 8;
  limits.max_links_per_address = 4;
  limits.max_links_per_key = 2;
  limits.handshakes_per_second = 10;
  limits.handshake_burst = 6;
  return limits;
}

NodeId id(std::uint8_t number) {
  NodeId id{};
  id[0] = number;
  return id;
}

Errc refusal(const Result<AcceptGate::Ticket>& ticket) {
  return ticket ? Errc::ok : ticket.error().code;
}

}  // namespace

TEST_SUITE("net/accept_gate") {
  TEST_CASE("an address has its share of links, and gets it back when they end") {
    AcceptGate gate(limits());
    std::vector<AcceptGate::Ticket> held;
    for (int i = 0; i < 4; ++i) held.push_back(*gate.admit("a", TimePoint{}));
    CHECK(refusal(gate.admit("a", TimePoint{})) == Errc::busy);
    CHECK(gate.admit("b", TimePoint{}));
    held.pop_back();
    CHECK(gate.links() == 3);
    CHECK(gate.admit("a", TimePoint{}));
  }

  TEST_CASE("all addresses together have no more links than the node takes") {
    AcceptGate gate(limits());
    std::vector<AcceptGate::Ticket> held;
    for (int i = 0; i < 8; ++i) held.push_back(*gate.admit(std::to_string(i), TimePoint{}));
    CHECK(refusal(gate.admit("one more", TimePoint{})) == Errc::busy);
    held.clear();
    CHECK(gate.admit("one more", TimePoint{}));
  }

  TEST_CASE("an address that begins handshakes in a flood is slowed to its rate") {
    AcceptGate gate(limits());
    TimePoint now{};
    int admitted = 0;
    for (int i = 0; i < 1'000; ++i) admitted += gate.admit("a", now) ? 1 : 0;
    CHECK(admitted == 6);
    CHECK(refusal(gate.admit("a", now)) == Errc::quota);
    CHECK(gate.admit("b", now));
    for (int i = 0; i < 1'000; ++i) {
      now += 1ms;
      admitted += gate.admit("a", now) ? 1 : 0;
    }
    CHECK(admitted <= 16);
    CHECK(admitted >= 15);
  }

  TEST_CASE("a node has its share of links, whatever its addresses") {
    AcceptGate gate(limits());
    std::vector<AcceptGate::Ticket> held;
    for (const char* address : {"a", "b"}) {
      held.push_back(*gate.admit(address, TimePoint{}));
      CHECK(held.back().identify(id(1)));
    }
    {
      AcceptGate::Ticket third = *gate.admit("c", TimePoint{});
      const Result<void> refused = third.identify(id(1));
      REQUIRE_FALSE(refused);
      CHECK(refused.error().code == Errc::quota);
      CHECK(gate.admit("c", TimePoint{})->identify(id(2)));
    }
    held.pop_back();
    CHECK(gate.admit("d", TimePoint{})->identify(id(1)));
  }

  TEST_CASE("addresses that come and go are forgotten, and a sea of them is refused") {
    net::LinkLimits wide = limits();
    wide.max_accepted_links = 1'000'000;
    AcceptGate gate(wide);
    TimePoint now{};
    int admitted = 0;
    for (int i = 0; i < 20'000; ++i) admitted += gate.admit(std::to_string(i), now) ? 1 : 0;
    CHECK(admitted < 20'000);
    CHECK(refusal(gate.admit("another", now)) == Errc::busy);
    now += 2s;
    CHECK(gate.admit("another", now));
  }

  TEST_CASE("tickets may outlive their gate") {
    auto gate = std::make_unique<AcceptGate>(limits());
    AcceptGate::Ticket ticket = *gate->admit("a", TimePoint{});
    gate.reset();
    CHECK(ticket.identify(id(1)));
  }
}

}  // namespace farmesh
