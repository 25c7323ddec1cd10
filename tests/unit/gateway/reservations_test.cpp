// Users who pay by reservation: what they sign over HTTP, and the request that it pays for.
#include <string>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "base/digest.hpp"
#include "evm/signature.hpp"
#include "evm/typed_data.hpp"
#include "ledger/escrow_reservations.hpp"
#include "payout/reservation.hpp"
#include "unit/gateway/openapi_schema.hpp"
#include "unit/gateway/scripted_model.hpp"

namespace farmesh::test {
namespace {

using nlohmann::json;

constexpr std::uint64_t kChain = 97;
const evm::Address kEscrow = *evm::parse_address("0x52908400098527886E0F7030069857D2E4169EE7");

/// A coordinator with an escrow, and a user whose wallet is logged in.
struct ReservationWorld : World {
  evm::PrivateKey wallet = evm::PrivateKey::generate();
  std::string account = evm::to_lower_case(wallet.address());
  std::string token;

  explicit ReservationWorld(evm::ContractWallets contracts = {})
      : World(options(std::move(contracts))) {
    token = log_in(wallet);
    deposit("1");
  }

  static Options options(evm::ContractWallets contracts) {
    Options options;
    options.coordinator.escrow = gateway::EscrowPlace{kChain, kEscrow};
    options.coordinator.gatekeeper.contract_wallets = std::move(contracts);
    return options;
  }
  void deposit(const char* amount) {
    REQUIRE(ledger::Credits(store).deposit(account, *Far::parse(amount), "a deposit"));
  }
  std::string log_in(const evm::PrivateKey& with) {
    const std::string address = evm::to_string(with.address());
    const std::string message = get("/api/auth/nonce?wallet=" + address).at("message");
    const auto signature = sign(with, evm::personal_digest(message)).to_bytes();
    const json body{
        {"wallet_address", address}, {"message", message}, {"signature", "0x" + to_hex(signature)}};
    return post("/api/auth/login", body).at("token");
  }
  std::int64_t in(std::chrono::seconds ahead) const {
    const auto now = std::chrono::system_clock::now() + ahead;
    return std::chrono::duration_cast<std::chrono::seconds>(now.time_since_epoch()).count();
  }
  json terms(const std::string& request, const char* amount = "0.1") const {
    return {
        {"request_id", request}, {"amount_far", amount}, {"deadline", in(std::chrono::hours(1))}};
  }
  /// As a wallet does it that was handed the typed data.
  static std::string sign_typed(const evm::PrivateKey& key, const json& typed) {
    const json& message = typed.at("message");
    evm::Reservation terms;
    terms.user = *evm::parse_address(message.at("user").get<std::string>());
    REQUIRE(evm::parse_hex0x_into(message.at("requestId").get<std::string>(), terms.request_id));
    terms.amount = *evm::U256::parse_decimal(message.at("amount").get<std::string>());
    terms.deadline = std::stoull(message.at("deadline").get<std::string>());
    const json& domain = typed.at("domain");
    const auto escrow = evm::parse_address(domain.at("verifyingContract").get<std::string>());
    REQUIRE(escrow);
    const auto digest = evm::typed_digest(
        evm::escrow_domain(domain.at("chainId").get<std::uint64_t>(), *escrow), typed_of(terms));
    REQUIRE(digest);
    return "0x" + to_hex(evm::sign(key, *digest).to_bytes());
  }
  static evm::TypedStruct typed_of(const evm::Reservation& terms) { return evm::typed(terms); }

  json signed_terms(const std::string& request, const char* amount = "0.1") {
    json body = terms(request, amount);
    const json told = post("/api/reservations/typed-data", body, 200, token);
    body["signature"] = sign_typed(wallet, told.at("typed_data"));
    return body;
  }
  json generate(const std::string& request, int status) {
    return post("/api/inference/generate",
                {{"prompt", "Hi"},
                 {"stream", false},
                 {"max_tokens", 4},
                 {"user_wallet", account},
                 {"request_id", request}},
                status, token);
  }
  std::string code(const char* path, const json& body, int status) {
    return post(path, body, status, token).value("code", "");
  }
};

}  // namespace

TEST_SUITE("gateway/reservations") {
  TEST_CASE("a user reads what to sign, signs, waits until it is open, and is served by it") {
    ReservationWorld world;
    const json body = world.signed_terms("r1");
    const json made = world.post("/api/reservations", body, 201, world.token);
    CHECK(made.at("status") == "signed");
    CHECK(made.at("user_wallet") == world.account);
    CHECK(made.at("request_key") == evm::to_hex0x(payout::request_key("r1")));
    CHECK(world.send("GET", "/api/reservations/r1", {}, world.token)
              .body.find(R"("amount_far":0.1,)") != std::string::npos);
    // Twice is once, and nothing is served before the escrow has it.
    CHECK(world.post("/api/reservations", body, 201, world.token) == made);
    CHECK(world.generate("r1", 409).at("code") == "ledger_conflict");
    CHECK(ledger::Credits(world.store).account(world.account)->available() == *Far::parse("0.9"));
    // What the payer would open is what was signed.
    ledger::EscrowReservations reservations(world.store);
    REQUIRE(payout::check_signature(*reservations.find("r1"), kChain, kEscrow));
    REQUIRE(reservations.opened("r1"));

    CHECK(world.get("/api/reservations/r1", 200, world.token).at("status") == "open");
    CHECK(world.generate("r1", 200).at("cost_far") == 0.0004);
    const json served = world.get("/api/reservations/r1", 200, world.token);
    CHECK(served.at("status") == "served");
    CHECK(served.at("cost_far") == 0.0004);
  }

  TEST_CASE("the OpenAPI document's schemas fit what these routes take and answer") {
    ReservationWorld world;
    const json document = world.get("/openapi.json");
    const auto check = [&](const std::string& schema, const json& value) {
      INFO(schema, " ", value.dump());
      CHECK(fault(document, {{"$ref", "#/components/schemas/" + schema}}, value) == "");
    };
    check("ReservationTerms", world.terms("r1"));
    check("TypedReservation",
          world.post("/api/reservations/typed-data", world.terms("r1"), 200, world.token));
    const json body = world.signed_terms("r1");
    check("SignedReservation", body);
    check("Reservation", world.post("/api/reservations", body, 201, world.token));
    check("Reservation", world.get("/api/reservations/r1", 200, world.token));
    REQUIRE(ledger::EscrowReservations(world.store).refused("r1", "its deadline passed"));
    check("Reservation", world.get("/api/reservations/r1", 200, world.token));
    check("Error", world.get("/api/reservations/r2", 404, world.token));
  }

  TEST_CASE("terms that nobody signed, or that another wallet signed, are not taken") {
    ReservationWorld world;
    const json good = world.signed_terms("r1");
    for (const auto& [field, value] : {std::pair<const char*, json>{"request_id", "r2"},
                                       {"amount_far", "0.2"},
                                       {"deadline", good.at("deadline").get<std::int64_t>() + 1},
                                       {"signature", "0x" + std::string(128, '1') + "1b"},
                                       {"signature", "0x00"}}) {
      CAPTURE(field);
      json bad = good;
      bad[field] = value;
      CHECK(world.code("/api/reservations", bad, 403) == "wallet_signature_invalid");
    }
    json other = good;
    other["signature"] = ReservationWorld::sign_typed(
        evm::PrivateKey::generate(),
        world.post("/api/reservations/typed-data", world.terms("r1"), 200, world.token)
            .at("typed_data"));
    CHECK(world.code("/api/reservations", other, 403) == "wallet_signature_invalid");
    CHECK(world.get("/api/reservations/r1", 404, world.token).at("code") == "not_found");
  }

  TEST_CASE("only who is logged in as the wallet reserves for it, or sees what is reserved") {
    ReservationWorld world;
    const json body = world.signed_terms("r1");
    CHECK(world.post("/api/reservations", body, 403).at("code") == "wallet_not_authenticated");
    const std::string stranger = world.log_in(evm::PrivateKey::generate());
    CHECK(world.post("/api/reservations", body, 403, stranger).at("code") ==
          "wallet_signature_invalid");
    json named = body;
    named["user_wallet"] = world.account;
    CHECK(world.post("/api/reservations", named, 403, stranger).at("code") ==
          "wallet_not_authenticated");
    world.post("/api/reservations", named, 201, world.token);
    world.get("/api/reservations/r1", 404, stranger);
    world.get("/api/reservations/r1", 404);
    CHECK(world.post("/api/reservations", body, 401, "far_x").at("code") == "invalid_api_key");
  }

  TEST_CASE("bodies and terms out of bounds are refused, with the field's name") {
    ReservationWorld world;
    const json good = world.signed_terms("r1");
    const auto refused = [&](const char* field, const json& value) {
      json bad = good;
      bad[field] = value;
      CAPTURE(bad.dump());
      CHECK(world.post("/api/reservations", bad, 400, world.token).at("param") == field);
      if (std::string(field) == "signature") return;
      bad.erase("signature");
      CHECK(world.post("/api/reservations/typed-data", bad, 400, world.token).at("param") == field);
    };
    refused("request_id", nullptr);
    refused("request_id", "");
    refused("request_id", "two words");
    refused("request_id", std::string(256, 'x'));
    refused("amount_far", nullptr);
    refused("amount_far", "0");
    refused("amount_far", "-1");
    refused("amount_far", "0.000000001");
    refused("amount_far", "99999999999999");
    refused("amount_far", 0.1);
    refused("deadline", nullptr);
    refused("deadline", "soon");
    refused("deadline", world.in(std::chrono::minutes(4)));
    refused("deadline", world.in(std::chrono::days(31)));
    refused("deadline", 1);
    refused("user_wallet", "0x12");
    refused("signature", nullptr);
    refused("signature", "0x");
    refused("signature", "0x1");
    refused("signature", "0x" + std::string(2'050, '1'));
    refused("nonce", 1);
    json unasked = good;
    CHECK(world.post("/api/reservations/typed-data", unasked, 400, world.token).at("param") ==
          "signature");
  }

  TEST_CASE("more than there is, another amount for the same request, and a crowd are refused") {
    ReservationWorld world;
    CHECK(world.code("/api/reservations", world.signed_terms("rich", "5"), 402) ==
          "insufficient_credit");
    world.post("/api/reservations", world.signed_terms("r1"), 201, world.token);
    CHECK(world.code("/api/reservations", world.signed_terms("r1", "0.2"), 409) ==
          "ledger_conflict");
    for (int i = 2; i <= 16; ++i) {
      const std::string id = "r" + std::to_string(i);
      world.post("/api/reservations", world.signed_terms(id, "0.01"), 201, world.token);
    }
    CHECK(world.code("/api/reservations", world.signed_terms("r17", "0.01"), 429) ==
          "rate_limit_exceeded");
    REQUIRE(ledger::EscrowReservations(world.store).refused("r16", "revoked"));
    world.post("/api/reservations", world.signed_terms("r17", "0.01"), 201, world.token);
  }

  TEST_CASE("a wallet that is a contract logs in and signs as its contract says") {
    const evm::Address contract = *evm::parse_address("0x" + std::string(40, '7'));
    const std::string accepted = "0x" + std::string(2 * 130, 'a');  // of two owners
    Error away{};
    const auto contracts = [&](const evm::Address& who, const evm::Bytes32&,
                               evm::BytesView signature) -> Result<bool> {
      if (away.code != Errc{}) return away;
      return who == contract && evm::to_hex0x(signature) == accepted;
    };
    ReservationWorld world(contracts);
    const std::string address = evm::to_string(contract);
    const auto login = [&](const std::string& signature) {
      const std::string message = world.get("/api/auth/nonce?wallet=" + address).at("message");
      return json{{"wallet_address", address}, {"message", message}, {"signature", signature}};
    };
    world.post("/api/auth/login", login("0x" + std::string(130, 'b')), 401);
    const std::string token = world.post("/api/auth/login", login(accepted)).at("token");
    REQUIRE(ledger::Credits(world.store)
                .deposit(evm::to_lower_case(contract), *Far::parse("1"), "its deposit"));
    json body = world.terms("r1");
    body["signature"] = "0x" + std::string(130, 'b');
    CHECK(world.post("/api/reservations", body, 403, token).at("code") ==
          "wallet_signature_invalid");
    body["signature"] = accepted;
    away = Error{Errc::chain_unavailable, "https://secret.example does not answer"};
    const http::ClientReply later = world.send("POST", "/api/reservations", body.dump(), token);
    CHECK(later.status == 503);
    CHECK(later.headers.get("Retry-After") == "5");
    CHECK(later.body.find("secret") == std::string::npos);
    CHECK(world.post("/api/auth/login", login(accepted), 503).at("code") == "chain_unavailable");
    away = {};
    CHECK(world.post("/api/reservations", body, 201, token).at("status") == "signed");
    const auto row = ledger::EscrowReservations(world.store).find("r1");
    REQUIRE(row);
    CHECK(evm::to_hex0x(row->signature) == accepted);
  }

  TEST_CASE("a coordinator without an escrow takes none, and says so") {
    World world;
    for (const char* path : {"/api/reservations", "/api/reservations/typed-data"}) {
      CHECK(world.post(path, json::object(), 404).at("code") == "reservations_unavailable");
    }
    CHECK(world.get("/api/reservations/r1", 404).at("code") == "reservations_unavailable");
  }
}

}  // namespace farmesh::test
