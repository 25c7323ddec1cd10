// The step log of a paid session against what its nodes sign.
#include "driver/bill.hpp"

#include <doctest/doctest.h>

#include "unit/driver/world.hpp"

using namespace farmesh;
using namespace farmesh::test;
using namespace std::chrono_literals;
using driver::Bill;
using identity::NodeKey;

namespace {

const wire::AccountId kAccount{7};
constexpr Span kSpan{0, 3};

struct Books {
  NodeKey node = NodeKey::generate();
  NodeKey driver = NodeKey::generate();
  Bill bill{{.account = kAccount, .token_limit = 100}};
  std::shared_ptr<int> link = std::make_shared<int>();
  Bill::Tally& tally = bill.tally(node.id(), kSpan, link);

  wire::Receipt receipt(std::uint32_t sequence, std::uint64_t decode, bool final = false) const {
    wire::Receipt receipt;
    receipt.account = kAccount;
    receipt.node_id = node.id();
    receipt.span = kSpan;
    receipt.sequence = sequence;
    receipt.final = final;
    receipt.counts.decode = decode;
    return receipt;
  }
  static wire::SignedReceipt sign(const wire::Receipt& receipt, const NodeKey& key) {
    const auto body = wire::encode(receipt);
    return {receipt, key.public_key(),
            key.sign(wire::kReceiptDomain, std::as_bytes(std::span(body)))};
  }
  Errc take(const wire::Receipt& receipt) { return take(sign(receipt, node), node.id()); }
  Errc take(const wire::SignedReceipt& receipt, const NodeId& from) {
    const Result<void> taken = bill.take(from, receipt, driver);
    return taken ? Errc::ok : taken.error().code;
  }
};

/// A driver with a key, and a node that sends what the test wants.
struct Wire : Books {
  Loop loop;
  net::SimNetwork network{loop.clock, {5ms, 0ms, 0}, 1};
  std::unique_ptr<net::Transport> here = network.host("driver"), there = network.host("n");
  std::unique_ptr<driver::PeerSet> set;
  std::unique_ptr<net::Listener> listener;
  std::shared_ptr<net::Connection> peer;  // the node's end
  std::vector<wire::Frame> asked;         // of the node

  Wire() {
    driver::PeerSetOptions options = World::set_options();
    options.key = driver;
    set = std::make_unique<driver::PeerSet>(*here, options);
    net::Connection::Identity who;
    who.hello = [this] {
      wire::Hello hello;
      hello.node_id = node.id();
      hello.service.model_hash = kModelHash;
      hello.service.span = {0, kLayers};
      hello.service.num_layers = kLayers;
      return hello;
    };
    auto listening = there->listen("n:1", [this, who](std::shared_ptr<net::Link> link) {
      net::Connection::accept(
          std::move(link), loop.clock, who,
          [this](const auto&, wire::Frame frame) { asked.push_back(std::move(frame)); },
          [](const auto&, const Error&) {}, [this](const auto& ready) { peer = ready; });
    });
    REQUIRE(listening);
    listener = *std::move(listening);
    set->add("n:1");
    REQUIRE(loop.run(set->connect_all(loop.after(5s))).empty());
    loop.until([this] { return peer != nullptr; });
  }

  void send(std::span<const std::uint8_t> bytes) {
    wire::Frame frame;
    frame.verb = wire::Verb::receipt;
    frame.payload = Payload::copy_of(std::as_bytes(bytes));
    REQUIRE(peer->push(std::move(frame)));
    bool passed = false;
    loop.clock.call_at(loop.after(100ms), [&passed] { passed = true; });
    loop.until([&passed] { return passed; });
  }
};

}  // namespace

TEST_SUITE("driver/bill") {
  TEST_CASE("the driver countersigns what its log agrees with, and nothing more") {
    Books books;
    books.tally.add(5, 10);
    CHECK(books.take(books.receipt(1, 8)) == Errc::ok);
    CHECK(books.take(books.receipt(2, 11)) == Errc::ok);
    const auto judged = books.bill.receipts();
    REQUIRE(judged.size() == 2);
    REQUIRE(judged[0].driver_key);
    const auto body = wire::encode(judged[0].receipt.receipt);
    CHECK(identity::verify(*judged[0].driver_key, wire::kCountersignDomain,
                           std::as_bytes(std::span(body)), judged[0].driver_signature));
    CHECK_FALSE(judged[1].driver_key);
    CHECK(books.bill.receipts().empty());
    CHECK(books.bill.refused() == 0);
  }

  TEST_CASE("a last receipt that claims less is agreed with only if the node was lost") {
    Books books;
    books.tally.add(0, 10);
    CHECK(books.take(books.receipt(1, 9, /*final=*/true)) == Errc::ok);
    CHECK_FALSE(books.bill.receipts().front().driver_key);
    CHECK_FALSE(books.bill.complete());
    books.bill.tally(books.node.id(), kSpan, books.link);  // the same link
    CHECK(books.take(books.receipt(2, 9, true)) == Errc::ok);
    CHECK_FALSE(books.bill.receipts().front().driver_key);
    books.bill.tally(books.node.id(), kSpan, std::make_shared<int>());
    CHECK(books.take(books.receipt(3, 9, true)) == Errc::ok);
    CHECK(books.bill.receipts().front().driver_key);
    CHECK(books.bill.complete());
  }

  TEST_CASE("a prompt that was not computed there is not agreed with") {
    Books books;
    books.tally.add(5, 10);
    wire::Receipt receipt = books.receipt(1, 10);
    receipt.counts.prefill = 6;
    CHECK(books.take(receipt) == Errc::ok);
    CHECK_FALSE(books.bill.receipts().front().driver_key);
  }

  TEST_CASE("forged, foreign, replayed and shrinking receipts are refused and counted") {
    Books books;
    books.tally.add(0, 50);
    const NodeKey other = NodeKey::generate();
    REQUIRE(books.take(books.receipt(3, 20)) == Errc::ok);
    const auto refused = [&](const wire::SignedReceipt& receipt, const NodeId& from) {
      const std::uint64_t before = books.bill.refused();
      return books.take(receipt, from) == Errc::receipt_invalid &&
             books.bill.refused() == before + 1;
    };
    const NodeId& id = books.node.id();
    CHECK(refused(Books::sign(books.receipt(4, 21), other), id));
    CHECK(refused(Books::sign(books.receipt(4, 21), books.node), other.id()));
    wire::Receipt foreign = books.receipt(4, 21);
    foreign.node_id = other.id();
    CHECK(refused(Books::sign(foreign, other), other.id()));  // served nothing here
    foreign = books.receipt(4, 21);
    foreign.account = {8};
    CHECK(refused(Books::sign(foreign, books.node), id));
    foreign = books.receipt(4, 21);
    foreign.span = {0, 6};
    CHECK(refused(Books::sign(foreign, books.node), id));
    CHECK(refused(Books::sign(books.receipt(3, 20), books.node), id));
    CHECK(refused(Books::sign(books.receipt(2, 30), books.node), id));
    CHECK(refused(Books::sign(books.receipt(4, 19), books.node), id));
    CHECK(books.take(books.receipt(4, 21)) == Errc::ok);
    // Its signature is looked at where the receipts are taken out, not where they come in.
    wire::SignedReceipt forged = Books::sign(books.receipt(5, 21), books.node);
    forged.receipt.counts.decode = 50;
    const std::uint64_t before = books.bill.refused();
    CHECK(books.take(forged, id) == Errc::ok);
    CHECK(books.bill.receipts().size() == 2);
    CHECK(books.bill.refused() == before + 1);
  }

  TEST_CASE("a session of an earlier process is agreed with up to what its log had") {
    Books books;
    Bill bill{{.account = kAccount}};
    bill.expect(books.node.id(), kSpan, 5, 40);
    CHECK_FALSE(bill.complete());
    CHECK(bill.wants(books.node.id()));
    CHECK_FALSE(bill.wants(books.driver.id()));
    const auto told = [&](std::uint32_t sequence, std::uint64_t decode) {
      REQUIRE(bill.take(books.node.id(),
                        Books::sign(books.receipt(sequence, decode, /*final=*/true), books.node),
                        books.driver));
      return bool(bill.receipts().at(0).driver_key);
    };
    CHECK(told(4, 38));
    CHECK(bill.complete());
    CHECK_FALSE(bill.wants(books.node.id()));
    CHECK_FALSE(told(5, 44));  // made and not written down before the end: to be disputed
  }

  TEST_CASE("of another driver's session every node may tell, and nothing is agreed with") {
    Books books;
    Bill bill{{.account = kAccount, .of_another = true}};
    CHECK(bill.wants(books.node.id()));
    CHECK(bill.wants(books.driver.id()));
    const auto tell = [&](const wire::Receipt& receipt) {
      return bill.take(books.node.id(), Books::sign(receipt, books.node), books.driver);
    };
    REQUIRE(tell(books.receipt(1, 40)));
    CHECK(bill.wants(books.node.id()));  // it may say more yet
    REQUIRE(tell(books.receipt(2, 41, /*final=*/true)));
    CHECK_FALSE(bill.wants(books.node.id()));
    CHECK_FALSE(tell(books.receipt(3, 40, /*final=*/true)));  // smaller
    wire::Receipt elsewhere = books.receipt(1, 7, /*final=*/true);
    elsewhere.span = {9, 11};
    REQUIRE(tell(elsewhere));
    elsewhere.account = {8};
    CHECK_FALSE(tell(elsewhere));
    const auto told = bill.receipts();
    REQUIRE(told.size() == 3);
    for (const wire::JudgedReceipt& judged : told) CHECK_FALSE(judged.driver_key);
    for (std::uint32_t layer = 100; layer < 100 + Bill::kMaxTellers; ++layer) {
      wire::Receipt one = books.receipt(1, 1);
      one.span = {layer, layer + 1};
      (void)tell(one);
    }
    CHECK(bill.receipts().size() == Bill::kMaxTellers - 2);
  }

  TEST_CASE("a node may send so many receipts of a session and no more") {
    Books books;
    books.tally.add(0, 1);
    for (std::uint32_t i = 1; i <= Bill::kMaxReceipts; ++i) {
      REQUIRE(books.take(books.receipt(i, 1)) == Errc::ok);
    }
    CHECK(books.take(books.receipt(Bill::kMaxReceipts + 1, 1)) == Errc::receipt_invalid);
  }

  TEST_CASE("a bill is complete when every node's last receipt says what the log says") {
    Books books;
    CHECK(books.bill.complete());
    books.tally.add(0, 3);
    books.bill.tally(books.driver.id(), {3, 6}, nullptr).add(0, 3);
    CHECK_FALSE(books.bill.complete());
    CHECK(books.take(books.receipt(1, 3)) == Errc::ok);
    static_cast<void>(books.bill.receipts());
    CHECK_FALSE(books.bill.complete());
    CHECK(books.take(books.receipt(2, 3, /*final=*/true)) == Errc::ok);
    CHECK_FALSE(books.bill.complete());
    CHECK(books.bill.receipts().size() == 1);
    CHECK(books.bill.complete());
  }

  TEST_CASE("a grant is signed once, by the driver, for the model it drives") {
    Books books;
    const auto& bytes = books.bill.grant(kModelHash, books.driver);
    CHECK(&books.bill.grant(kModelHash, books.driver) == &bytes);
    const auto grant = wire::decode_signed_grant(bytes);
    REQUIRE(grant);
    CHECK(grant->grant.account == kAccount);
    CHECK(grant->grant.model_hash == kModelHash);
    CHECK(grant->grant.token_limit == 100);
    CHECK(grant->payer_key == books.driver.public_key());
    const auto body = wire::encode(grant->grant);
    CHECK(identity::verify(grant->payer_key, wire::kGrantDomain, std::as_bytes(std::span(body)),
                           grant->signature));
  }

  TEST_CASE("receipts reach their bill by the link; bytes that are none end the connection") {
    Wire mesh;
    const auto paid = std::make_shared<Bill>(driver::BillTerms{.account = kAccount});
    mesh.set->register_bill(paid);
    paid->tally(mesh.node.id(), kSpan, mesh.peer).add(0, 4);
    const auto bytes = wire::encode(Books::sign(mesh.receipt(1, 4), mesh.node));
    mesh.send(bytes);
    CHECK(paid->receipts().size() == 1);
    CHECK(mesh.set->refused_receipts() == 0);
    mesh.send(bytes);  // replayed
    CHECK(paid->refused() == 1);
    wire::Receipt unknown = mesh.receipt(2, 4);
    unknown.account = {9};
    mesh.send(wire::encode(Books::sign(unknown, mesh.node)));
    CHECK(mesh.set->refused_receipts() == 2);
    CHECK(mesh.peer->is_open());
    auto longer = bytes;
    longer.push_back(0);
    mesh.send(longer);
    CHECK_FALSE(mesh.peer->is_open());
    CHECK(mesh.set->refused_receipts() == 3);
  }

  TEST_CASE("receipts that may have been missed are asked for, now and of a node that comes back") {
    Wire mesh;
    const auto earlier = std::make_shared<Bill>(driver::BillTerms{.account = kAccount});
    earlier->expect(mesh.node.id(), kSpan, 0, 4);
    const auto elsewhere = std::make_shared<Bill>(driver::BillTerms{.account = {9}});
    elsewhere->expect(mesh.driver.id(), kSpan, 0, 4);
    mesh.set->ask_receipts(earlier);
    mesh.set->ask_receipts(elsewhere);
    mesh.loop.until([&] { return mesh.asked.size() == 1; });
    const auto accounts_of = [](const wire::Frame& frame) {
      const ByteView bytes = frame.payload.view();
      return wire::decode_accounts(
          {reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()});
    };
    CHECK(mesh.asked[0].verb == wire::Verb::receipt);
    CHECK(*accounts_of(mesh.asked[0]) == std::vector<wire::AccountId>{kAccount});

    std::exchange(mesh.peer, nullptr)->close();
    mesh.loop.until([&] { return !mesh.set->is_connected("n:1"); });
    REQUIRE(mesh.loop.run(mesh.set->connect_all(mesh.loop.after(5s), true)).empty());
    mesh.loop.until([&] { return mesh.asked.size() == 2; });
    CHECK(*accounts_of(mesh.asked[1]) == std::vector<wire::AccountId>{kAccount});
    mesh.send(wire::encode(Books::sign(mesh.receipt(7, 4, /*final=*/true), mesh.node)));
    CHECK(earlier->receipts().size() == 1);
    CHECK(earlier->complete());
    CHECK(mesh.asked.size() == 2);
  }
}
