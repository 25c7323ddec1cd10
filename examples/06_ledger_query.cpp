// What the ledger knows of one request: its cost, and who is owed which part of it. Without a
// request it audits the whole book.
//
//   06_ledger_query ledger.sqlite
//   06_ledger_query postgresql://… chatcmpl-…
#include <cstdio>

#include <farmesh/farmesh.hpp>

namespace {

int fail(const farmesh::Error& error) {
  std::fprintf(stderr, "%s\n", error.to_string().c_str());
  return 1;
}

int audit(farmesh::ContributionLedger& ledger) {
  const auto report = ledger.audit();
  if (!report) return fail(report.error());
  for (const farmesh::AuditFinding& finding : report->findings) {
    std::printf("%s %s: %s\n", finding.table.c_str(), finding.row.c_str(), finding.what.c_str());
  }
  std::printf("%llu sessions, %s $FAR earned, %s paid\n",
              static_cast<unsigned long long>(report->sessions), report->earned.to_string().c_str(),
              report->paid.to_string().c_str());
  return report->findings.empty() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2 && argc != 3) {
    std::fprintf(stderr, "usage: 06_ledger_query LEDGER [REQUEST_ID]\n");
    return 2;
  }
  auto ledger = farmesh::ContributionLedger::open({.url = argv[1]});
  if (!ledger) return fail(ledger.error());
  if (argc == 2) return audit(*ledger);

  const auto session = ledger->session_of_request(argv[2]);
  if (!session) return fail(session.error());
  std::printf("%u tokens of %s: %s $FAR, %s\n", session->tokens_generated,
              session->model_id.c_str(), session->total_cost.to_string().c_str(),
              std::string(name(session->status)).c_str());
  for (const farmesh::Contribution& part : session->contributions) {
    std::printf("%.12s: %u tokens, %s $FAR, %s\n", part.node_id.c_str(), part.tokens,
                part.payment.to_string().c_str(),
                part.paid_at ? part.payment_tx_hash.c_str() : "not yet paid");
  }
  return 0;
}
