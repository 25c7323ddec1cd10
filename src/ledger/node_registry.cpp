#include "ledger/node_registry.hpp"

#include <algorithm>

#include "ledger/checks.hpp"
#include "wire/messages.hpp"

namespace farmesh::ledger {
namespace {

constexpr std::size_t kMaxText = 255;
constexpr std::size_t kMaxWallet = 42;

Result<void> check(const ServedModel& model) {
  Result<void> good = check_text(model.model_id, kMaxText, "model_id");
  if (good) good = check_text(model.quantization, 20, "quantization", true);
  if (!good) return good;
  const bool fits = !model.layers.empty() && model.layers.end <= model.total_layers &&
                    model.total_layers <= wire::kMaxLayers;
  return fits ? Result<void>() : Error{Errc::invalid_argument, "layers outside the model"};
}

Result<void> check(const NodeRegistration& node) {
  Result<void> good = check_text(node.node_id, 64, "node_id");
  if (good) good = check_text(node.wallet, kMaxWallet, "wallet_address", true);
  if (good) good = check_text(node.gpu_model, kMaxText, "gpu_model", true);
  if (good) good = check_text(node.location, kMaxText, "location", true);
  if (good) good = check_text(node.public_addr, kMaxText, "public_addr", true);
  if (good) good = check_text(node.dht_addr, kMaxText, "dht_addr", true);
  if (good && node.model) good = check(*node.model);
  if (!good) return good;
  for (const auto& size : {node.vram_gb, node.cpu_cores, node.ram_gb}) {
    if (size.value_or(0) > 1u << 20) return Error{Errc::invalid_argument, "a size out of range"};
  }
  // Also false for NaN.
  const auto within = [](const std::optional<double>& degrees, double most) {
    return !degrees || (*degrees >= -most && *degrees <= most);
  };
  if (within(node.latitude, 90) && within(node.longitude, 180)) return {};
  return Error{Errc::invalid_argument, "a place outside the Earth"};
}

bool is_measure(const std::optional<double>& value) {
  return !value || (*value >= 0 && *value <= 1e9);
}

Result<void> write_model(Database& db, const std::string& node, const ServedModel& model,
                         LedgerTime now) {
  const SqlLayers layers = to_sql(model.layers);
  const auto written = db.execute(
      "INSERT INTO far_node_models (id, node_id, model_id, layers_start, layers_end, "
      "total_layers, quantization, max_batch_size, is_serving, started_serving_at, created_at, "
      "updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) "
      "ON CONFLICT (node_id, model_id) DO UPDATE SET layers_start = excluded.layers_start, "
      "layers_end = excluded.layers_end, total_layers = excluded.total_layers, "
      "quantization = excluded.quantization, max_batch_size = excluded.max_batch_size, "
      "is_serving = excluded.is_serving, stopped_serving_at = NULL, started_serving_at = CASE "
      "WHEN far_node_models.is_serving THEN far_node_models.started_serving_at ELSE "
      "excluded.started_serving_at END, updated_at = excluded.updated_at",
      {new_uuid(), node, model.model_id, layers.start, layers.end, model.total_layers,
       or_null(model.quantization), or_null(model.max_batch_size), true, now, now, now});
  return written ? Result<void>() : written.error();
}

/// A request that was signed no later than one before it is that one again, or an older one.
Error replayed() { return {Errc::ledger_conflict, "the node has signed a later request"}; }

/// Seconds to add to a node's uptime: since its last sign of life, unless it was away.
std::int64_t lived_seconds(bool was_active, LedgerTime last_seen, LedgerTime now) {
  const auto since = std::chrono::duration_cast<std::chrono::seconds>(now - last_seen);
  return was_active && since.count() >= 0 && since <= kStaleAfter ? since.count() : 0;
}

double uptime_percent(std::int64_t uptime_seconds, LedgerTime registered, LedgerTime now) {
  const double known = std::chrono::duration<double>(now - registered).count();
  if (known <= 0) return 100;
  return std::min(100.0, 100.0 * static_cast<double>(uptime_seconds) / known);
}

Result<std::vector<DailyAmount>> history(Database& db, const std::string& wallet,
                                         LedgerTime since) {
  const auto rows = db.query<std::string, Far>(
      "SELECT substr(CAST(c.created_at AS text), 1, 10), sum({c.payment_far}) FROM "
      "far_session_contributions c JOIN far_nodes n ON n.id = c.node_id WHERE "
      "coalesce(c.wallet_address, n.wallet_address) = ?1 AND c.created_at >= ?2 GROUP BY 1 "
      "ORDER BY 1",
      {wallet, since});
  if (!rows) return rows.error();
  std::vector<DailyAmount> days;
  for (const auto& [date, amount] : *rows) days.push_back({date, amount});
  return days;
}

}  // namespace

Result<std::string> NodeRegistry::register_node(const NodeRegistration& node) {
  const Result<void> good = check(node);
  if (!good) return good.error();
  const std::string new_id = new_uuid();
  return store_->transact([&](Database& db) -> Result<std::string> {
    const LedgerTime now = store_->now();
    const auto known = db.query_one<std::int64_t>(
        "SELECT signed_ms FROM far_nodes WHERE node_id = ?1 {for update}", {node.node_id});
    if (!known) return known.error();
    if (*known && node.signed_ms != 0 && std::get<0>(**known) >= node.signed_ms) return replayed();
    const auto written = db.execute(
        "INSERT INTO far_nodes (id, node_id, wallet_address, gpu_model, vram_gb, cpu_cores, "
        "ram_gb, location, latitude, longitude, public_addr, dht_addr, is_active, last_seen, "
        "registered_at, updated_at, signed_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, "
        "CAST(?9 AS double precision), CAST(?10 AS double precision), ?11, ?12, ?13, ?14, ?15, "
        "?16, ?17) ON CONFLICT (node_id) DO UPDATE SET wallet_address = excluded.wallet_address, "
        "gpu_model = excluded.gpu_model, vram_gb = excluded.vram_gb, "
        "cpu_cores = excluded.cpu_cores, ram_gb = excluded.ram_gb, location = excluded.location, "
        "latitude = excluded.latitude, longitude = excluded.longitude, "
        "public_addr = excluded.public_addr, dht_addr = excluded.dht_addr, "
        "is_active = excluded.is_active, last_seen = excluded.last_seen, "
        "updated_at = excluded.updated_at, signed_ms = CASE WHEN excluded.signed_ms > "
        "far_nodes.signed_ms THEN excluded.signed_ms ELSE far_nodes.signed_ms END",
        {new_id, node.node_id, node.wallet, or_null(node.gpu_model), or_null(node.vram_gb),
         or_null(node.cpu_cores), or_null(node.ram_gb), or_null(node.location),
         or_null(node.latitude), or_null(node.longitude), or_null(node.public_addr),
         or_null(node.dht_addr), true, now, now, now, node.signed_ms});
    if (!written) return written.error();
    const auto row =
        db.query_one<std::string>("SELECT id FROM far_nodes WHERE node_id = ?1", {node.node_id});
    if (!row) return row.error();
    if (!*row) return Error{Errc::ledger_damaged, "a node's row vanished"};
    const std::string& id = std::get<0>(**row);
    if (node.model) {
      const Result<void> model = write_model(db, id, *node.model, now);
      if (!model) return model.error();
    }
    return id;
  });
}

Result<void> NodeRegistry::heartbeat(const Heartbeat& beat) {
  Result<void> good = check_text(beat.model_id, kMaxText, "model_id", true);
  if (good) good = check_text(beat.node_id, 64, "node_id");
  if (!good) return good;
  if (!is_measure(beat.latency_ms) || !is_measure(beat.throughput_tokens_per_sec) ||
      beat.current_requests > 0x7fffffff) {
    return Error{Errc::invalid_argument, "a measurement out of range"};
  }
  return store_->transact([&](Database& db) -> Result<void> {
    const LedgerTime now = store_->now();
    const auto row = db.query_one<std::string, bool, LedgerTime, std::int64_t>(
        "SELECT id, is_active, last_seen, signed_ms FROM far_nodes WHERE node_id = ?1 {for update}",
        {beat.node_id});
    if (!row) return row.error();
    if (!*row) return Error{Errc::not_found, "this node has not registered"};
    const auto& [id, was_active, last_seen, signed_ms] = **row;
    if (beat.signed_ms != 0 && signed_ms >= beat.signed_ms) return replayed();
    const auto seen = db.execute(
        "UPDATE far_nodes SET is_active = ?2, last_seen = ?3, uptime_seconds = uptime_seconds + "
        "?4, current_requests = ?5, avg_latency_ms = coalesce(CAST(?6 AS double precision), "
        "avg_latency_ms), updated_at = ?7, signed_ms = ?8 WHERE id = ?1",
        {id, beat.healthy, now, lived_seconds(was_active, last_seen, now), beat.current_requests,
         or_null(beat.latency_ms), now, std::max(signed_ms, beat.signed_ms)});
    if (!seen) return seen.error();
    const auto models = db.execute(
        "UPDATE far_node_models SET is_serving = ?2, avg_latency_ms = coalesce(CAST(?3 AS double "
        "precision), avg_latency_ms), throughput_tokens_per_sec = coalesce(CAST(?4 AS double "
        "precision), throughput_tokens_per_sec), updated_at = ?5, stopped_serving_at = ?6 "
        "WHERE node_id = ?1 AND (model_id = ?7 OR ?8)",
        {id, beat.healthy, or_null(beat.latency_ms), or_null(beat.throughput_tokens_per_sec), now,
         beat.healthy ? Value(nullptr) : Value(now), beat.model_id, beat.model_id.empty()});
    return models ? Result<void>() : models.error();
  });
}

Result<std::size_t> NodeRegistry::mark_stale() {
  return store_->transact([&](Database& db) -> Result<std::size_t> {
    const LedgerTime now = store_->now();
    const auto stale = db.execute(
        "UPDATE far_nodes SET is_active = ?1, updated_at = ?2 WHERE is_active AND last_seen < ?3",
        {false, now, now - kStaleAfter});
    if (!stale) return stale.error();
    const auto models = db.execute(
        "UPDATE far_node_models SET is_serving = ?1, stopped_serving_at = ?2, updated_at = ?3 "
        "WHERE is_serving AND node_id IN (SELECT id FROM far_nodes WHERE NOT is_active)",
        {false, now, now});
    if (!models) return models.error();
    return static_cast<std::size_t>(*stale);
  });
}

Result<std::size_t> NodeRegistry::forget_strangers() {
  return store_->transact([&](Database& db) -> Result<std::size_t> {
    // By name: SQLite's count of changed rows has their models, too.
    const auto forgotten = db.query<std::string>(
        "DELETE FROM far_nodes WHERE last_seen < ?1 AND NOT EXISTS (SELECT 1 FROM "
        "far_session_contributions c WHERE c.node_id = far_nodes.id) RETURNING node_id",
        {store_->now() - kForgottenAfter});
    if (!forgotten) return forgotten.error();
    return forgotten->size();
  });
}

Result<std::vector<ListedNode>> NodeRegistry::active_nodes(const std::string& model_id,
                                                           const std::string& location) {
  return store_->transact([&](Database& db) -> Result<std::vector<ListedNode>> {
    const LedgerTime now = store_->now();
    const auto rows = db.query<std::string, std::string, std::string, std::optional<std::uint32_t>,
                               std::string, std::string, std::string, std::int64_t, std::int64_t,
                               std::uint32_t, std::string, double, std::optional<double>,
                               std::int64_t, LedgerTime, LedgerTime>(
        "SELECT n.node_id, n.wallet_address, n.gpu_model, n.vram_gb, n.location, "
        "n.public_addr, m.model_id, m.layers_start, m.layers_end, m.total_layers, m.quantization, "
        "n.reliability_score, coalesce(m.avg_latency_ms, n.avg_latency_ms), "
        "n.uptime_seconds, n.registered_at, n.last_seen FROM far_node_models m JOIN "
        "far_nodes n ON n.id = m.node_id WHERE (m.model_id = ?1 OR ?3) AND m.is_serving AND "
        "m.updated_at >= ?2 AND n.is_active AND n.last_seen >= ?2 ORDER BY "
        "n.reliability_score DESC, n.node_id, m.model_id",
        {model_id, now - kStaleAfter, model_id.empty()});
    if (!rows) return rows.error();
    std::vector<ListedNode> nodes;
    for (const auto& [id, wallet, gpu, vram, place, address, model, start, end, total, quantization,
                      reliability, latency, uptime, registered, seen] : *rows) {
      if (!place.starts_with(location)) continue;
      nodes.push_back({id, wallet, gpu, vram.value_or(0), place, address,
                       ServedModel{model, from_sql(start, end), total, quantization}, true,
                       reliability, latency, uptime_percent(uptime, registered, now), seen});
    }
    return nodes;
  });
}

Result<std::vector<std::uint32_t>> NodeRegistry::coverage(const std::string& model_id) {
  const auto nodes = active_nodes(model_id);
  if (!nodes) return nodes.error();
  std::vector<std::uint32_t> holders;
  for (const ListedNode& node : *nodes) {
    const std::size_t layers = std::min<std::size_t>(node.model.total_layers, wire::kMaxLayers);
    if (holders.size() < layers) holders.resize(layers);
    const std::size_t end = std::min<std::size_t>(node.model.layers.end, holders.size());
    for (std::size_t layer = node.model.layers.begin; layer < end; ++layer) ++holders[layer];
  }
  return holders;
}

Result<WalletEarnings> NodeRegistry::earnings(const std::string& wallet, std::uint32_t days) {
  const Result<void> good = check_text(wallet, kMaxWallet, "wallet_address");
  if (!good) return good.error();
  return store_->transact([&](Database& db) -> Result<WalletEarnings> {
    const LedgerTime now = store_->now();
    WalletEarnings earnings;
    const auto sums = db.query_one<Far, Far, std::uint64_t, std::uint64_t, std::uint64_t>(
        "SELECT coalesce(sum({c.payment_far}), 0), coalesce(sum(CASE WHEN c.paid_at IS NULL THEN "
        "{c.payment_far} ELSE 0 END), 0), coalesce(sum(c.tokens_contributed), 0), "
        "count(DISTINCT c.session_id), count(DISTINCT CASE WHEN s.status = 'failed' THEN "
        "c.session_id END) FROM far_session_contributions c JOIN far_nodes n ON n.id = c.node_id "
        "JOIN far_mesh_sessions s ON s.id = c.session_id "
        "WHERE coalesce(c.wallet_address, n.wallet_address) = ?1",
        {wallet});
    if (!sums) return sums.error();
    std::tie(earnings.total, earnings.pending, earnings.tokens, earnings.sessions,
             earnings.failed_sessions) = **sums;
    const auto nodes = db.query<std::string, bool, LedgerTime, LedgerTime, std::int64_t,
                                std::optional<double>>(
        "SELECT node_id, is_active, last_seen, registered_at, uptime_seconds, avg_latency_ms FROM "
        "far_nodes WHERE wallet_address = ?1",
        {wallet});
    if (!nodes) return nodes.error();
    double latency = 0;
    int measured = 0;
    for (const auto& [node_id, active, seen, registered, uptime, latency_ms] : *nodes) {
      ++earnings.nodes;
      earnings.node_ids.push_back(node_id);
      if (active && now - seen <= kStaleAfter) ++earnings.active_nodes;
      earnings.avg_uptime_percent += uptime_percent(uptime, registered, now);
      latency += latency_ms.value_or(0);
      measured += latency_ms ? 1 : 0;
    }
    if (earnings.nodes > 0) earnings.avg_uptime_percent /= earnings.nodes;
    if (measured > 0) earnings.avg_latency_ms = latency / measured;
    auto by_day = history(db, wallet, now - std::chrono::days(days));
    if (!by_day) return by_day.error();
    earnings.history = std::move(*by_day);
    return earnings;
  });
}

Result<MeshStats> NodeRegistry::stats() {
  return store_->transact([&](Database& db) -> Result<MeshStats> {
    const auto row =
        db.query_one<std::uint32_t, std::uint32_t, std::uint32_t, std::uint32_t, std::uint64_t>(
            "SELECT (SELECT count(*) FROM far_nodes WHERE is_active AND last_seen >= ?1), "
            "(SELECT count(*) FROM far_nodes), (SELECT count(DISTINCT m.model_id) FROM "
            "far_node_models m JOIN far_nodes n ON n.id = m.node_id WHERE m.is_serving AND "
            "n.is_active), (SELECT count(*) FROM far_mesh_sessions WHERE status = 'active'), "
            "(SELECT coalesce(sum(tokens_generated), 0) FROM far_mesh_sessions)",
            {store_->now() - kStaleAfter});
    if (!row) return row.error();
    MeshStats stats;
    std::tie(stats.active_nodes, stats.total_nodes, stats.models, stats.active_sessions,
             stats.tokens_generated) = **row;
    return stats;
  });
}

Result<void> NodeRegistry::record_metrics(const Latencies& latencies) {
  const Result<MeshStats> mesh = stats();
  if (!mesh) return mesh.error();
  return store_->transact([&](Database& db) -> Result<void> {
    const LedgerTime now = store_->now();
    const LedgerTime hour_ago = now - std::chrono::hours(1);
    const auto hour = db.query_one<std::int64_t, std::int64_t, Far>(
        "SELECT count(*), coalesce(sum(tokens_generated), 0), (SELECT "
        "coalesce(sum({payment_far}), 0) FROM far_session_contributions WHERE paid_at >= ?2) "
        "FROM far_mesh_sessions WHERE started_at >= ?1",
        {hour_ago, hour_ago});
    if (!hour) return hour.error();
    const auto& [sessions, tokens, paid] = **hour;
    const auto written = db.execute(
        "INSERT INTO far_mesh_metrics (recorded_at, total_nodes, active_nodes, total_models, "
        "active_sessions, sessions_last_hour, tokens_generated_last_hour, avg_latency_ms, "
        "p95_latency_ms, p99_latency_ms, {far_paid_last_hour}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, "
        "?7, CAST(?8 AS double precision), CAST(?9 AS double precision), "
        "CAST(?10 AS double precision), ?11)",
        {now, mesh->total_nodes, mesh->active_nodes, mesh->models, mesh->active_sessions, sessions,
         tokens, or_null(latencies.average_ms), or_null(latencies.p95_ms),
         or_null(latencies.p99_ms), paid});
    return written ? Result<void>() : written.error();
  });
}

}  // namespace farmesh::ledger
