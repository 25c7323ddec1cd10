-- Accounts: API keys, logins, prepaid credits, idempotency keys (PostgreSQL 13 or newer).
-- Applies twice over, as 004 does.

SET client_min_messages = warning;

-- Of a key only a salted hash is kept; key_id is the public part that finds the row.
CREATE TABLE IF NOT EXISTS far_api_keys (
    key_id varchar(32) PRIMARY KEY,
    account varchar(42) NOT NULL,
    name varchar(255) NOT NULL DEFAULT '',
    scopes integer NOT NULL,
    tier varchar(20) NOT NULL DEFAULT 'standard',
    salt bytea NOT NULL,
    hash bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz
);
CREATE INDEX IF NOT EXISTS far_api_keys_account ON far_api_keys (account);

CREATE TABLE IF NOT EXISTS far_login_nonces (
    nonce varchar(64) PRIMARY KEY,
    wallet_address varchar(42) NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at timestamptz
);
CREATE INDEX IF NOT EXISTS far_login_nonces_expiry ON far_login_nonces (expires_at);

-- balance_far is the sum of the account's entries, reserved_far that of its open reservations.
CREATE TABLE IF NOT EXISTS far_credit_accounts (
    account varchar(42) PRIMARY KEY,
    balance_far decimal(20,8) NOT NULL DEFAULT 0,
    reserved_far decimal(20,8) NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT now(),
    CHECK (reserved_far >= 0 AND reserved_far <= balance_far)
);

CREATE TABLE IF NOT EXISTS far_credit_reservations (
    request_id varchar(255) PRIMARY KEY,
    account varchar(42) NOT NULL REFERENCES far_credit_accounts (account) ON DELETE RESTRICT,
    amount_far decimal(20,8) NOT NULL CHECK (amount_far >= 0),
    charged_far decimal(20,8) NOT NULL DEFAULT 0,
    status varchar(20) NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'settled', 'released')),
    created_at timestamptz NOT NULL DEFAULT now(),
    closed_at timestamptz
);
CREATE INDEX IF NOT EXISTS far_credit_reservations_open
    ON far_credit_reservations (account) WHERE status = 'open';

-- Append-only. A reference moves money once.
CREATE TABLE IF NOT EXISTS far_credit_entries (
    id bigserial PRIMARY KEY,
    account varchar(42) NOT NULL REFERENCES far_credit_accounts (account) ON DELETE RESTRICT,
    kind varchar(20) NOT NULL CHECK (kind IN ('deposit', 'charge', 'withdrawal', 'refund')),
    amount_far decimal(20,8) NOT NULL,
    reference varchar(255) NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX IF NOT EXISTS far_credit_entries_once ON far_credit_entries (kind, reference);
CREATE INDEX IF NOT EXISTS far_credit_entries_account ON far_credit_entries (account, id);
DROP TRIGGER IF EXISTS far_credit_entries_append_only ON far_credit_entries;
CREATE TRIGGER far_credit_entries_append_only BEFORE UPDATE OR DELETE ON far_credit_entries
    FOR EACH ROW EXECUTE FUNCTION far_refuse_change();

CREATE TABLE IF NOT EXISTS far_idempotency_keys (
    account varchar(42) NOT NULL,
    idempotency_key varchar(255) NOT NULL,
    body_digest varchar(64) NOT NULL,
    response text,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account, idempotency_key)
);
CREATE INDEX IF NOT EXISTS far_idempotency_keys_age ON far_idempotency_keys (created_at);

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'farlabs_admin') THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON far_api_keys, far_login_nonces,
            far_credit_accounts, far_credit_reservations, far_idempotency_keys TO farlabs_admin;
        GRANT SELECT, INSERT ON far_credit_entries TO farlabs_admin;
        GRANT USAGE, SELECT ON SEQUENCE far_credit_entries_id_seq TO farlabs_admin;
    END IF;
END $$;
