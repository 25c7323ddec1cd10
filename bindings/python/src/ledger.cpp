// ContributionLedger: what sessions cost and who is owed what, with the C++ names.
#include <string>

#include "binding.hpp"

namespace farlabs {
namespace {

using namespace farmesh;

using Ledger = std::shared_ptr<ContributionLedger>;

Ledger open_ledger(const std::string& url) {
  LedgerOptions options;
  options.url = url;
  return shared(value_of(wait_for([options] { return ContributionLedger::open(options); })));
}

py::dict session_dict(const SessionRecord& session) {
  py::list contributions;
  for (const Contribution& part : session.contributions) {
    py::dict row;
    row["node_id"] = part.node_id;
    row["wallet"] = part.wallet;
    row["tokens"] = part.tokens;
    row["layers"] = part.layers;
    row["payment_far"] = decimal(part.payment);
    row["payment_tx_hash"] = part.payment_tx_hash;
    row["is_paid"] = part.paid_at.has_value();
    contributions.append(row);
  }
  py::dict told;
  told["session_id"] = session.session_id;
  told["request_id"] = session.request_id;
  told["user_wallet"] = session.user_wallet;
  told["model_id"] = session.model_id;
  told["status"] = std::string(name(session.status));
  told["tokens_generated"] = session.tokens_generated;
  told["prompt_tokens"] = session.prompt_tokens;
  told["price_per_token_far"] = decimal(session.price_per_token);
  told["total_cost_far"] = decimal(session.total_cost);
  told["contributions"] = contributions;
  return told;
}

py::dict audit_of(const Ledger& ledger) {
  const AuditReport report = value_of(wait_for([ledger] { return ledger->audit(); }));
  py::list findings;
  for (const AuditFinding& finding : report.findings) {
    findings.append(py::make_tuple(finding.table, finding.row, finding.what));
  }
  py::dict told;
  told["findings"] = findings;
  told["sessions"] = report.sessions;
  told["contributions"] = report.contributions;
  told["receipts"] = report.receipts;
  told["earned_far"] = decimal(report.earned);
  told["paid_far"] = decimal(report.paid);
  return told;
}

}  // namespace

void register_ledger(py::module_& module) {
  py::class_<ContributionLedger, Ledger>(module, "ContributionLedger",
                                         "Which session cost what, and what each node is owed.")
      .def_static("open", open_ledger, py::arg("url"),
                  "A SQLite file, or postgresql://…; it is migrated if need be.")
      .def(
          "session",
          [](const Ledger& ledger, const std::string& id) {
            return session_dict(value_of(wait_for([ledger, id] { return ledger->session(id); })));
          },
          py::arg("session_id"))
      .def(
          "session_of_request",
          [](const Ledger& ledger, const std::string& id) {
            return session_dict(
                value_of(wait_for([ledger, id] { return ledger->session_of_request(id); })));
          },
          py::arg("request_id"))
      .def("audit", audit_of, "Computes every sum again, and tells every difference.");
}

}  // namespace farlabs
