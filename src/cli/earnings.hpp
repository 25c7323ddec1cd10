// What a wallet has earned, as a registry tells it (docs/http-api.md).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <farmesh/money.hpp>

namespace farmesh::cli {

/// By all nodes of one wallet.
struct Earnings {
  Far total;
  Far pending;  // of that, not paid yet
  std::uint64_t tokens = 0;
};

/// From the answer to GET /api/nodes/earnings/{wallet}. Nothing for what is no such answer; amounts
/// never go through a double.
std::optional<Earnings> read_earnings(std::string_view body);

/// "earned 0.0171 $FAR for 171 tokens, 0.0171 $FAR of it not yet paid".
std::string text_of(const Earnings& earnings);

}  // namespace farmesh::cli
