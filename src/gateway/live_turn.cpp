#include "gateway/live_turn.hpp"

#include <algorithm>
#include <utility>

#include "base/assert.hpp"
#include "base/digest.hpp"
#include "base/log.hpp"
#include "gateway/services.hpp"
#include "ledger/credits.hpp"

namespace farmesh::gateway {
namespace {

// Prices and token counts are bounded so that no bill comes near 64 bits.
Far times(Far price, std::uint64_t count) {
  const std::optional<Far> product = price.times(std::int64_t(count));
  FARMESH_ASSERT(product.has_value());
  return *product;
}

// max_tokens of each input, cut to what `budget` buys in all.
void cut_to_budget(TurnOrder& order, Far budget) {
  const Far price = order.model->options.price_per_token;
  if (price.is_zero()) return;
  std::uint64_t affordable = std::uint64_t(budget.units() / price.units());
  for (TurnInput& input : order.inputs) {
    const std::uint64_t share = std::min<std::uint64_t>(input.options.max_tokens, affordable);
    input.options.max_tokens = std::uint32_t(share);
    affordable -= share;
  }
}

int priority_of(const std::string& tier) {
  return tier == "enterprise" ? 2 : tier == "premium" ? 1 : 0;
}

std::uint32_t most_tokens(const TurnOrder& order) {
  std::uint64_t tokens = 0;
  for (const TurnInput& input : order.inputs) tokens += input.options.max_tokens;
  return std::uint32_t(std::min<std::uint64_t>(tokens, INT32_MAX));
}

const std::vector<double> kSeconds{0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300};
const std::vector<double> kTokenSeconds{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                                        0.1,   0.2,    0.5,   1,    2.5};

double seconds(std::chrono::steady_clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

}  // namespace

std::uint64_t most_prompt_tokens(const std::vector<TurnInput>& inputs) {
  constexpr std::uint64_t kAround = 16;
  std::uint64_t tokens = 0;
  for (const TurnInput& input : inputs) {
    tokens += kAround;
    if (const auto* text = std::get_if<std::string>(&input.prompt)) {
      tokens += text->size();
    } else if (const auto* ids = std::get_if<std::vector<TokenId>>(&input.prompt)) {
      tokens += ids->size();
    } else {
      for (const ChatMessage& message : std::get<std::vector<ChatMessage>>(input.prompt)) {
        tokens += message.content.size() + kAround;
      }
    }
  }
  return tokens;
}

LiveTurn::LiveTurn(Services& services, TurnOrder order)
    : services_(services), order_(std::move(order)), began_(std::chrono::steady_clock::now()) {
  delivered_.resize(order_.inputs.size());
}

Checked<std::shared_ptr<LiveTurn>> LiveTurn::open(Services& services, TurnOrder order,
                                                  http::Responder& responder) {
  std::shared_ptr<LiveTurn> live(new LiveTurn(services, std::move(order)));
  // The exchange lives as long as the turn does: what it calls must not keep it alive.
  responder.on_close([weak = std::weak_ptr(live)] {
    if (const auto turn = weak.lock()) turn->cancel();
  });
  if (const std::optional<Problem> refused = live->admit()) return *refused;
  live->start();
  services.live.add(live);
  return live;
}

std::optional<Problem> LiveTurn::admit() {
  // No turn is longer than the context, so no more than that needs to be promised for it.
  const std::uint32_t context = order_.model->model->state().summary.context_tokens;
  for (TurnInput& input : order_.inputs) {
    input.options.max_tokens = std::min(input.options.max_tokens, context);
  }
  if (order_.max_cost) cut_to_budget(order_, *order_.max_cost);
  if (most_tokens(order_) == 0) {
    return Problem{402, "max_cost_too_low", "max_cost_far does not buy a single token.",
                   "max_cost_far"};
  }
  const Caller& caller = order_.admitted.caller;
  Checked<FairQueue::Place> place =
      services_.queue.acquire(caller.account, priority_of(caller.tier), ticket_);
  if (!place) return place.problem();
  place_ = *std::move(place);
  if (!services_.ledger) return std::nullopt;
  if (const Result<void> reserved = reserve(); !reserved) return problem_of(reserved.error());
  if (const Result<void> begun = begin_session(); !begun) {
    (void)ledger::Credits(services_.store).release(order_.request_id);
    return problem_of(begun.error());
  }
  return std::nullopt;
}

// Sets aside what the turn may cost at most; what is not delivered comes back when it ends.
Result<void> LiveTurn::reserve() {
  ledger::Credits credits(services_.store);
  const HostedModelOptions& options = order_.model->options;
  const std::string& account = order_.admitted.caller.account;
  const Far prompts = times(options.price_per_prompt_token, most_prompt_tokens(order_.inputs));
  if (order_.may_shorten && !options.price_per_token.is_zero()) {
    const Result<ledger::CreditAccount> credit = credits.account(account);
    if (!credit) return credit.error();
    const Far left = credit->available().minus(prompts).value_or(Far());
    if (left >= options.price_per_token) cut_to_budget(order_, left);
  }
  const Far output = times(options.price_per_token, most_tokens(order_));
  const Far all = Far::from_units(prompts.units() + output.units());
  if (all.is_zero()) return {};
  const auto reserved = credits.reserve(account, order_.request_id, all);
  if (!reserved) return reserved.error();
  return {};
}

void LiveTurn::start() {
  ++order_.model->sessions;
  auto turn = std::make_unique<Turn>(*order_.model->model, order_.inputs);
  const std::lock_guard lock(mutex_);
  turn_ = std::move(turn);
  if (cancelled_) turn_->cancel();
}

void LiveTurn::cancel() {
  services_.queue.call_off(ticket_);
  const std::lock_guard lock(mutex_);
  cancelled_ = true;
  if (turn_) turn_->cancel();
}

Result<void> LiveTurn::begin_session() {
  const SamplingOptions& sampling = order_.inputs.front().options.sampling;
  SessionStart start;
  start.request_id = order_.request_id;
  start.user_wallet = order_.admitted.caller.account;
  start.model_id = order_.model->options.id;
  start.body_digest = order_.body_digest;
  start.max_tokens = most_tokens(order_);
  start.temperature = sampling.temperature;
  start.top_p = sampling.top_p;
  start.price_per_token = order_.model->options.price_per_token;
  start.price_per_prompt_token = order_.model->options.price_per_prompt_token;
  start.platform_fee_bps = services_.options.platform_fee_bps;
  start.split = services_.options.split;
  start.coordinator = services_.options.coordinator_id;
  const Result<SessionOpened> opened = services_.ledger->begin_session(start);
  if (!opened) return opened.error();
  if (!opened->is_new) return {Errc::ledger_conflict, "this request_id had a session before"};
  session_id_ = opened->session_id;
  return {};
}

LiveTurn::~LiveTurn() {
  if (turn_ && !finished_) finish(SessionStatus::cancelled);
}

Checked<std::optional<Turn::Item>> LiveTurn::next() {
  Result<std::optional<Turn::Item>> item = turn_->next();
  if (!item) {
    log(LogLevel::warning, "gateway",
        "request " + order_.request_id + " failed: " + item.error().to_string());
    return problem_of(item.error());
  }
  if (*item && (*item)->token && !first_) first_ = std::chrono::steady_clock::now();
  return *std::move(item);
}

void LiveTurn::delivered(std::uint32_t sequence) {
  {
    const std::lock_guard lock(mutex_);
    ++delivered_[sequence];
  }
  ++delivered_in_all_;
}

std::uint64_t LiveTurn::prompt_tokens() const {
  std::uint64_t tokens = 0;
  for (const Usage& usage : turn_->usages()) tokens += usage.prompt_tokens;
  return tokens;
}

Far LiveTurn::cost(std::uint64_t more) const {
  const HostedModelOptions& options = order_.model->options;
  const std::uint64_t tokens = delivered_in_all_ + more;
  const Far output = times(options.price_per_token, tokens);
  if (options.price_per_prompt_token.is_zero() || tokens == 0) return output;
  return Far::from_units(output.units() +
                         times(options.price_per_prompt_token, prompt_tokens()).units());
}

std::chrono::milliseconds LiveTurn::age() const {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() -
                                                               began_);
}

std::vector<NodeUsed> LiveTurn::nodes_used() const {
  std::vector<NodeUsed> nodes;
  for (const Usage& usage : turn_->usages()) {
    for (const RouteUsage& route : usage.routes) {
      for (const HopUsage& hop : route.hops) {
        NodeUsed used{order_.model->model->node_id(hop.peer), hop.span};
        if (used.node_id.empty()) used.node_id = "coordinator";
        const auto same = [&used](const NodeUsed& other) {
          return other.node_id == used.node_id && other.layers == used.layers;
        };
        if (std::none_of(nodes.begin(), nodes.end(), same)) nodes.push_back(std::move(used));
      }
    }
  }
  std::stable_sort(nodes.begin(), nodes.end(), [](const NodeUsed& a, const NodeUsed& b) {
    return a.layers.begin < b.layers.begin;
  });
  return nodes;
}

WorkLog LiveTurn::work_log() const {
  WorkLog log;
  const std::vector<std::uint32_t> delivered = [this] {
    const std::lock_guard lock(mutex_);
    return delivered_;
  }();
  const std::vector<Usage> usages = turn_->usages();
  for (std::size_t i = 0; i < usages.size(); ++i) {
    std::uint32_t left = delivered[i];
    bool prompt_done = left == 0;  // nothing was delivered: nothing is owed
    for (const RouteUsage& route : usages[i].routes) {
      std::vector<WorkHop> hops;
      for (const HopUsage& hop : route.hops) {
        hops.push_back({order_.model->model->node_id(hop.peer), hop.span});
      }
      if (!prompt_done) log.add_prompt(hops, usages[i].prompt_tokens);
      prompt_done = true;
      const std::uint32_t tokens = std::min(left, route.tokens);
      if (tokens > 0) log.add_output(hops, tokens);
      left -= tokens;
    }
  }
  return log;
}

std::optional<SessionProgress> LiveTurn::progress() const {
  if (session_id_.empty()) return std::nullopt;
  return SessionProgress{session_id_, work_log()};
}

void LiveTurn::finish(SessionStatus status, const std::optional<Problem>& problem) {
  FARMESH_ASSERT(!finished_);
  finished_ = true;
  turn_->cancel();
  --order_.model->sessions;
  observe(status);
  services_.gatekeeper.charge_tokens(order_.admitted, delivered_in_all_);
  place_ = {};
  if (!services_.ledger) return;
  SessionOutcome outcome;
  outcome.session_id = session_id_;
  outcome.status = status;
  if (problem) outcome.error_message = problem->code;
  outcome.log = work_log();
  // What cannot be written now is closed from its last checkpoint when the ledger is back.
  const Result<SessionRecord> written = services_.ledger->finalize_session(outcome);
  if (!written) {
    log(LogLevel::error, "gateway",
        "session " + session_id_ + " could not be finalised: " + written.error().to_string());
  }
}

void LiveTurn::observe(SessionStatus status) {
  http::Metrics& metrics = services_.metrics;
  const std::string& id = order_.model->options.id;
  metrics
      .counter("far_mesh_inference_requests_total", "Inference requests that ended",
               {{"model_id", id},
                {"tier", order_.admitted.caller.tier},
                {"status", std::string(name(status))}})
      .add();
  metrics
      .histogram("far_mesh_inference_latency_seconds", "From admission to the last token", kSeconds,
                 {{"model_id", id}})
      .observe(seconds(std::chrono::steady_clock::now() - began_));
  metrics.counter("far_mesh_tokens_generated_total", "Tokens delivered", {{"model_id", id}})
      .add(double(delivered_in_all_));
  std::uint32_t recoveries = 0;
  for (const Usage& usage : turn_->usages()) recoveries += usage.recoveries;
  metrics.counter("far_mesh_failovers_total", "Lost nodes replaced in mid-turn", {{"model_id", id}})
      .add(recoveries);
  if (!first_) return;
  metrics
      .histogram("far_mesh_time_to_first_token_seconds", "From admission to the first token",
                 kSeconds, {{"model_id", id}})
      .observe(seconds(*first_ - began_));
  if (delivered_in_all_ < 2) return;
  const double each =
      seconds(std::chrono::steady_clock::now() - *first_) / double(delivered_in_all_ - 1);
  metrics
      .histogram("far_mesh_time_per_output_token_seconds", "Mean of a request, after its first",
                 kTokenSeconds, {{"model_id", id}})
      .observe(each);
  const double before = order_.model->token_ms;
  order_.model->token_ms = before == 0 ? each * 1000 : 0.9 * before + 100 * each;
}

}  // namespace farmesh::gateway
