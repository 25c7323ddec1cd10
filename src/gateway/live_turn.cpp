#include "gateway/live_turn.hpp"

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>

#include "base/assert.hpp"
#include "base/digest.hpp"
#include "base/log.hpp"
#include "gateway/services.hpp"
#include "gateway/trace.hpp"
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

constexpr std::array<std::string_view, 3> kTiers{"standard", "premium", "enterprise"};

// Its place among the tiers; nothing for a name that is none.
std::optional<int> rank_of(std::string_view tier) {
  const auto at = std::find(kTiers.begin(), kTiers.end(), tier);
  if (at == kTiers.end()) return std::nullopt;
  return int(at - kTiers.begin());
}

// The account's tier, or the one below it that was asked for.
Checked<std::string> tier_of(const Caller& caller, const std::string& asked) {
  if (asked.empty()) return caller.tier;
  const std::optional<int> rank = rank_of(asked);
  if (!rank) {
    return invalid_request("invalid_value", "'tier' is standard, premium or enterprise.", "tier");
  }
  if (*rank > rank_of(caller.tier).value_or(0)) {
    return Problem{403, "tier_not_allowed", "This account is not of that tier.", "tier"};
  }
  return asked;
}

std::uint32_t most_tokens(const TurnOrder& order) {
  std::uint64_t tokens = 0;
  for (const TurnInput& input : order.inputs) tokens += input.options.max_tokens;
  return std::uint32_t(std::min<std::uint64_t>(tokens, INT32_MAX));
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
  charged_before_.resize(order_.inputs.size());
  price_ = order_.model->options.price_per_token;
  prompt_price_ = order_.model->options.price_per_prompt_token;
  if (!order_.resumption) return;
  price_ = order_.resumption->turn.price_per_token;
  prompt_price_ = order_.resumption->turn.price_per_prompt_token;
  items_ = order_.resumption->turn.items;
}

Checked<std::shared_ptr<LiveTurn>> LiveTurn::open(Services& services, TurnOrder order,
                                                  http::Responder& responder) {
  std::shared_ptr<LiveTurn> live(new LiveTurn(services, std::move(order)));
  // The exchange lives as long as the turn does: what it calls must not keep it alive.
  responder.on_close([weak = std::weak_ptr(live)] {
    if (const auto turn = weak.lock()) turn->cancel();
  });
  if (const std::optional<Problem> refused = live->admit()) return *refused;
  live->open_kept();
  live->start();
  services.live.add(live);
  return live;
}

std::optional<Problem> LiveTurn::admit() {
  // No turn is longer than the context, so no more than that needs to be promised for it.
  const std::uint32_t context = order_.model->model->state().summary.context_tokens;
  for (std::size_t i = 0; i < order_.inputs.size(); ++i) {
    GenerateOptions& options = order_.inputs[i].options;
    options.max_tokens = std::min(options.max_tokens, context);
    options.traceparent = order_.traceparent;
    if (!order_.resumption || i >= order_.resumption->known.size()) continue;
    options.max_tokens = order_.resumption->turn.max_tokens[i];
    options.resume = order_.resumption->known[i];
  }
  if (order_.max_cost && !order_.resumption) cut_to_budget(order_, *order_.max_cost);
  if (most_tokens(order_) == 0) {
    return Problem{402, "max_cost_too_low", "max_cost_far does not buy a single token.",
                   "max_cost_far"};
  }
  const Caller& caller = order_.admitted.caller;
  Checked<std::string> tier = tier_of(caller, order_.tier);
  if (!tier) return tier.problem();
  order_.tier = *std::move(tier);
  const auto nodes = services_.tier_nodes.choice(order_.model->options.id, order_.tier);
  for (TurnInput& input : order_.inputs) input.options.nodes = nodes;
  Checked<FairQueue::Place> place =
      services_.queue.acquire(caller.account, rank_of(order_.tier).value_or(0), ticket_);
  if (!place) return place.problem();
  place_ = *std::move(place);
  // A stream whose every token was charged owes nothing for being told again.
  if (!services_.ledger || (order_.resumption && order_.resumption->ended)) return std::nullopt;
  return open_bill();
}

std::optional<Problem> LiveTurn::open_bill() {
  bill_id_ = order_.resumption ? order_.resumption->session_request : order_.request_id;
  if (const Result<void> reserved = reserve(); !reserved) return problem_of(reserved.error());
  if (const Result<void> begun = begin_session(); !begun) {
    // Of a session that is there already, the reservation is its own.
    if (begun.error().code != Errc::ledger_conflict) {
      (void)ledger::Credits(services_.store).release(bill_id_);
    }
    return problem_of(begun.error());
  }
  return std::nullopt;
}

// Sets aside what the turn may cost at most; what is not delivered comes back when it ends.
Result<void> LiveTurn::reserve() {
  ledger::Credits credits(services_.store);
  const std::string& account = order_.admitted.caller.account;
  const bool prompt_charged = order_.resumption && order_.resumption->prompt_charged;
  const Far prompts =
      prompt_charged ? Far() : times(prompt_price_, most_prompt_tokens(order_.inputs));
  if (order_.may_shorten && !order_.resumption && !price_.is_zero()) {
    const Result<ledger::CreditAccount> credit = credits.account(account);
    if (!credit) return credit.error();
    const Far left = credit->available().minus(prompts).value_or(Far());
    if (left >= price_) cut_to_budget(order_, left);
  }
  const Far output = times(price_, tokens_left());
  const Far all = Far::from_units(prompts.units() + output.units());
  if (all.is_zero()) return {};
  const auto reserved = credits.reserve(account, bill_id_, all);
  if (!reserved) return reserved.error();
  return {};
}

// Most tokens that may still be charged.
std::uint32_t LiveTurn::tokens_left() const {
  const std::uint32_t all = most_tokens(order_);
  if (!order_.resumption) return all;
  return all - std::uint32_t(std::min<std::uint64_t>(all, order_.resumption->charged));
}

// The beginning of the turn, so that another stream could go on with it from here on.
void LiveTurn::open_kept() {
  CachedTurn& turn = order_.kept;
  if (turn.path.empty()) return;
  writer_ = draw_id();
  turn.request_id = order_.request_id;
  turn.writer = writer_;
  turn.account = order_.admitted.caller.account;
  turn.model_id = order_.model->options.id;
  turn.price_per_token = price_;
  turn.price_per_prompt_token = prompt_price_;
  for (const TurnInput& input : order_.inputs) turn.max_tokens.push_back(input.options.max_tokens);
  turn.items = items_;
  const Result<void> kept = services_.turns->open(turn);
  if (!kept) return cache_failed(kept.error());
  is_kept_ = true;
  kept_ = items_.size();
  digest_ = turn.body_digest;
  path_ = turn.path;
  turn = {};  // its body need not wait here
}

void LiveTurn::keep() {
  const std::lock_guard one_at_a_time(keeping_);
  if (!is_kept_) return;
  if (forget_kept()) return;
  std::vector<CachedItem> fresh;
  std::size_t from = 0;
  {
    const std::lock_guard lock(mutex_);
    from = kept_;
    fresh.assign(items_.begin() + std::ptrdiff_t(from), items_.end());
    kept_ = items_.size();
  }
  if (fresh.empty()) return;
  const Result<bool> mine = services_.turns->append(order_.request_id, writer_, from, fresh);
  if (!mine) {
    const std::lock_guard lock(mutex_);
    kept_ = std::min(kept_, from);
    return cache_failed(mine.error());
  }
  if (*mine) return;
  is_kept_ = false;
  log(LogLevel::info, "gateway", "request " + order_.request_id + " goes on in another stream");
  cancel();
}

// Tokens without ids cannot be gone on with: whoever asks is told so.
bool LiveTurn::forget_kept() {
  {
    const std::lock_guard lock(mutex_);
    if (!without_ids_) return false;
  }
  is_kept_ = false;
  CachedTurn none;
  none.request_id = order_.request_id;
  none.account = order_.admitted.caller.account;
  none.model_id = order_.model->options.id;
  none.body_digest = digest_;
  none.path = path_;
  none.resumable = false;
  if (const Result<void> kept = services_.turns->open(none); !kept) cache_failed(kept.error());
  return true;
}

void LiveTurn::cache_failed(const Error& error) {
  services_.metrics
      .counter("far_mesh_session_cache_failures_total", "Turns that could not be kept for resuming")
      .add();
  log(LogLevel::warning, "gateway", "session cache: " + error.to_string());
}

void LiveTurn::start() {
  ++order_.model->sessions;
  if (!session_id_.empty()) {
    bill_ = services_.metering.open(session_id_, price_, prompt_price_, most_tokens(order_));
    for (TurnInput& input : order_.inputs) input.options.bill = bill_;
  }
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
  start.request_id = bill_id_;
  start.user_wallet = order_.admitted.caller.account;
  start.model_id = order_.model->options.id;
  start.body_digest = order_.body_digest;
  start.max_tokens = tokens_left();
  start.temperature = sampling.temperature;
  start.top_p = sampling.top_p;
  start.price_per_token = price_;
  start.price_per_prompt_token = prompt_price_;
  start.platform_fee_bps = services_.options.platform_fee_bps;
  start.split = services_.options.split;
  start.coordinator = services_.options.coordinator_id;
  start.streamed = !order_.kept.path.empty();
  if (order_.resumption) {
    start.repeated_tokens = order_.resumption->repeated;
    start.prompt_charged = order_.resumption->prompt_charged;
  }
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
    log(LogLevel::warning, "gateway", "turn failed: " + item.error().to_string(),
        {{"request_id", order_.request_id}, {"trace_id", trace_id(order_.traceparent)}});
    return problem_of(item.error());
  }
  if (!*item) return *std::move(item);
  if (const std::optional<Problem> diverged = note(**item)) return *diverged;
  if ((*item)->told) {
    if ((*item)->token) delivered((*item)->index);
  } else if ((*item)->token && !first_) {
    first_ = std::chrono::steady_clock::now();
  }
  return *std::move(item);
}

// Numbers the item and keeps it for whoever may have to go on with this turn.
std::optional<Problem> LiveTurn::note(Turn::Item& item) {
  item.number = ++read_;
  const std::size_t told = order_.resumption ? order_.resumption->told : 0;
  item.told = item.number <= told;
  if (!item.token &&
      (item.finish == FinishReason::cancelled || item.finish == FinishReason::none)) {
    return std::nullopt;
  }
  if (turn_->origin() == Origin::upstream) {
    const std::lock_guard lock(mutex_);
    without_ids_ = true;
    return std::nullopt;
  }
  const CachedItem noted{item.index, item.token ? item.token->id : CachedItem::kEnd};
  const std::lock_guard lock(mutex_);
  const std::size_t at = item.number - 1;
  if (at < items_.size() && items_[at] == noted) return std::nullopt;
  if (at < items_.size() && item.told) {
    return Problem{409,
                   "stream_not_resumable",
                   "What is made now differs from what this stream told before.",
                   {}};
  }
  items_.resize(at);
  items_.push_back(noted);
  kept_ = std::min(kept_, at);
  return std::nullopt;
}

void LiveTurn::delivered(std::uint32_t sequence) {
  const std::uint64_t before = order_.resumption ? order_.resumption->charged : 0;
  {
    const std::lock_guard lock(mutex_);
    ++(delivered_in_all_ < before ? charged_before_ : delivered_)[sequence];
  }
  ++delivered_in_all_;
}

std::uint64_t LiveTurn::charged_tokens() const {
  const std::lock_guard lock(mutex_);
  return std::accumulate(delivered_.begin(), delivered_.end(), std::uint64_t(0));
}

std::uint64_t LiveTurn::prompt_tokens() const {
  std::uint64_t tokens = 0;
  for (const Usage& usage : turn_->usages()) tokens += usage.prompt_tokens;
  return tokens;
}

std::uint64_t LiveTurn::computed_prompt_tokens() const {
  std::uint64_t tokens = 0;
  for (const Usage& usage : turn_->usages()) {
    for (const RouteUsage& route : usage.prompt_routes) tokens += route.tokens;
  }
  return tokens;
}

// Known with a sequence's first token.
std::uint64_t LiveTurn::cached_prompt_tokens() const {
  std::uint64_t tokens = 0;
  for (const Usage& usage : turn_->usages()) {
    if (usage.prompt_routes.empty()) continue;
    tokens += usage.prompt_tokens;
    for (const RouteUsage& route : usage.prompt_routes) tokens -= route.tokens;
  }
  return tokens;
}

Far LiveTurn::cost(std::uint64_t more) const {
  const std::uint64_t tokens = delivered_in_all_ + more;
  const Far output = times(price_, tokens);
  if (prompt_price_.is_zero() || tokens == 0) return output;
  return Far::from_units(output.units() + times(prompt_price_, computed_prompt_tokens()).units());
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

void LiveTurn::describe(PlatformAnswer& answer) const {
  answer.tokens_generated = delivered_tokens();
  answer.cost = cost();
  answer.latency_ms = age().count();
  answer.nodes = nodes_used();
  answer.fallback = origin() != Origin::mesh;
}

WorkLog LiveTurn::work_log() const {
  WorkLog log;
  const auto hops_of = [this](const RouteUsage& route) {
    std::vector<WorkHop> hops;
    for (const HopUsage& hop : route.hops) {
      hops.push_back({order_.model->model->node_id(hop.peer), hop.span});
    }
    return hops;
  };
  std::vector<std::uint32_t> delivered, charged_before;
  {
    const std::lock_guard lock(mutex_);
    delivered = delivered_;
    charged_before = charged_before_;
  }
  const std::vector<Usage> usages = turn_->usages();
  for (std::size_t i = 0; i < usages.size(); ++i) {
    std::uint32_t left = delivered[i];
    // The routes begin behind what was known; what was charged before is not paid again.
    const std::size_t known = order_.inputs[i].options.resume.size();
    std::uint32_t repeated =
        charged_before[i] - std::uint32_t(std::min<std::size_t>(charged_before[i], known));
    // Nothing was delivered: nothing is owed.
    if (left > 0 && !(order_.resumption && order_.resumption->prompt_charged)) {
      for (const RouteUsage& route : usages[i].prompt_routes) {
        log.add_prompt(hops_of(route), route.tokens);
      }
    }
    for (const RouteUsage& route : usages[i].routes) {
      const std::uint32_t skipped = std::min(repeated, route.tokens);
      repeated -= skipped;
      const std::uint32_t tokens = std::min(left, route.tokens - skipped);
      if (tokens > 0) log.add_output(hops_of(route), tokens);
      left -= tokens;
    }
  }
  return log;
}

std::optional<SessionProgress> LiveTurn::progress() {
  if (session_id_.empty()) return std::nullopt;
  if (delivered_in_all_ > 0) was_saved_ = true;
  return SessionProgress{session_id_, work_log()};
}

std::optional<SessionProgress> LiveTurn::first_progress() {
  if (was_saved_ || delivered_in_all_ == 0) return std::nullopt;
  return progress();
}

}  // namespace farmesh::gateway
