// How a turn ends: its bill, its line in the log, and what it adds to the metrics.
#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "base/assert.hpp"
#include "base/log.hpp"
#include "gateway/live_turn.hpp"
#include "gateway/services.hpp"
#include "gateway/trace.hpp"

namespace farmesh::gateway {
namespace {

const std::vector<double> kSeconds{0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300};
const std::vector<double> kTokenSeconds{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                                        0.1,   0.2,    0.5,   1,    2.5};

double seconds(std::chrono::steady_clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

}  // namespace

void LiveTurn::finish(SessionStatus status, const std::optional<Problem>& problem) {
  FARMESH_ASSERT(!finished_);
  finished_ = true;
  turn_->cancel();
  --order_.model->sessions;
  observe(status);
  log(LogLevel::info, "gateway", "turn ended",
      {{"request_id", order_.request_id},
       {"http_request_id", order_.http_request_id},
       {"trace_id", trace_id(order_.traceparent)},
       {"session_id", session_id_},
       {"model_id", order_.model->options.id},
       {"status", name(status)},
       {"tokens", std::to_string(charged_tokens())},
       {"ms", std::to_string(age().count())}});
  keep();
  services_.gatekeeper.charge_tokens(order_.admitted, charged_tokens());
  place_ = {};
  if (session_id_.empty()) return;
  SessionOutcome outcome;
  outcome.session_id = session_id_;
  outcome.status = status;
  if (problem) outcome.error_message = problem->code;
  outcome.log = work_log();
  settle(std::move(outcome));
}

void LiveTurn::settle(SessionOutcome outcome) {
  const Result<SessionRecord> written = services_.ledger->finalize_session(outcome);
  if (written) return;
  if (written.error().code == Errc::ledger_conflict) {
    // Whoever went on with this stream has ended the session, with what was saved of it by then.
    return log(LogLevel::info, "gateway", "session " + session_id_ + " was ended by another");
  }
  services_.metrics
      .counter("far_mesh_finalize_failures_total",
               "Sessions whose end the ledger did not take at first; they are tried again")
      .add();
  log(LogLevel::error, "gateway",
      "session " + session_id_ + " could not be finalised: " + written.error().to_string());
  services_.unsettled.add(std::move(outcome));
}

void LiveTurn::observe(SessionStatus status) {
  http::Metrics& metrics = services_.metrics;
  const std::string& id = order_.model->options.id;
  metrics
      .counter("far_mesh_inference_requests_total", "Inference requests that ended",
               {{"model_id", id}, {"tier", order_.tier}, {"status", std::string(name(status))}})
      .add();
  services_.latencies.add(double(age().count()));
  metrics
      .histogram("far_mesh_inference_latency_seconds", "From admission to the last token", kSeconds,
                 {{"model_id", id}})
      .observe(seconds(std::chrono::steady_clock::now() - began_));
  if (turn_->origin() != Origin::mesh) {
    metrics
        .counter("far_mesh_fallback_requests_total", "Requests that the fallback answered",
                 {{"model_id", id}})
        .add();
  }
  metrics.counter("far_mesh_tokens_generated_total", "Tokens delivered", {{"model_id", id}})
      .add(double(charged_tokens()));
  const auto prompt_counter = [&](const char* cache) {
    return metrics.counter("far_mesh_prompt_tokens_total",
                           "Prompt tokens, by whether nodes had them in cache",
                           {{"model_id", id}, {"cache", cache}});
  };
  prompt_counter("hit").add(double(cached_prompt_tokens()));
  prompt_counter("miss").add(double(computed_prompt_tokens()));
  std::uint32_t recoveries = 0;
  for (const Usage& usage : turn_->usages()) recoveries += usage.recoveries;
  metrics.counter("far_mesh_failovers_total", "Lost nodes replaced in mid-turn", {{"model_id", id}})
      .add(recoveries);
  if (!first_) return;
  metrics
      .histogram("far_mesh_time_to_first_token_seconds", "From admission to the first token",
                 kSeconds, {{"model_id", id}})
      .observe(seconds(*first_ - began_));
  const std::uint64_t tokens = charged_tokens();
  if (tokens < 2) return;
  const double each = seconds(std::chrono::steady_clock::now() - *first_) / double(tokens - 1);
  metrics
      .histogram("far_mesh_time_per_output_token_seconds", "Mean of a request, after its first",
                 kTokenSeconds, {{"model_id", id}})
      .observe(each);
  const double before = order_.model->token_ms;
  order_.model->token_ms = before == 0 ? each * 1000 : 0.9 * before + 100 * each;
}

}  // namespace farmesh::gateway
