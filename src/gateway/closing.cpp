#include "gateway/closing.hpp"

#include <algorithm>
#include <iterator>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "base/log.hpp"
#include "gateway/services.hpp"
#include "ledger/checks.hpp"
#include "ledger/proof.hpp"
#include "ledger/session_rows.hpp"

namespace farmesh::gateway {
namespace {

constexpr std::chrono::milliseconds kAskAgain{250};  // a node may have yet to notice the end
constexpr std::chrono::milliseconds kLook{10};

void complain(const Error& error) {
  log(LogLevel::error, "gateway", "an abandoned session: " + error.to_string());
}

/// Whether every node of the log's routes has said something of each run of layers that it served.
bool heard_of_all(const std::vector<wire::Receipt>& receipts, const WorkLog& log) {
  const auto heard_of = [&](const WorkHop& hop) {
    return hop.node_id.empty() ||  // the operator's own
           std::any_of(receipts.begin(), receipts.end(), [&](const wire::Receipt& receipt) {
             return receipt.span == hop.layers && to_string(receipt.node_id) == hop.node_id;
           });
  };
  const auto heard = [&](const WorkSegment& segment) {
    return std::all_of(segment.route.begin(), segment.route.end(), heard_of);
  };
  return std::all_of(log.prompt.begin(), log.prompt.end(), heard) &&
         std::all_of(log.output.begin(), log.output.end(), heard);
}

}  // namespace

void Closing::add(AbandonedSession session, std::optional<std::uint64_t> told) {
  Pending pending;
  pending.hosted = services_.models.find(session.model_id);
  pending.told = told;
  const bool local = pending.hosted == nullptr || pending.hosted->model->state().local;
  const bool streamed = session.streamed;
  pending.session = std::move(session);
  if (!local && streamed) ask(pending);
  pending_.push_back(std::move(pending));
}

void Closing::hear(ledger::UnreceiptedSession session) {
  Pending pending;
  pending.hosted = services_.models.find(session.model_id);
  if (pending.hosted == nullptr || pending.hosted->model->state().local) return;
  pending.ended = true;
  pending.session.session_id = std::move(session.session_id);
  pending.session.repeated_tokens = session.repeated_tokens;
  pending.session.prompt_charged = session.prompt_charged;
  pending.session.log = std::move(session.log);
  ask(pending);
  pending_.push_back(std::move(pending));
}

void Closing::ask(Pending& pending) {
  driver::BillTerms terms;
  terms.account = ledger::uuid_bytes(pending.session.session_id);
  terms.of_another = true;
  pending.bill = std::make_shared<driver::Bill>(terms);
  pending.asked = Clock::now();
  pending.until = pending.asked + patience_;
  pending.hosted->model->ask_receipts(pending.bill);
}

bool Closing::look() {
  for (auto at = pending_.begin(); at != pending_.end();) {
    at = try_end(*at) ? pending_.erase(at) : std::next(at);
  }
  return !pending_.empty();
}

void Closing::finish() {
  while (look()) std::this_thread::sleep_for(kLook);
}

bool Closing::try_end(Pending& pending) {
  if (!pending.bill) {
    end_as_saved(pending);
    return true;
  }
  for (const wire::JudgedReceipt& judged : pending.bill->receipts()) {
    pending.receipts.push_back(judged.receipt.receipt);
  }
  const Clock::time_point now = Clock::now();
  const bool waited = now >= pending.until;
  const WorkLog& log = pending.session.log;
  if (pending.ended && (waited || heard_of_all(pending.receipts, log))) {
    expect_receipts(pending, log);
    return true;
  }
  if (!pending.ended && try_prove(pending)) return true;
  if (waited) {
    end_as_saved(pending);
    return true;
  }
  if (now - pending.asked >= kAskAgain) {
    pending.asked = now;
    pending.hosted->model->ask_receipts(pending.bill);
  }
  return false;
}

bool Closing::try_prove(const Pending& pending) {
  const AbandonedSession& session = pending.session;
  const ModelSummary model = pending.hosted->model->state().summary;
  ledger::ProofTerms terms;
  terms.num_layers = model.num_layers;
  terms.most_tokens =
      std::min<std::uint64_t>(session.max_tokens, pending.told.value_or(UINT64_MAX));
  terms.most_prompt_tokens = session.prompt_charged ? 0 : model.context_tokens;
  terms.repeated_tokens = session.repeated_tokens;
  const ledger::Proof proof = ledger::prove(session.log, pending.receipts, terms);
  if (proof.complete) end_as_proven(pending, proof.log);
  return proof.complete;
}

void Closing::end_as_saved(const Pending& pending) {
  const std::string& id = pending.session.session_id;
  const auto ended = services_.ledger->close_abandoned({.session_id = id});
  if (!ended) return complain(ended.error());
  if (ended->empty()) return;  // another did
  log(LogLevel::warning, "gateway",
      fmt::format("ended session {} that its coordinator left, as it was saved", id));
  expect_receipts(pending, pending.session.log);
}

void Closing::end_as_proven(const Pending& pending, const WorkLog& log) {
  const AbandonedSession& session = pending.session;
  const auto ended = services_.ledger->finalize_session(
      {session.session_id, SessionStatus::failed, ledger::kAbandonedMessage, log});
  if (!ended && ended.error().code == Errc::ledger_conflict) return;  // another did
  if (!ended) return complain(ended.error());
  farmesh::log(LogLevel::warning, "gateway",
               fmt::format("ended session {} that its coordinator left: {} tokens were saved, {} "
                           "are proven",
                           session.session_id, session.log.output_tokens(), log.output_tokens()));
  expect_receipts(pending, log);
}

void Closing::expect_receipts(const Pending& pending, const WorkLog& log) {
  if (pending.hosted == nullptr || log.output.empty()) return;
  const AbandonedSession& session = pending.session;
  DoneAgain again{0, session.repeated_tokens};
  if (session.prompt_charged) {
    again.prompt_tokens = pending.hosted->model->state().summary.context_tokens;
  }
  pending.hosted->model->ask_receipts(
      services_.metering.expect(session.session_id, log, pending.receipts, again));
}

}  // namespace farmesh::gateway
