-- Distributed inference: sessions, nodes, contributions, receipts, payments (PostgreSQL 13 or newer).
--
-- Apply with `psql -f` or by the program itself, as often as you like: on an empty database, on a
-- platform's database with other tables in it, or on one that holds an earlier edition of this
-- file. Whatever is there already stays; only what is missing is added. SQLite has its counterpart
-- in 004_distributed_inference.sqlite.sql.

SET client_min_messages = warning;

CREATE TABLE IF NOT EXISTS far_mesh_sessions (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    request_id varchar(255) NOT NULL,
    user_wallet varchar(42) NOT NULL,
    model_id varchar(255) NOT NULL,
    prompt_text text NOT NULL DEFAULT '',
    max_tokens integer NOT NULL DEFAULT 512,
    temperature double precision DEFAULT 0.7,
    top_p double precision DEFAULT 0.9,
    tokens_generated integer NOT NULL DEFAULT 0,
    total_cost_far decimal(20,8) NOT NULL DEFAULT 0,
    started_at timestamptz NOT NULL DEFAULT now(),
    completed_at timestamptz,
    failed_at timestamptz,
    status varchar(20) NOT NULL DEFAULT 'active'
        CHECK (status IN ('active', 'completed', 'failed', 'cancelled')),
    error_message text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE far_mesh_sessions
    ADD COLUMN IF NOT EXISTS prompt_text text DEFAULT '',
    ADD COLUMN IF NOT EXISTS temperature double precision DEFAULT 0.7,
    ADD COLUMN IF NOT EXISTS top_p double precision DEFAULT 0.9,
    ADD COLUMN IF NOT EXISTS failed_at timestamptz,
    ADD COLUMN IF NOT EXISTS error_message text,
    ADD COLUMN IF NOT EXISTS created_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN IF NOT EXISTS updated_at timestamptz NOT NULL DEFAULT now(),
    -- The price at the start holds to the end.
    ADD COLUMN IF NOT EXISTS price_per_token_far decimal(20,8) NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS price_per_prompt_token_far decimal(20,8) NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS platform_fee_bps integer NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS split_policy varchar(20) NOT NULL DEFAULT 'layer_units',
    ADD COLUMN IF NOT EXISTS body_digest varchar(64) NOT NULL DEFAULT '',
    ADD COLUMN IF NOT EXISTS coordinator varchar(64) NOT NULL DEFAULT '',
    -- total_cost_far = payments to nodes + operator_far + platform_fee_far, exactly.
    ADD COLUMN IF NOT EXISTS prompt_tokens integer NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS operator_tokens integer NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS operator_far decimal(20,8) NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS platform_fee_far decimal(20,8) NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS uncollected_far decimal(20,8) NOT NULL DEFAULT 0;
CREATE UNIQUE INDEX IF NOT EXISTS far_mesh_sessions_request ON far_mesh_sessions (request_id);
CREATE INDEX IF NOT EXISTS far_mesh_sessions_active ON far_mesh_sessions (updated_at)
    WHERE status = 'active';
CREATE INDEX IF NOT EXISTS far_mesh_sessions_wallet ON far_mesh_sessions (user_wallet, started_at);
CREATE INDEX IF NOT EXISTS far_mesh_sessions_started ON far_mesh_sessions (started_at);

-- The driver's step log of a session, as JSON: rewritten about once a second while it is active,
-- final once it has ended. The shares can be computed again from it.
CREATE TABLE IF NOT EXISTS far_session_work (
    session_id uuid PRIMARY KEY REFERENCES far_mesh_sessions (id) ON DELETE RESTRICT,
    work_log text NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS far_nodes (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    node_id varchar(255) NOT NULL,
    wallet_address varchar(42) NOT NULL DEFAULT '',
    gpu_model varchar(255),
    vram_gb integer,
    cpu_cores integer,
    ram_gb integer,
    location varchar(255),
    latitude double precision,
    longitude double precision,
    public_addr varchar(255),
    dht_addr varchar(255),
    is_active boolean NOT NULL DEFAULT true,
    last_seen timestamptz NOT NULL DEFAULT now(),
    uptime_seconds bigint NOT NULL DEFAULT 0,
    total_sessions_served bigint NOT NULL DEFAULT 0,
    total_tokens_served bigint NOT NULL DEFAULT 0,
    total_earned_far decimal(20,8) NOT NULL DEFAULT 0,
    registered_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE far_nodes
    ADD COLUMN IF NOT EXISTS cpu_cores integer,
    ADD COLUMN IF NOT EXISTS ram_gb integer,
    ADD COLUMN IF NOT EXISTS location varchar(255),
    ADD COLUMN IF NOT EXISTS latitude double precision,
    ADD COLUMN IF NOT EXISTS longitude double precision,
    ADD COLUMN IF NOT EXISTS public_addr varchar(255),
    ADD COLUMN IF NOT EXISTS dht_addr varchar(255),
    ADD COLUMN IF NOT EXISTS uptime_seconds bigint NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS updated_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN IF NOT EXISTS reliability_score double precision NOT NULL DEFAULT 1,
    ADD COLUMN IF NOT EXISTS avg_latency_ms double precision,
    ADD COLUMN IF NOT EXISTS current_requests integer NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS failed_sessions bigint NOT NULL DEFAULT 0;
CREATE UNIQUE INDEX IF NOT EXISTS far_nodes_peer ON far_nodes (node_id);
CREATE INDEX IF NOT EXISTS far_nodes_wallet ON far_nodes (wallet_address);
CREATE INDEX IF NOT EXISTS far_nodes_seen ON far_nodes (last_seen) WHERE is_active;

-- Layers are inclusive here: layers_start 0, layers_end 10 are eleven layers.
CREATE TABLE IF NOT EXISTS far_node_models (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    node_id uuid NOT NULL REFERENCES far_nodes (id) ON DELETE CASCADE,
    model_id varchar(255) NOT NULL,
    layers_start integer NOT NULL,
    layers_end integer NOT NULL,
    total_layers integer NOT NULL,
    quantization varchar(20),
    max_batch_size integer,
    avg_latency_ms double precision,
    throughput_tokens_per_sec double precision,
    is_serving boolean NOT NULL DEFAULT true,
    started_serving_at timestamptz NOT NULL DEFAULT now(),
    stopped_serving_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE far_node_models
    ADD COLUMN IF NOT EXISTS max_batch_size integer,
    ADD COLUMN IF NOT EXISTS avg_latency_ms double precision,
    ADD COLUMN IF NOT EXISTS throughput_tokens_per_sec double precision,
    ADD COLUMN IF NOT EXISTS stopped_serving_at timestamptz,
    ADD COLUMN IF NOT EXISTS updated_at timestamptz NOT NULL DEFAULT now();
CREATE UNIQUE INDEX IF NOT EXISTS far_node_models_once ON far_node_models (node_id, model_id);
CREATE INDEX IF NOT EXISTS far_node_models_serving ON far_node_models (model_id) WHERE is_serving;

CREATE TABLE IF NOT EXISTS far_payment_batches (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    total_nodes integer NOT NULL DEFAULT 0,
    total_amount_far decimal(20,8) NOT NULL DEFAULT 0,
    tx_hash varchar(66),
    block_number bigint,
    gas_used bigint,
    gas_price_gwei decimal(20,9),
    status varchar(20) NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'submitted', 'confirmed', 'failed')),
    error_message text,
    created_at timestamptz NOT NULL DEFAULT now(),
    submitted_at timestamptz,
    confirmed_at timestamptz
);
CREATE INDEX IF NOT EXISTS far_payment_batches_open ON far_payment_batches (created_at)
    WHERE status <> 'confirmed';

-- Written once, when the session is finalised. Afterwards only batch_id, payment_tx_hash, paid_at
-- and a wallet that was not known change, each once, from null.
CREATE TABLE IF NOT EXISTS far_session_contributions (
    id bigserial PRIMARY KEY,
    session_id uuid NOT NULL REFERENCES far_mesh_sessions (id) ON DELETE RESTRICT,
    node_id uuid NOT NULL REFERENCES far_nodes (id) ON DELETE RESTRICT,
    tokens_contributed integer NOT NULL DEFAULT 0,
    layers_processed integer[] NOT NULL DEFAULT '{}',
    payment_far decimal(20,8) NOT NULL DEFAULT 0 CHECK (payment_far >= 0),
    paid_at timestamptz,
    payment_tx_hash varchar(66),
    created_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE far_session_contributions
    ADD COLUMN IF NOT EXISTS batch_id uuid REFERENCES far_payment_batches (id) ON DELETE RESTRICT,
    -- To whom the work is owed: the node's wallet at that time; if it had none, and in rows of
    -- earlier editions, null until the node has one.
    ADD COLUMN IF NOT EXISTS wallet_address varchar(42),
    ADD COLUMN IF NOT EXISTS prompt_tokens_contributed integer NOT NULL DEFAULT 0;
CREATE UNIQUE INDEX IF NOT EXISTS far_session_contributions_once
    ON far_session_contributions (session_id, node_id);
CREATE INDEX IF NOT EXISTS far_session_contributions_node
    ON far_session_contributions (node_id, created_at);
CREATE INDEX IF NOT EXISTS far_session_contributions_unpaid
    ON far_session_contributions (created_at) WHERE batch_id IS NULL AND paid_at IS NULL;
CREATE INDEX IF NOT EXISTS far_session_contributions_batch ON far_session_contributions (batch_id);

-- What a batch pays to whom. The contributions of a batch stay its own for ever; an item that a
-- wallet cannot receive is held, and carried by a later batch's transaction.
CREATE TABLE IF NOT EXISTS far_payment_items (
    batch_id uuid NOT NULL REFERENCES far_payment_batches (id) ON DELETE RESTRICT,
    wallet_address varchar(42) NOT NULL,
    amount_far decimal(20,8) NOT NULL CHECK (amount_far > 0),
    status varchar(20) NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'held', 'paid')),
    paying_batch_id uuid REFERENCES far_payment_batches (id) ON DELETE RESTRICT,
    reason varchar(255),
    PRIMARY KEY (batch_id, wallet_address)
);
CREATE INDEX IF NOT EXISTS far_payment_items_paying ON far_payment_items (paying_batch_id);

CREATE TABLE IF NOT EXISTS far_mesh_metrics (
    id bigserial PRIMARY KEY,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    total_nodes integer NOT NULL DEFAULT 0,
    active_nodes integer NOT NULL DEFAULT 0,
    total_models integer NOT NULL DEFAULT 0,
    active_sessions integer NOT NULL DEFAULT 0,
    sessions_last_hour integer NOT NULL DEFAULT 0,
    tokens_generated_last_hour bigint NOT NULL DEFAULT 0,
    avg_latency_ms double precision,
    p95_latency_ms double precision,
    p99_latency_ms double precision,
    far_paid_last_hour decimal(20,8) NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS far_mesh_metrics_time ON far_mesh_metrics (recorded_at);

-- Append-only: what nodes say they did, signed by them, countersigned by the driver.
CREATE TABLE IF NOT EXISTS far_receipts (
    id bigserial PRIMARY KEY,
    session_id uuid NOT NULL REFERENCES far_mesh_sessions (id) ON DELETE RESTRICT,
    node_id varchar(64) NOT NULL,
    layers_start integer NOT NULL,
    layers_end integer NOT NULL,
    sequence integer NOT NULL,
    prefill_tokens bigint NOT NULL,
    cached_tokens bigint NOT NULL,
    decode_tokens bigint NOT NULL,
    replay_tokens bigint NOT NULL,
    rejected_tokens bigint NOT NULL,
    standby_tokens bigint NOT NULL,
    receipt bytea NOT NULL,
    node_key bytea NOT NULL,
    node_signature bytea NOT NULL,
    driver_key bytea,
    driver_signature bytea,
    received_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX IF NOT EXISTS far_receipts_once
    ON far_receipts (session_id, node_id, layers_start, layers_end, sequence);

CREATE TABLE IF NOT EXISTS far_disputes (
    id bigserial PRIMARY KEY,
    session_id uuid NOT NULL REFERENCES far_mesh_sessions (id) ON DELETE RESTRICT,
    node_id varchar(64) NOT NULL,
    layers_start integer NOT NULL,
    layers_end integer NOT NULL,
    claimed_tokens bigint NOT NULL,
    logged_tokens bigint NOT NULL,
    opened_at timestamptz NOT NULL DEFAULT now(),
    resolved_at timestamptz,
    resolution varchar(255)
);
CREATE UNIQUE INDEX IF NOT EXISTS far_disputes_once
    ON far_disputes (session_id, node_id, layers_start, layers_end, claimed_tokens);
CREATE INDEX IF NOT EXISTS far_disputes_open ON far_disputes (id) WHERE resolved_at IS NULL;

-- An earlier edition may have let unpaid work vanish with its session.
DO $$
DECLARE
    found record;
BEGIN
    FOR found IN
        SELECT c.conname, c.conkey, c.confrelid::regclass::text AS target, a.attname
        FROM pg_constraint c JOIN pg_attribute a
            ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
        WHERE c.conrelid = 'far_session_contributions'::regclass AND c.contype = 'f'
            AND c.confdeltype <> 'r' AND array_length(c.conkey, 1) = 1
            AND a.attname IN ('session_id', 'node_id')
    LOOP
        EXECUTE format('ALTER TABLE far_session_contributions DROP CONSTRAINT %I', found.conname);
        EXECUTE format('ALTER TABLE far_session_contributions ADD CONSTRAINT %I '
            'FOREIGN KEY (%I) REFERENCES %s (id) ON DELETE RESTRICT',
            found.conname, found.attname, found.target);
    END LOOP;
END $$;

-- The conditions stand in the triggers: a batch of a hundred thousand rows calls no function.
CREATE OR REPLACE FUNCTION far_guard_contribution() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a contribution is written once, and unpaid work is not deleted'
        USING ERRCODE = '23001';
END $$;
DROP TRIGGER IF EXISTS far_guard_contribution ON far_session_contributions;
CREATE TRIGGER far_guard_contribution BEFORE UPDATE ON far_session_contributions
    FOR EACH ROW WHEN (
        NEW.id <> OLD.id OR NEW.session_id <> OLD.session_id OR NEW.node_id <> OLD.node_id
        OR NEW.tokens_contributed IS DISTINCT FROM OLD.tokens_contributed
        OR NEW.layers_processed IS DISTINCT FROM OLD.layers_processed
        OR NEW.payment_far IS DISTINCT FROM OLD.payment_far
        OR NEW.created_at IS DISTINCT FROM OLD.created_at
        OR NEW.prompt_tokens_contributed <> OLD.prompt_tokens_contributed
        OR (OLD.wallet_address IS NOT NULL
            AND NEW.wallet_address IS DISTINCT FROM OLD.wallet_address)
        OR (OLD.batch_id IS NOT NULL AND NEW.batch_id IS DISTINCT FROM OLD.batch_id)
        OR (OLD.paid_at IS NOT NULL AND NEW.paid_at IS DISTINCT FROM OLD.paid_at)
        OR (OLD.payment_tx_hash IS NOT NULL
            AND NEW.payment_tx_hash IS DISTINCT FROM OLD.payment_tx_hash))
    EXECUTE FUNCTION far_guard_contribution();
DROP TRIGGER IF EXISTS far_keep_contribution ON far_session_contributions;
CREATE TRIGGER far_keep_contribution BEFORE DELETE ON far_session_contributions
    FOR EACH ROW WHEN (OLD.paid_at IS NULL) EXECUTE FUNCTION far_guard_contribution();

CREATE OR REPLACE FUNCTION far_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = '23001';
END $$;
DROP TRIGGER IF EXISTS far_receipts_append_only ON far_receipts;
CREATE TRIGGER far_receipts_append_only BEFORE UPDATE OR DELETE ON far_receipts
    FOR EACH ROW EXECUTE FUNCTION far_refuse_change();

-- Views are replaced, which keeps their grants; one with other columns is made anew.
DO $$
DECLARE
    views constant text[][] := ARRAY[
        ARRAY['active_far_nodes', $view$
            SELECT n.node_id, n.wallet_address, n.gpu_model, n.vram_gb, n.location,
                n.total_sessions_served, n.total_tokens_served, n.total_earned_far, n.last_seen,
                count(DISTINCT m.model_id) AS models_serving,
                coalesce(array_agg(DISTINCT m.model_id) FILTER (WHERE m.model_id IS NOT NULL),
                    '{}') AS active_models
            FROM far_nodes n
            LEFT JOIN far_node_models m ON m.node_id = n.id AND m.is_serving
            WHERE n.is_active AND n.last_seen > now() - interval '5 minutes'
            GROUP BY n.id $view$],
        ARRAY['node_earnings_summary', $view$
            SELECT n.node_id, n.wallet_address,
                count(c.id) AS sessions_contributed,
                coalesce(sum(c.tokens_contributed), 0) AS total_tokens,
                coalesce(sum(c.payment_far), 0) AS total_earned,
                coalesce(sum(c.payment_far) FILTER (WHERE c.paid_at IS NULL), 0)
                    AS pending_payment,
                max(c.created_at) AS last_contribution
            FROM far_nodes n
            LEFT JOIN far_session_contributions c ON c.node_id = n.id
            GROUP BY n.id $view$]];
    i integer;
BEGIN
    FOR i IN 1 .. array_length(views, 1) LOOP
        BEGIN
            EXECUTE format('CREATE OR REPLACE VIEW %I AS %s', views[i][1], views[i][2]);
        EXCEPTION WHEN invalid_table_definition OR feature_not_supported THEN
            EXECUTE format('DROP VIEW %I', views[i][1]);
            EXECUTE format('CREATE VIEW %I AS %s', views[i][1], views[i][2]);
        END;
    END LOOP;
END $$;

-- Functions of an earlier edition may have other parameter names or results.
DO $$
DECLARE
    found record;
BEGIN
    FOR found IN
        SELECT p.oid::regprocedure::text AS signature
        FROM pg_proc p
        WHERE p.pronamespace = current_schema()::regnamespace
            AND p.proname IN ('finalize_session', 'update_node_last_seen')
    LOOP
        EXECUTE 'DROP FUNCTION ' || found.signature;
    END LOOP;
END $$;

-- Ends an active session and counts its contributions into its nodes' totals. Twice is once.
CREATE FUNCTION finalize_session(p_session_id uuid, p_tokens_generated integer, p_total_cost decimal)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE far_mesh_sessions
    SET status = 'completed', tokens_generated = p_tokens_generated, total_cost_far = p_total_cost,
        completed_at = now(), updated_at = now()
    WHERE id = p_session_id AND status = 'active';
    IF NOT FOUND THEN
        RETURN;
    END IF;
    UPDATE far_nodes n
    SET total_sessions_served = n.total_sessions_served + 1,
        total_tokens_served = n.total_tokens_served + c.tokens_contributed,
        total_earned_far = n.total_earned_far + c.payment_far,
        updated_at = now()
    FROM far_session_contributions c
    WHERE c.session_id = p_session_id AND c.node_id = n.id;
END $$;

CREATE FUNCTION update_node_last_seen(p_node_id varchar) RETURNS void LANGUAGE sql AS $$
    UPDATE far_nodes SET last_seen = now(), is_active = true, updated_at = now()
    WHERE node_id = p_node_id;
$$;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'farlabs_admin') THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON far_mesh_sessions, far_session_work, far_nodes,
            far_node_models, far_session_contributions, far_payment_batches, far_payment_items,
            far_mesh_metrics, far_disputes TO farlabs_admin;
        GRANT SELECT, INSERT ON far_receipts TO farlabs_admin;
        GRANT SELECT ON active_far_nodes, node_earnings_summary TO farlabs_admin;
        GRANT USAGE, SELECT ON SEQUENCE far_receipts_id_seq, far_disputes_id_seq,
            far_mesh_metrics_id_seq TO farlabs_admin;
        GRANT EXECUTE ON FUNCTION finalize_session(uuid, integer, decimal),
            update_node_last_seen(varchar) TO farlabs_admin;
    END IF;
END $$;
