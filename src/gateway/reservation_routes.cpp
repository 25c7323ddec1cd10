// Reservations: what a user signs for one request, taken down to be opened on chain by the payer.
#include <string>
#include <utility>

#include "evm/address.hpp"
#include "gateway/json_writer.hpp"
#include "gateway/reservation_codec.hpp"
#include "gateway/routes.hpp"
#include "gateway/services.hpp"
#include "ledger/escrow_reservations.hpp"
#include "payout/reservation.hpp"

namespace farmesh::gateway {
namespace {

/// Of one account, waiting to be served. Each costs the operator a transaction or two.
constexpr std::size_t kAtOnce = 16;

void refuse(http::Responder& responder, const Problem& problem) {
  http::Headers headers;
  if (problem.retry_after_s > 0) headers.add("Retry-After", std::to_string(problem.retry_after_s));
  responder.json(problem.status, platform_error(problem), std::move(headers));
}

std::optional<Problem> unavailable(const Services& services) {
  if (services.options.escrow && services.store) return std::nullopt;
  return Problem{404, "reservations_unavailable", "This server takes no reservations.", {}};
}

std::optional<Problem> not_whose(const Caller& caller, const std::string& user_wallet) {
  const auto named = evm::parse_address(user_wallet);
  const bool other = !user_wallet.empty() && (!named || to_lower_case(*named) != caller.wallet);
  if (!caller.wallet.empty() && !other) return std::nullopt;
  return Problem{403, "wallet_not_authenticated",
                 "A reservation is its own wallet's: log in with it.", "user_wallet"};
}

/// The terms that were asked for, of the caller's own wallet.
Checked<ledger::EscrowReservation> terms_of(Services& services, const Caller& caller,
                                            const ReservationRequest& asked) {
  if (const auto wrong = not_whose(caller, asked.user_wallet)) return *wrong;
  ledger::EscrowReservation terms;
  terms.request_id = asked.request_id;
  terms.request_key = evm::to_hex0x(payout::request_key(asked.request_id));
  terms.account = caller.wallet;
  terms.amount = asked.amount;
  terms.deadline = LedgerTime(std::chrono::seconds(asked.deadline));
  terms.signature = asked.signature;
  const LedgerTime now = services.store->now();
  if (terms.deadline < now + payout::kShortestReservation ||
      terms.deadline > now + payout::kLongestReservation) {
    return invalid_request(
        "invalid_value", "Invalid 'deadline': expected 5 minutes to 30 days from now.", "deadline");
  }
  return terms;
}

Problem problem_of_signature(const Error& error) {
  if (error.code == Errc::wallet_signature_invalid) {
    return {403, "wallet_signature_invalid",
            "This wallet has not signed these terms for this escrow: "
            "POST /api/reservations/typed-data tells what is signed.",
            "signature"};
  }
  return {503, std::string(name(error.code)),
          "The chain that this wallet is a contract of cannot be asked now.", "signature", 5};
}

void tell_terms(Services& services, const http::Request& request, http::Responder responder) {
  if (const auto none = unavailable(services)) return refuse(responder, *none);
  const Checked<Caller> caller = services.gatekeeper.authenticate(request);
  if (!caller) return refuse(responder, caller.problem());
  const auto asked = parse_reservation(request.body, /*with_signature=*/false);
  if (!asked) return refuse(responder, asked.problem());
  const auto terms = terms_of(services, *caller, *asked);
  if (!terms) return refuse(responder, terms.problem());
  const auto user = evm::parse_address(terms->account);
  if (!user) return refuse(responder, problem_of(user.error()));
  const EscrowPlace& escrow = *services.options.escrow;
  JsonWriter json;
  json.begin_object().raw_field(
      "typed_data",
      payout::typed_data_json(payout::to_sign(*terms, *user), escrow.chain_id, escrow.address));
  responder.json(200, json.end_object().take());
}

void take(Services& services, const http::Request& request, http::Responder responder) {
  if (const auto none = unavailable(services)) return refuse(responder, *none);
  const Checked<Admitted> admitted = services.gatekeeper.admit(request);
  if (!admitted) return refuse(responder, admitted.problem());
  const auto asked = parse_reservation(request.body, /*with_signature=*/true);
  if (!asked) return refuse(responder, asked.problem());
  const auto terms = terms_of(services, admitted->caller, *asked);
  if (!terms) return refuse(responder, terms.problem());
  const EscrowPlace& escrow = *services.options.escrow;
  const Result<void> is_signed = payout::check_signature(
      *terms, escrow.chain_id, escrow.address, services.options.gatekeeper.contract_wallets);
  if (!is_signed) return refuse(responder, problem_of_signature(is_signed.error()));
  const auto taken = ledger::EscrowReservations(services.store).sign(*terms, kAtOnce);
  if (!taken) return refuse(responder, problem_of(taken.error()));
  responder.json(201, reservation_json(*taken), admitted->headers);
}

void show(Services& services, const http::Request& request, http::Responder responder) {
  if (const auto none = unavailable(services)) return refuse(responder, *none);
  const Checked<Caller> caller = services.gatekeeper.authenticate(request);
  if (!caller) return refuse(responder, caller.problem());
  const auto found =
      ledger::EscrowReservations(services.store).find(std::string(request.parameter("request_id")));
  // Another's is as unknown as none.
  const bool unknown =
      found ? found->account != caller->account : found.error().code == Errc::not_found;
  if (unknown) {
    return refuse(responder, {404, "not_found", "No reservation for this request_id.", {}});
  }
  if (!found) return refuse(responder, problem_of(found.error()));
  responder.json(200, reservation_json(*found));
}

}  // namespace

void add_reservation_routes(http::Router& router, Services& services) {
  const auto to = [&services](auto handle) {
    return [&services, handle](const http::Request& request, http::Responder responder) {
      handle(services, request, std::move(responder));
    };
  };
  router.post("/api/reservations/typed-data", to(tell_terms));
  router.post("/api/reservations", to(take));
  router.get("/api/reservations/{request_id}", to(show));
}

}  // namespace farmesh::gateway
