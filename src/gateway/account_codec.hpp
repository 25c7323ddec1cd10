// Bodies of the account routes: a wallet's login, a new API key.
#pragma once

#include <string>
#include <string_view>

#include "gateway/problem.hpp"
#include "ledger/access.hpp"

namespace farmesh::gateway {

struct LoginRequest {
  std::string wallet;     // at most 64 bytes, as it came
  std::string signature;  // 2,050
  std::string message;    // 1,024
};

/// Fail with 400, which names the field.
Checked<LoginRequest> parse_login(std::string_view body);
/// A key as it is wanted: id and times are the ledger's to give. Its account's and tier's names are
/// the ledger's to check.
Checked<ledger::ApiKey> parse_key(std::string_view body);

}  // namespace farmesh::gateway
