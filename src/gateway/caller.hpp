// Who asks, as far as the gateway knows.
#pragma once

#include <string>

namespace farmesh::gateway {

/// The account of everybody without a key or login: `--public-budget` is its credit.
inline constexpr const char* kPublicAccount = "public";

struct Caller {
  std::string account = kPublicAccount;  // in the ledger: a wallet in lower case, or a reserved id
  std::string wallet;  // authenticated, in lower case; empty with a key of no wallet
  std::string tier = "standard";
  bool may_infer = true;
  bool may_provide = false;  // sees a provider's own numbers
  bool is_admin = false;
};

}  // namespace farmesh::gateway
