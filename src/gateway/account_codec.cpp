#include "gateway/account_codec.hpp"

#include "evm/contract_wallet.hpp"
#include "gateway/json_fields.hpp"

namespace farmesh::gateway {

Checked<LoginRequest> parse_login(std::string_view text) {
  const Checked<nlohmann::json> body = parse_body(text);
  if (!body) return body.problem();
  JsonFields fields(*body);
  LoginRequest login;
  login.wallet = fields.required_text("wallet_address", 64);
  login.signature = fields.required_text("signature", 2 + 2 * evm::kMaxSignatureBytes);
  login.message = fields.required_text("message", 1'024);
  fields.refuse_others();
  if (fields.failed()) return fields.problem();
  return login;
}

Checked<ledger::ApiKey> parse_key(std::string_view text) {
  const Checked<nlohmann::json> body = parse_body(text);
  if (!body) return body.problem();
  JsonFields fields(*body);
  ledger::ApiKey key;
  key.account = fields.text("account", 42).value_or("");
  key.name = fields.text("name", 128).value_or("");
  key.tier = fields.text("tier", 32).value_or("standard");
  const nlohmann::json* scopes = fields.find("scopes");
  if (scopes == nullptr) {
    key.scopes.infer = true;
  } else if (!scopes->is_array()) {
    fields.fail_type("scopes", "an array of strings", *scopes);
  } else {
    for (const nlohmann::json& scope : *scopes) {
      key.scopes.infer = key.scopes.infer || scope == "infer";
      key.scopes.provider = key.scopes.provider || scope == "provider";
      key.scopes.admin = key.scopes.admin || scope == "admin";
      if (scope != "infer" && scope != "provider" && scope != "admin") {
        fields.fail("scopes", "invalid_value",
                    "Invalid 'scopes': expected infer, provider or admin.");
      }
    }
  }
  fields.refuse_others();
  if (fields.failed()) return fields.problem();
  return key;
}

}  // namespace farmesh::gateway
