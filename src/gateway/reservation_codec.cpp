#include "gateway/reservation_codec.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

#include "evm/address.hpp"
#include "evm/contract_wallet.hpp"
#include "gateway/json_fields.hpp"
#include "gateway/json_writer.hpp"
#include "gateway/platform_codec.hpp"

namespace farmesh::gateway {
namespace {

constexpr std::int64_t kLatest = 253'402'300'799;  // the last second of the year 9999

void read_request_id(JsonFields& fields, ReservationRequest& request) {
  request.request_id = fields.required_text("request_id", kMaxRequestIdBytes);
  const bool plain = std::all_of(request.request_id.begin(), request.request_id.end(),
                                 [](char c) { return c > 0x20 && c < 0x7f; });
  if (plain && !request.request_id.empty()) return;
  fields.fail("request_id", "invalid_value",
              "Invalid 'request_id': expected printable ASCII without spaces.");
}

void read_amount(JsonFields& fields, ReservationRequest& request) {
  const bool given = fields.find("amount_far") != nullptr;
  request.amount = fields.amount("amount_far").value_or(Far());
  if (!given) {
    fields.fail("amount_far", "missing_required_parameter",
                "Missing required parameter: 'amount_far'.");
  } else if (request.amount.is_zero()) {
    fields.fail("amount_far", "invalid_value", "Invalid 'amount_far': expected more than zero.");
  }
}

void read_deadline(JsonFields& fields, ReservationRequest& request) {
  const bool given = fields.find("deadline") != nullptr;
  request.deadline = fields.integer("deadline", 1, kLatest).value_or(0);
  if (given) return;
  fields.fail("deadline", "missing_required_parameter",
              "Missing required parameter: 'deadline', Unix time in seconds.");
}

void read_signature(JsonFields& fields, ReservationRequest& request) {
  const std::string text = fields.required_text("signature", 2 + 2 * evm::kMaxSignatureBytes);
  auto bytes = evm::parse_hex0x(text, evm::kMaxSignatureBytes);
  if (bytes && !bytes->empty()) {
    request.signature = *std::move(bytes);
    return;
  }
  fields.fail("signature", "invalid_value",
              "Invalid 'signature': expected 0x and hexadecimal digits, of 65 bytes for a key.");
}

}  // namespace

Checked<ReservationRequest> parse_reservation(std::string_view text, bool with_signature) {
  const Checked<nlohmann::json> body = parse_body(text);
  if (!body) return body.problem();
  JsonFields fields(*body);
  ReservationRequest request;
  read_request_id(fields, request);
  read_amount(fields, request);
  read_deadline(fields, request);
  request.user_wallet = fields.text("user_wallet", 64).value_or("");
  if (!request.user_wallet.empty() && !evm::parse_address(request.user_wallet)) {
    fields.fail("user_wallet", "wallet_invalid",
                "Invalid 'user_wallet': not a wallet address, or one with a wrong checksum.");
  }
  if (with_signature) read_signature(fields, request);
  fields.refuse_others();
  if (fields.failed()) return fields.problem();
  return request;
}

std::string reservation_json(const ledger::EscrowReservation& reservation) {
  JsonWriter json;
  json.begin_object().field("request_id", reservation.request_id);
  json.field("request_key", reservation.request_key).field("user_wallet", reservation.account);
  json.raw_field("amount_far", reservation.amount.to_string());
  const auto since = reservation.deadline.time_since_epoch();
  json.field("deadline", std::chrono::duration_cast<std::chrono::seconds>(since).count());
  json.field("status", name(reservation.status));
  json.raw_field("cost_far", reservation.cost.to_string()).key("reason");
  reservation.reason.empty() ? json.null() : json.value(reservation.reason);
  return json.end_object().take();
}

}  // namespace farmesh::gateway
