-- The earlier published edition, as a platform may hold it: other defaults, another order of
-- columns, work that vanishes with its session, functions with other names and results.
CREATE TABLE users (id serial PRIMARY KEY, email text);
CREATE TABLE far_mesh_sessions (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(), request_id VARCHAR(255) UNIQUE NOT NULL,
    user_wallet VARCHAR(42) NOT NULL, model_id VARCHAR(255) NOT NULL, prompt_text TEXT,
    max_tokens INTEGER DEFAULT 512, temperature DECIMAL(3,2) DEFAULT 0.7, top_p DECIMAL(3,2),
    tokens_generated INTEGER DEFAULT 0, total_cost_far DECIMAL(20,8) DEFAULT 0,
    started_at TIMESTAMP WITH TIME ZONE DEFAULT NOW(), completed_at TIMESTAMP WITH TIME ZONE,
    failed_at TIMESTAMP WITH TIME ZONE, status VARCHAR(20) DEFAULT 'active'
        CHECK (status IN ('active', 'completed', 'failed', 'cancelled')),
    error_message TEXT, created_at TIMESTAMP WITH TIME ZONE DEFAULT NOW(),
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT NOW());
CREATE TABLE far_nodes (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(), node_id VARCHAR(255) UNIQUE NOT NULL,
    wallet_address VARCHAR(42) NOT NULL, gpu_model VARCHAR(100), vram_gb INTEGER,
    cpu_cores INTEGER, ram_gb INTEGER, location VARCHAR(100), latitude DECIMAL(10,8),
    longitude DECIMAL(11,8), public_addr VARCHAR(255), dht_addr VARCHAR(255),
    is_active BOOLEAN DEFAULT TRUE, last_seen TIMESTAMP WITH TIME ZONE DEFAULT NOW(),
    uptime_seconds BIGINT DEFAULT 0, total_sessions_served INTEGER DEFAULT 0,
    total_tokens_served BIGINT DEFAULT 0, total_earned_far DECIMAL(20,8) DEFAULT 0,
    registered_at TIMESTAMP WITH TIME ZONE DEFAULT NOW(),
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT NOW());
CREATE TABLE far_node_models (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    node_id UUID NOT NULL REFERENCES far_nodes(id) ON DELETE CASCADE,
    model_id VARCHAR(255) NOT NULL, layers_start INTEGER NOT NULL, layers_end INTEGER NOT NULL,
    total_layers INTEGER NOT NULL, quantization VARCHAR(20) DEFAULT 'fp16',
    max_batch_size INTEGER DEFAULT 1, avg_latency_ms INTEGER,
    throughput_tokens_per_sec DECIMAL(10,2), is_serving BOOLEAN DEFAULT TRUE,
    started_serving_at TIMESTAMP WITH TIME ZONE DEFAULT NOW(),
    stopped_serving_at TIMESTAMP WITH TIME ZONE,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT NOW(),
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT NOW(), UNIQUE (node_id, model_id));
CREATE TABLE far_session_contributions (
    id BIGSERIAL PRIMARY KEY,
    session_id UUID NOT NULL REFERENCES far_mesh_sessions(id) ON DELETE CASCADE,
    node_id UUID NOT NULL REFERENCES far_nodes(id) ON DELETE CASCADE,
    tokens_contributed INTEGER DEFAULT 0, layers_processed INTEGER[],
    payment_far DECIMAL(20,8) DEFAULT 0, paid_at TIMESTAMP WITH TIME ZONE,
    payment_tx_hash VARCHAR(66), created_at TIMESTAMP WITH TIME ZONE DEFAULT NOW(),
    UNIQUE (session_id, node_id));
CREATE TABLE far_payment_batches (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(), total_nodes INTEGER NOT NULL,
    total_amount_far DECIMAL(20,8) NOT NULL, tx_hash VARCHAR(66), block_number BIGINT,
    gas_used BIGINT, gas_price_gwei DECIMAL(10,2), status VARCHAR(20) DEFAULT 'pending',
    error_message TEXT, created_at TIMESTAMP WITH TIME ZONE DEFAULT NOW(),
    submitted_at TIMESTAMP WITH TIME ZONE, confirmed_at TIMESTAMP WITH TIME ZONE);
CREATE TABLE far_mesh_metrics (
    id BIGSERIAL PRIMARY KEY, recorded_at TIMESTAMP WITH TIME ZONE DEFAULT NOW(),
    total_nodes INTEGER, active_nodes INTEGER, total_models INTEGER, active_sessions INTEGER,
    sessions_last_hour INTEGER, tokens_generated_last_hour BIGINT, avg_latency_ms INTEGER,
    p95_latency_ms INTEGER, p99_latency_ms INTEGER, far_paid_last_hour DECIMAL(20,8));
CREATE VIEW active_far_nodes AS
    SELECT wallet_address, node_id FROM far_nodes WHERE is_active;
CREATE VIEW node_earnings_summary AS
    SELECT node_id, 0 AS total_earned FROM far_nodes;
CREATE FUNCTION finalize_session(session_uuid UUID, tokens INTEGER, cost DECIMAL)
RETURNS BOOLEAN LANGUAGE sql AS $$ SELECT true $$;
CREATE FUNCTION update_node_last_seen(p VARCHAR) RETURNS INTEGER LANGUAGE sql AS $$ SELECT 1 $$;
INSERT INTO far_nodes (node_id, wallet_address) VALUES ('old node', '0xold');
INSERT INTO far_mesh_sessions (request_id, user_wallet, model_id, status)
    VALUES ('old', '0xuser', 'm', 'completed');
INSERT INTO far_session_contributions (session_id, node_id, tokens_contributed, layers_processed,
    payment_far) SELECT s.id, n.id, 10, '{0,1}', 0.001 FROM far_mesh_sessions s, far_nodes n;
UPDATE far_nodes SET total_sessions_served = 1, total_tokens_served = 10, total_earned_far = 0.001;
