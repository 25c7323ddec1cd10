// Ledger: what sessions cost and who is owed what, as src/library.ts wraps it.
#include <string>
#include <vector>

#include "binding.hpp"

namespace farlabs {
namespace {

using namespace farmesh;

Napi::Object told(Napi::Env env, const SessionRecord& session) {
  Napi::Object row = Napi::Object::New(env);
  row.Set("sessionId", session.session_id);
  row.Set("requestId", session.request_id);
  row.Set("userWallet", session.user_wallet);
  row.Set("modelId", session.model_id);
  row.Set("status", std::string(name(session.status)));
  row.Set("tokensGenerated", session.tokens_generated);
  row.Set("promptTokens", session.prompt_tokens);
  row.Set("pricePerTokenFar", session.price_per_token.to_string());
  row.Set("totalCostFar", session.total_cost.to_string());
  row.Set("contributions", array_of(env, session.contributions, [env](const Contribution& part) {
            Napi::Object each = Napi::Object::New(env);
            each.Set("nodeId", part.node_id);
            each.Set("wallet", part.wallet);
            each.Set("tokens", part.tokens);
            each.Set("layers", array_of(env, part.layers, [](auto layer) { return layer; }));
            each.Set("paymentFar", part.payment.to_string());
            each.Set("paymentTxHash", part.payment_tx_hash);
            each.Set("isPaid", part.paid_at.has_value());
            return each;
          }));
  return row;
}

Napi::Object told(Napi::Env env, const AuditReport& report) {
  Napi::Object row = Napi::Object::New(env);
  row.Set("findings", array_of(env, report.findings, [env](const AuditFinding& finding) {
            Napi::Object each = Napi::Object::New(env);
            each.Set("table", finding.table);
            each.Set("row", finding.row);
            each.Set("what", finding.what);
            return each;
          }));
  row.Set("sessions", double(report.sessions));
  row.Set("contributions", double(report.contributions));
  row.Set("receipts", double(report.receipts));
  row.Set("earnedFar", report.earned.to_string());
  row.Set("paidFar", report.paid.to_string());
  return row;
}

class Ledger final : public Wrap<Ledger, ContributionLedger> {
 public:
  using Wrap::Wrap;

  static std::vector<Napi::ClassPropertyDescriptor<Ledger>> members() {
    return {StaticMethod("open", &Ledger::open), InstanceMethod("session", &Ledger::session),
            InstanceMethod("sessionOfRequest", &Ledger::session_of_request),
            InstanceMethod("audit", &Ledger::audit)};
  }

 private:
  static Napi::Value open(const Napi::CallbackInfo& info) {
    LedgerOptions options;
    options.url = info[0].As<Napi::String>();
    return Work<ContributionLedger>::start(
        info.Env(), [options] { return ContributionLedger::open(options); }, make);
  }

  template <class Value, class Ask>
  Napi::Value ask(const Napi::CallbackInfo& info, Ask ask) const {
    return later<Value>(info, std::move(ask),
                        [](Napi::Env env, const Value& value) { return told(env, value); });
  }

  Napi::Value session(const Napi::CallbackInfo& info) {
    const std::string id = info[0].As<Napi::String>();
    return ask<SessionRecord>(info,
                              [id](ContributionLedger& ledger) { return ledger.session(id); });
  }
  Napi::Value session_of_request(const Napi::CallbackInfo& info) {
    const std::string id = info[0].As<Napi::String>();
    return ask<SessionRecord>(
        info, [id](ContributionLedger& ledger) { return ledger.session_of_request(id); });
  }
  Napi::Value audit(const Napi::CallbackInfo& info) {
    return ask<AuditReport>(info, [](ContributionLedger& ledger) { return ledger.audit(); });
  }
};

}  // namespace

void define_ledger(Napi::Object exports) { Ledger::define(exports, "Ledger"); }

}  // namespace farlabs
