// Sessions whose rows travel in int8, as peers see them.

#include <doctest/doctest.h>

#include "serve/peer.hpp"
#include "unit/serve/swarm_rig.hpp"
#include "wire/row_codec.hpp"

namespace farmesh::serve {
namespace {

using namespace std::chrono_literals;
using test::Bytes;
using test::bytes_of;
using test::Chain;
using test::embed;
using test::kAllLayers;
using test::kSession;
using test::names_of;
using test::Node;
using test::Pair;
using test::Tokens;

constexpr std::uint32_t kColumns = 16;

wire::Open open_message(test::Driver& driver, Span span, std::uint32_t epoch = 1,
                        std::uint32_t session = kSession) {
  wire::Open open = driver.open_message(span, epoch, session);
  open.activations = Activations::int8;
  return open;
}

void send(test::Driver& driver, const std::string& address, wire::Step step, const Tokens& ids) {
  step.dtype = DType::i8;
  step.count = static_cast<std::uint32_t>(ids.size());
  driver.step(address, step, *wire::pack_rows(embed(ids).view(), kColumns, DType::f32));
}

/// The payloads that `from` sent to `to` as steps, one after the other.
void collect(net::SimNetwork& network, const std::string& from, const std::string& to,
             Bytes& sent) {
  network.on_frame([&sent, from, to](const std::string& sender, const std::string& receiver,
                                     const wire::Frame& frame) {
    if (frame.verb != wire::Verb::step || sender != from || receiver != to) return;
    CHECK(wire::decode<wire::Step>(frame.header)->dtype == DType::i8);
    const Bytes bytes = bytes_of(frame.payload);
    sent.insert(sent.end(), bytes.begin(), bytes.end());
  });
}

}  // namespace

TEST_SUITE("serve/peer_int8") {
  TEST_CASE("rows go in blocks from peer to peer and to the driver, and are replayed as sent") {
    Chain chain;
    for (std::size_t i = 0; i < 3; ++i) {
      const auto reply =
          chain.driver.open(chain[i].address, open_message(chain.driver, Chain::kSpans[i]));
      REQUIRE(reply);
      CHECK(reply->activations == Activations::int8);
    }
    Bytes sent;
    collect(chain.network, "a", "b", sent);
    std::uint32_t position = 0;
    for (const Tokens& ids : {Tokens{1, 2, 3, 4, 5}, Tokens{6}, Tokens{7}}) {
      send(chain.driver, chain[0].address, chain.driver.step_message(position, chain.route()), ids);
      const auto reply = chain.driver.next_reply();
      CHECK(reply.message.dtype == DType::i8);
      CHECK(reply.message.rows == ids.size());
      CHECK(reply.rows.size() == ids.size() * wire::packed_row_bytes(kColumns));
      position += static_cast<std::uint32_t>(ids.size());
    }
    CHECK(sent.size() == 7 * wire::packed_row_bytes(kColumns));

    Node spare(chain.loop, chain.network, "d", Chain::kSpans[1]);
    REQUIRE(chain.driver.open(spare.address, open_message(chain.driver, Chain::kSpans[1], 2)));
    Bytes again;
    collect(chain.network, "a", "d", again);
    REQUIRE(chain.driver.replay(chain[0].address, 0, 7, {{spare.address, Chain::kSpans[1]}}, 2) ==
            Errc::ok);
    CHECK(chain.driver.next_reply().message.replay);
    CHECK(again == sent);
    // And from the spare's own history, which is made of what it computed from these.
    CHECK(chain.driver.history(spare.address)->stored_end == 7);
  }

  TEST_CASE("rows in another form than the session's are refused, and blocks that cannot be") {
    Pair pair;
    REQUIRE(pair.driver.open(pair.address, open_message(pair.driver, kAllLayers)));
    const auto told = [&] { return pair.driver.next_error().message.code; };
    pair.driver.step(pair.address, pair.driver.step_message(0), embed({1}));
    CHECK(told() == Errc::bad_shape);

    wire::Step step = pair.driver.step_message(0);
    step.dtype = DType::i8;
    step.count = 1;
    Bytes row(wire::packed_row_bytes(kColumns));
    pair.driver.step(pair.address, step, Payload::copy_of(std::span(row).first(17)));
    CHECK(told() == Errc::bad_shape);
    row[1] = std::byte{0x7f};
    row[0] = std::byte{0x80};  // an infinite scale
    pair.driver.step(pair.address, step, Payload::copy_of(row));
    CHECK(told() == Errc::bad_payload);

    send(pair.driver, pair.address, pair.driver.step_message(0), {1});  // the session goes on
    CHECK(pair.driver.next_reply().message.rows == 1);

    REQUIRE(pair.driver.open(pair.address, pair.driver.open_message(kAllLayers, 1, 9)));
    send(pair.driver, pair.address, pair.driver.step_message(0, {}, 1, 9), {1});
    CHECK(told() == Errc::bad_shape);
  }

  TEST_CASE("an open session cannot change what its rows travel in") {
    Pair pair;
    REQUIRE(pair.driver.open(pair.address, pair.driver.open_message(kAllLayers)));
    const auto again = pair.driver.open(pair.address, open_message(pair.driver, kAllLayers, 2));
    REQUIRE_FALSE(again);
    CHECK(again.error().code == Errc::invalid_argument);
    pair.driver.step(pair.address, pair.driver.step_message(0), embed({1}));
    CHECK(pair.driver.next_reply().message.dtype == DType::f32);
  }

  TEST_CASE("pages of rounded rows are no prefix of an exact session, nor the other way round") {
    Pair pair;
    const Tokens prompt = test::text(6, 9);
    wire::Open rounded = open_message(pair.driver, kAllLayers);
    rounded.page_names = names_of(prompt);
    REQUIRE(pair.driver.open(pair.address, rounded));
    send(pair.driver, pair.address, pair.driver.step_message(0), prompt);
    pair.driver.next_reply();

    wire::Open exact = pair.driver.open_message(kAllLayers, 1, 9);
    exact.page_names = names_of(prompt);
    CHECK(pair.driver.open(pair.address, exact)->held_positions == 0);
    rounded.session = test::session_id(10);
    CHECK(pair.driver.open(pair.address, rounded)->held_positions == 8);
  }
}

}  // namespace farmesh::serve
