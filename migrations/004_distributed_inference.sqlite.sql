-- Distributed inference: sessions, nodes, contributions, receipts, payments (SQLite).
--
-- Mirrors 004_distributed_inference.sql. Amounts are whole base units of 1e-8 $FAR in `…_units`,
-- readable as decimals in the generated column beside it. Times are ISO 8601 in UTC, which sorts.

CREATE TABLE far_mesh_sessions (
    id TEXT PRIMARY KEY,
    request_id TEXT NOT NULL UNIQUE,
    user_wallet TEXT NOT NULL,
    model_id TEXT NOT NULL,
    prompt_text TEXT NOT NULL DEFAULT '',
    max_tokens INTEGER NOT NULL DEFAULT 512,
    temperature REAL DEFAULT 0.7,
    top_p REAL DEFAULT 0.9,
    tokens_generated INTEGER NOT NULL DEFAULT 0,
    total_cost_far_units INTEGER NOT NULL DEFAULT 0,
    total_cost_far TEXT GENERATED ALWAYS AS (printf('%d.%08d', total_cost_far_units / 100000000, total_cost_far_units % 100000000)) VIRTUAL,
    started_at TEXT NOT NULL,
    completed_at TEXT,
    failed_at TEXT,
    status TEXT NOT NULL DEFAULT 'active'
        CHECK (status IN ('active', 'completed', 'failed', 'cancelled')),
    error_message TEXT,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    price_per_token_far_units INTEGER NOT NULL DEFAULT 0,
    price_per_token_far TEXT GENERATED ALWAYS AS (printf('%d.%08d', price_per_token_far_units / 100000000, price_per_token_far_units % 100000000)) VIRTUAL,
    price_per_prompt_token_far_units INTEGER NOT NULL DEFAULT 0,
    price_per_prompt_token_far TEXT GENERATED ALWAYS AS (printf('%d.%08d', price_per_prompt_token_far_units / 100000000, price_per_prompt_token_far_units % 100000000)) VIRTUAL,
    platform_fee_bps INTEGER NOT NULL DEFAULT 0,
    split_policy TEXT NOT NULL DEFAULT 'layer_units',
    body_digest TEXT NOT NULL DEFAULT '',
    coordinator TEXT NOT NULL DEFAULT '',
    prompt_tokens INTEGER NOT NULL DEFAULT 0,
    operator_tokens INTEGER NOT NULL DEFAULT 0,
    operator_far_units INTEGER NOT NULL DEFAULT 0,
    operator_far TEXT GENERATED ALWAYS AS (printf('%d.%08d', operator_far_units / 100000000, operator_far_units % 100000000)) VIRTUAL,
    platform_fee_far_units INTEGER NOT NULL DEFAULT 0,
    platform_fee_far TEXT GENERATED ALWAYS AS (printf('%d.%08d', platform_fee_far_units / 100000000, platform_fee_far_units % 100000000)) VIRTUAL,
    uncollected_far_units INTEGER NOT NULL DEFAULT 0,
    uncollected_far TEXT GENERATED ALWAYS AS (printf('%d.%08d', uncollected_far_units / 100000000, uncollected_far_units % 100000000)) VIRTUAL
) STRICT;
CREATE INDEX far_mesh_sessions_active ON far_mesh_sessions (updated_at) WHERE status = 'active';
CREATE INDEX far_mesh_sessions_wallet ON far_mesh_sessions (user_wallet, started_at);
CREATE INDEX far_mesh_sessions_started ON far_mesh_sessions (started_at);

CREATE TABLE far_session_work (
    session_id TEXT PRIMARY KEY REFERENCES far_mesh_sessions (id) ON DELETE RESTRICT,
    work_log TEXT NOT NULL,
    recorded_at TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE far_nodes (
    id TEXT PRIMARY KEY,
    node_id TEXT NOT NULL UNIQUE,
    wallet_address TEXT NOT NULL DEFAULT '',
    gpu_model TEXT,
    vram_gb INTEGER,
    cpu_cores INTEGER,
    ram_gb INTEGER,
    location TEXT,
    latitude REAL,
    longitude REAL,
    public_addr TEXT,
    dht_addr TEXT,
    is_active INTEGER NOT NULL DEFAULT 1,
    last_seen TEXT NOT NULL,
    uptime_seconds INTEGER NOT NULL DEFAULT 0,
    total_sessions_served INTEGER NOT NULL DEFAULT 0,
    total_tokens_served INTEGER NOT NULL DEFAULT 0,
    total_earned_far_units INTEGER NOT NULL DEFAULT 0,
    total_earned_far TEXT GENERATED ALWAYS AS (printf('%d.%08d', total_earned_far_units / 100000000, total_earned_far_units % 100000000)) VIRTUAL,
    registered_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    reliability_score REAL NOT NULL DEFAULT 1,
    avg_latency_ms REAL,
    current_requests INTEGER NOT NULL DEFAULT 0,
    failed_sessions INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX far_nodes_wallet ON far_nodes (wallet_address);
CREATE INDEX far_nodes_seen ON far_nodes (last_seen) WHERE is_active;

CREATE TABLE far_node_models (
    id TEXT PRIMARY KEY,
    node_id TEXT NOT NULL REFERENCES far_nodes (id) ON DELETE CASCADE,
    model_id TEXT NOT NULL,
    layers_start INTEGER NOT NULL,
    layers_end INTEGER NOT NULL,
    total_layers INTEGER NOT NULL,
    quantization TEXT,
    max_batch_size INTEGER,
    avg_latency_ms REAL,
    throughput_tokens_per_sec REAL,
    is_serving INTEGER NOT NULL DEFAULT 1,
    started_serving_at TEXT NOT NULL,
    stopped_serving_at TEXT,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    UNIQUE (node_id, model_id)
) STRICT;
CREATE INDEX far_node_models_serving ON far_node_models (model_id) WHERE is_serving;

CREATE TABLE far_payment_batches (
    id TEXT PRIMARY KEY,
    total_nodes INTEGER NOT NULL DEFAULT 0,
    total_amount_far_units INTEGER NOT NULL DEFAULT 0,
    total_amount_far TEXT GENERATED ALWAYS AS (printf('%d.%08d', total_amount_far_units / 100000000, total_amount_far_units % 100000000)) VIRTUAL,
    tx_hash TEXT,
    block_number INTEGER,
    gas_used INTEGER,
    gas_price_gwei TEXT,
    status TEXT NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'submitted', 'confirmed', 'failed')),
    error_message TEXT,
    created_at TEXT NOT NULL,
    submitted_at TEXT,
    confirmed_at TEXT
) STRICT;
CREATE INDEX far_payment_batches_open ON far_payment_batches (created_at)
    WHERE status <> 'confirmed';

CREATE TABLE far_session_contributions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    session_id TEXT NOT NULL REFERENCES far_mesh_sessions (id) ON DELETE RESTRICT,
    node_id TEXT NOT NULL REFERENCES far_nodes (id) ON DELETE RESTRICT,
    tokens_contributed INTEGER NOT NULL DEFAULT 0,
    layers_processed TEXT NOT NULL DEFAULT '[]',  -- a JSON array
    payment_far_units INTEGER NOT NULL DEFAULT 0 CHECK (payment_far_units >= 0),
    payment_far TEXT GENERATED ALWAYS AS (printf('%d.%08d', payment_far_units / 100000000, payment_far_units % 100000000)) VIRTUAL,
    paid_at TEXT,
    payment_tx_hash TEXT,
    created_at TEXT NOT NULL,
    batch_id TEXT REFERENCES far_payment_batches (id) ON DELETE RESTRICT,
    wallet_address TEXT,
    prompt_tokens_contributed INTEGER NOT NULL DEFAULT 0,
    UNIQUE (session_id, node_id)
) STRICT;
CREATE INDEX far_session_contributions_node ON far_session_contributions (node_id, created_at);
CREATE INDEX far_session_contributions_unpaid ON far_session_contributions (created_at)
    WHERE batch_id IS NULL AND paid_at IS NULL;
CREATE INDEX far_session_contributions_batch ON far_session_contributions (batch_id)
    WHERE batch_id IS NOT NULL;

CREATE TRIGGER far_guard_contribution BEFORE UPDATE ON far_session_contributions
WHEN NEW.id <> OLD.id OR NEW.session_id <> OLD.session_id OR NEW.node_id <> OLD.node_id
    OR NEW.tokens_contributed <> OLD.tokens_contributed
    OR NEW.layers_processed <> OLD.layers_processed
    OR NEW.payment_far_units <> OLD.payment_far_units OR NEW.created_at <> OLD.created_at
    OR (OLD.wallet_address IS NOT NULL AND NEW.wallet_address IS NOT OLD.wallet_address)
    OR NEW.prompt_tokens_contributed <> OLD.prompt_tokens_contributed
    OR (OLD.batch_id IS NOT NULL AND NEW.batch_id IS NOT OLD.batch_id)
    OR (OLD.paid_at IS NOT NULL AND NEW.paid_at IS NOT OLD.paid_at)
    OR (OLD.payment_tx_hash IS NOT NULL AND NEW.payment_tx_hash IS NOT OLD.payment_tx_hash)
BEGIN
    SELECT RAISE(ABORT, 'a contribution is written once');
END;
CREATE TRIGGER far_keep_contribution BEFORE DELETE ON far_session_contributions
WHEN OLD.paid_at IS NULL
BEGIN
    SELECT RAISE(ABORT, 'unpaid work cannot be deleted');
END;

CREATE TABLE far_payment_items (
    batch_id TEXT NOT NULL REFERENCES far_payment_batches (id) ON DELETE RESTRICT,
    wallet_address TEXT NOT NULL,
    amount_far_units INTEGER NOT NULL CHECK (amount_far_units > 0),
    amount_far TEXT GENERATED ALWAYS AS (printf('%d.%08d', amount_far_units / 100000000, amount_far_units % 100000000)) VIRTUAL,
    status TEXT NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'held', 'paid')),
    paying_batch_id TEXT REFERENCES far_payment_batches (id) ON DELETE RESTRICT,
    reason TEXT,
    PRIMARY KEY (batch_id, wallet_address)
) STRICT;
CREATE INDEX far_payment_items_paying ON far_payment_items (paying_batch_id);

CREATE TABLE far_mesh_metrics (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    recorded_at TEXT NOT NULL,
    total_nodes INTEGER NOT NULL DEFAULT 0,
    active_nodes INTEGER NOT NULL DEFAULT 0,
    total_models INTEGER NOT NULL DEFAULT 0,
    active_sessions INTEGER NOT NULL DEFAULT 0,
    sessions_last_hour INTEGER NOT NULL DEFAULT 0,
    tokens_generated_last_hour INTEGER NOT NULL DEFAULT 0,
    avg_latency_ms REAL,
    p95_latency_ms REAL,
    p99_latency_ms REAL,
    far_paid_last_hour_units INTEGER NOT NULL DEFAULT 0,
    far_paid_last_hour TEXT GENERATED ALWAYS AS (printf('%d.%08d', far_paid_last_hour_units / 100000000, far_paid_last_hour_units % 100000000)) VIRTUAL
) STRICT;
CREATE INDEX far_mesh_metrics_time ON far_mesh_metrics (recorded_at);

CREATE TABLE far_receipts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    session_id TEXT NOT NULL REFERENCES far_mesh_sessions (id) ON DELETE RESTRICT,
    node_id TEXT NOT NULL,
    layers_start INTEGER NOT NULL,
    layers_end INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    prefill_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    decode_tokens INTEGER NOT NULL,
    replay_tokens INTEGER NOT NULL,
    rejected_tokens INTEGER NOT NULL,
    standby_tokens INTEGER NOT NULL,
    receipt BLOB NOT NULL,
    node_key BLOB NOT NULL,
    node_signature BLOB NOT NULL,
    driver_key BLOB,
    driver_signature BLOB,
    received_at TEXT NOT NULL,
    UNIQUE (session_id, node_id, layers_start, layers_end, sequence)
) STRICT;
CREATE TRIGGER far_receipts_no_update BEFORE UPDATE ON far_receipts
BEGIN
    SELECT RAISE(ABORT, 'far_receipts is append-only');
END;
CREATE TRIGGER far_receipts_no_delete BEFORE DELETE ON far_receipts
BEGIN
    SELECT RAISE(ABORT, 'far_receipts is append-only');
END;

CREATE TABLE far_disputes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    session_id TEXT NOT NULL REFERENCES far_mesh_sessions (id) ON DELETE RESTRICT,
    node_id TEXT NOT NULL,
    layers_start INTEGER NOT NULL,
    layers_end INTEGER NOT NULL,
    claimed_tokens INTEGER NOT NULL,
    logged_tokens INTEGER NOT NULL,
    opened_at TEXT NOT NULL,
    resolved_at TEXT,
    resolution TEXT,
    UNIQUE (session_id, node_id, layers_start, layers_end, claimed_tokens)
) STRICT;
CREATE INDEX far_disputes_open ON far_disputes (id) WHERE resolved_at IS NULL;

CREATE VIEW active_far_nodes AS
SELECT n.node_id, n.wallet_address, n.gpu_model, n.vram_gb, n.location, n.total_sessions_served,
    n.total_tokens_served, n.total_earned_far, n.last_seen,
    count(DISTINCT m.model_id) AS models_serving,
    json_group_array(DISTINCT m.model_id) FILTER (WHERE m.model_id IS NOT NULL) AS active_models
FROM far_nodes n
LEFT JOIN far_node_models m ON m.node_id = n.id AND m.is_serving
WHERE n.is_active AND n.last_seen > strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-5 minutes')
GROUP BY n.id;

CREATE VIEW node_earnings_summary AS
SELECT node_id, wallet_address, sessions_contributed, total_tokens,
    printf('%d.%08d', earned / 100000000, earned % 100000000) AS total_earned,
    printf('%d.%08d', pending / 100000000, pending % 100000000) AS pending_payment,
    last_contribution
FROM (
    SELECT n.node_id, n.wallet_address, count(c.id) AS sessions_contributed,
        coalesce(sum(c.tokens_contributed), 0) AS total_tokens,
        coalesce(sum(c.payment_far_units), 0) AS earned,
        coalesce(sum(c.payment_far_units) FILTER (WHERE c.paid_at IS NULL), 0) AS pending,
        max(c.created_at) AS last_contribution
    FROM far_nodes n
    LEFT JOIN far_session_contributions c ON c.node_id = n.id
    GROUP BY n.id
);
