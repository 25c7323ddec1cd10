// Bodies of the reservation routes, and a reservation as they tell it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <farmesh/money.hpp>

#include "gateway/problem.hpp"
#include "ledger/escrow_reservations.hpp"

namespace farmesh::gateway {

struct ReservationRequest {
  std::string request_id;   // 1 to 255 bytes of printable ASCII, as the request will be sent
  Far amount;               // above zero: the most that the request may cost
  std::int64_t deadline{};  // Unix time, seconds
  std::string user_wallet;  // empty, or an address as it came
  std::vector<std::uint8_t> signature;  // empty where only the terms are told
};

/// Fails with 400, which names the field. A signature is wanted or refused.
Checked<ReservationRequest> parse_reservation(std::string_view body, bool with_signature);

/// {"request_id","request_key","user_wallet","amount_far","deadline","status","cost_far","reason"}
std::string reservation_json(const ledger::EscrowReservation& reservation);

}  // namespace farmesh::gateway
