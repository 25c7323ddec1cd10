#include "gateway/coordinator.hpp"

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <limits>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/log.hpp"
#include "base/thread.hpp"
#include "gateway/closing.hpp"
#include "gateway/live_turn.hpp"
#include "gateway/problem.hpp"
#include "gateway/routes.hpp"
#include "ledger/credits.hpp"
#include "ledger/node_registry.hpp"
#include "ledger/payment_totals.hpp"
#include "ledger/receipts.hpp"

namespace farmesh::gateway {
namespace {

constexpr std::chrono::minutes kSilence{10};
constexpr std::chrono::milliseconds kTick{100};
constexpr std::chrono::hours kGrantLife{24};
constexpr std::uint64_t kTierSeconds = 10;  // between two looks at the registry

RegistryOptions registry_options(const CoordinatorOptions& options, const ModelHost& models) {
  RegistryOptions registry = options.registry;
  registry.version = options.version;
  registry.full_id = [&models](const std::string& id) {
    const HostedModel* hosted = models.find(id);
    return hosted == nullptr ? id : hosted->options.id;
  };
  return registry;
}

}  // namespace

struct Coordinator::Impl {
  Services services;
  Registry registry;
  std::mutex mutex;
  std::condition_variable ended;
  bool ending = false;
  Closing closing{services};
  std::thread checkpoints;

  Impl(CoordinatorOptions options, ModelHost& models, std::shared_ptr<ledger::Store> store)
      : services{options,
                 models,
                 store,
                 store ? std::make_unique<ContributionLedger>(store) : nullptr,
                 options.turns ? options.turns : std::make_shared<MemorySessionCache>(),
                 Gatekeeper(store, options.gatekeeper, options.rate_limits),
                 FairQueue(options.queue)},
        registry(registry_options(options, models), store) {}

  // What a crash cannot take away: at most the last second of each session. What it saw begin,
  // nodes can tell the rest of; so a stream is saved soon after its first token, and then each
  // second.
  void save_sessions() {
    constexpr std::uint64_t kTicks = std::chrono::seconds(1) / kTick;
    std::uint64_t ticks = 0;
    std::unique_lock lock(mutex);
    while (!ended.wait_for(lock, kTick, [this] { return ending; })) {
      lock.unlock();
      ++ticks % kTicks == 0 ? each_second(ticks / kTicks) : save_begun();
      lock.lock();
    }
  }

  void each_second(std::uint64_t seconds) {
    save_once();
    if (seconds % kTierSeconds == 0) refresh_tiers();
    if (seconds % 60 != 0 || !services.store) return;
    close_silent();
    record_metrics();
  }

  void checkpoint(const std::vector<SessionProgress>& progress) {
    if (progress.empty()) return;
    const Result<void> saved = services.ledger->checkpoint(progress);
    if (!saved) log(LogLevel::error, "gateway", "checkpoint: " + saved.error().to_string());
  }

  void save_begun() {
    std::vector<SessionProgress> progress;
    for (const auto& turn : services.live.all()) {
      if (auto first = turn->first_progress()) progress.push_back(*std::move(first));
    }
    checkpoint(progress);
  }

  void save_once() {
    const auto turns = services.live.all();
    std::vector<SessionProgress> progress;
    for (const auto& turn : turns) {
      if (auto one = turn->progress()) progress.push_back(*std::move(one));
    }
    checkpoint(progress);
    for (const auto& turn : turns) turn->keep();
    services.requests.share();
    if (services.store) settle_again();
    if (services.store) closing.look();
    services.metering.collect();
  }

  void refresh_tiers() {
    std::vector<std::string> ids;
    for (const auto& hosted : services.models.models()) ids.push_back(hosted->options.id);
    const Result<void> asked = services.tier_nodes.refresh(ids);
    if (!asked) log(LogLevel::warning, "gateway", "tiers: " + asked.error().to_string());
  }

  // Ends of sessions that the ledger could not take when they came.
  void settle_again() {
    for (SessionOutcome& outcome : services.unsettled.take()) {
      const Result<SessionRecord> written = services.ledger->finalize_session(outcome);
      if (written || written.error().code == Errc::ledger_conflict) continue;
      services.unsettled.add(std::move(outcome));
    }
  }

  // Sessions of which an earlier process of this name did not live to be told by their nodes.
  std::vector<ledger::UnreceiptedSession> unreceipted() {
    const LedgerTime since = services.store->now() - kGrantLife;
    auto found = ledger::Receipts(services.store).missing(services.options.coordinator_id, since);
    if (found) return *std::move(found);
    log(LogLevel::error, "gateway", found.error().to_string());
    return {};
  }

  void hear(std::vector<ledger::UnreceiptedSession> sessions) {
    if (sessions.empty()) return;
    log(LogLevel::info, "gateway",
        fmt::format("asking for the receipts of {} sessions", sessions.size()));
    for (ledger::UnreceiptedSession& session : sessions) closing.hear(std::move(session));
  }

  // The last receipts come just behind the last sessions, if they come.
  void collect_receipts() {
    constexpr int kLooks = 20;
    for (int look = 0; look < kLooks; ++look) {
      services.metering.collect();
      if (!services.metering.waits()) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
  }

  // Sessions of coordinators that are gone for good: a live one speaks every second.
  void close_silent() {
    Abandoned silent;
    silent.silent_since = services.store->now() - kSilence;
    auto found = services.ledger->find_abandoned(silent);
    if (!found) return log(LogLevel::warning, "gateway", found.error().to_string());
    for (AbandonedSession& session : *found) closing.add(std::move(session));
  }

  void record_metrics() {
    ledger::NodeRegistry registry(services.store);
    const auto stale = registry.mark_stale();
    const Result<void> recorded =
        stale ? registry.record_metrics(services.latencies.summary()) : stale.error();
    if (!recorded) log(LogLevel::warning, "gateway", "metrics: " + recorded.error().to_string());
    observe_payments();
  }

  void observe_payments() {
    const auto totals = ledger::payment_totals(*services.store);
    if (!totals) return log(LogLevel::warning, "gateway", totals.error().to_string());
    http::Metrics& metrics = services.metrics;
    const auto far = [](Far amount) { return double(amount.units()) / double(Far::kUnitsPerFar); };
    metrics.gauge("far_mesh_payments_earned_far", "By all nodes, ever; rounded")
        .set(far(totals->earned));
    metrics.gauge("far_mesh_payments_confirmed_far", "Of that, paid on the chain; rounded")
        .set(far(totals->confirmed));
    metrics.gauge("far_mesh_payments_open_far", "In batches that are not confirmed; rounded")
        .set(far(totals->open));
    metrics.gauge("far_mesh_payments_batches", "Payment batches", {{"status", "confirmed"}})
        .set(double(totals->confirmed_batches));
    metrics.gauge("far_mesh_payments_batches", "Payment batches", {{"status", "open"}})
        .set(double(totals->open_batches));
  }

  // So that the public's credit is the budget again.
  void top_up_public() {
    ledger::Credits credits(services.store);
    const auto now = credits.account(kPublicAccount);
    if (!now) return log(LogLevel::error, "gateway", now.error().to_string());
    const Far missing = services.options.public_budget.minus(now->balance).value_or(Far());
    if (missing.is_zero() || missing.is_negative()) return;
    const auto topped = credits.deposit(kPublicAccount, missing, "public-budget:" + draw_id());
    if (!topped) log(LogLevel::error, "gateway", topped.error().to_string());
  }

  // Sessions that an earlier process of this name left. Its nodes are there or will not be: the
  // start waits for them a little.
  void close_own() {
    auto found =
        services.ledger->find_abandoned({.coordinator = services.options.coordinator_id,
                                         .limit = std::numeric_limits<std::int32_t>::max()});
    if (!found) {
      return log(LogLevel::error, "gateway", "abandoned sessions: " + found.error().to_string());
    }
    for (AbandonedSession& session : *found) closing.add(std::move(session));
    closing.finish();
  }
};

Coordinator::Coordinator(CoordinatorOptions options, ModelHost& models,
                         std::shared_ptr<ledger::Store> store)
    : impl_(std::make_unique<Impl>(std::move(options), models, std::move(store))) {
  if (impl_->services.store) {
    // Asked first: those that are closed now are heard of in closing. Heard later: no start waits.
    std::vector<ledger::UnreceiptedSession> unreceipted = impl_->unreceipted();
    impl_->close_own();
    impl_->hear(std::move(unreceipted));
    impl_->top_up_public();
    impl_->observe_payments();
  }
  impl_->refresh_tiers();
  impl_->checkpoints = start_thread("checkpoints", [impl = impl_.get()] { impl->save_sessions(); });
}

Coordinator::~Coordinator() {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->ending = true;
  }
  impl_->ended.notify_all();
  if (impl_->checkpoints.joinable()) impl_->checkpoints.join();
  if (impl_->services.store) impl_->settle_again();
  impl_->collect_receipts();
}

Services& Coordinator::services() noexcept { return impl_->services; }

http::Router Coordinator::router() {
  http::Router router;
  add_status_routes(router, impl_->services);
  add_openai_routes(router, impl_->services);
  add_platform_routes(router, impl_->services);
  add_account_routes(router, impl_->services);
  add_reservation_routes(router, impl_->services);
  impl_->registry.add_routes(router);
  return router;
}

http::Reply Coordinator::render(const http::Problem& refused, std::string_view path) {
  const Problem problem{refused.status, refused.code, refused.message, {}};
  http::Reply reply;
  reply.status = refused.status;
  reply.body = path.starts_with("/v1/") ? openai_error(problem) : platform_error(problem);
  return reply;
}

void Coordinator::finished(const http::Finished& finished) {
  const std::string route(finished.route.empty() ? "none" : finished.route);
  impl_->services.metrics
      .counter("far_mesh_http_requests_total", "HTTP requests that were answered",
               {{"route", route}, {"status", std::to_string(finished.status)}})
      .add();
  log(LogLevel::info, "http", finished.cut ? "request cut" : "request",
      {{"method", finished.method},
       {"route", route},
       {"status", std::to_string(finished.status)},
       {"ms", std::to_string(finished.duration.count() / 1000)},
       {"bytes", std::to_string(finished.bytes_sent)},
       {"http_request_id", finished.request_id}});
}

}  // namespace farmesh::gateway
