-- Accounts: API keys, logins, prepaid credits, idempotency keys (SQLite).
-- Mirrors 005_ledger_accounts.sql.

CREATE TABLE far_api_keys (
    key_id TEXT PRIMARY KEY,
    account TEXT NOT NULL,
    name TEXT NOT NULL DEFAULT '',
    scopes INTEGER NOT NULL,
    tier TEXT NOT NULL DEFAULT 'standard',
    salt BLOB NOT NULL,
    hash BLOB NOT NULL,
    created_at TEXT NOT NULL,
    expires_at TEXT,
    revoked_at TEXT
) STRICT;
CREATE INDEX far_api_keys_account ON far_api_keys (account);

CREATE TABLE far_login_nonces (
    nonce TEXT PRIMARY KEY,
    wallet_address TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    used_at TEXT
) STRICT;
CREATE INDEX far_login_nonces_expiry ON far_login_nonces (expires_at);

CREATE TABLE far_credit_accounts (
    account TEXT PRIMARY KEY,
    balance_far_units INTEGER NOT NULL DEFAULT 0,
    balance_far TEXT GENERATED ALWAYS AS (printf('%d.%08d', balance_far_units / 100000000, balance_far_units % 100000000)) VIRTUAL,
    reserved_far_units INTEGER NOT NULL DEFAULT 0,
    reserved_far TEXT GENERATED ALWAYS AS (printf('%d.%08d', reserved_far_units / 100000000, reserved_far_units % 100000000)) VIRTUAL,
    updated_at TEXT NOT NULL,
    CHECK (reserved_far_units >= 0 AND reserved_far_units <= balance_far_units)
) STRICT;

CREATE TABLE far_credit_reservations (
    request_id TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES far_credit_accounts (account) ON DELETE RESTRICT,
    amount_far_units INTEGER NOT NULL CHECK (amount_far_units >= 0),
    amount_far TEXT GENERATED ALWAYS AS (printf('%d.%08d', amount_far_units / 100000000, amount_far_units % 100000000)) VIRTUAL,
    charged_far_units INTEGER NOT NULL DEFAULT 0,
    charged_far TEXT GENERATED ALWAYS AS (printf('%d.%08d', charged_far_units / 100000000, charged_far_units % 100000000)) VIRTUAL,
    status TEXT NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'settled', 'released')),
    created_at TEXT NOT NULL,
    closed_at TEXT
) STRICT;
CREATE INDEX far_credit_reservations_open ON far_credit_reservations (account)
    WHERE status = 'open';

CREATE TABLE far_credit_entries (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    account TEXT NOT NULL REFERENCES far_credit_accounts (account) ON DELETE RESTRICT,
    kind TEXT NOT NULL CHECK (kind IN ('deposit', 'charge', 'withdrawal', 'refund')),
    amount_far_units INTEGER NOT NULL,
    -- Charges are negative, and printf's remainder would be too.
    amount_far TEXT GENERATED ALWAYS AS (printf('%s%d.%08d', iif(amount_far_units < 0, '-', ''), abs(amount_far_units) / 100000000, abs(amount_far_units) % 100000000)) VIRTUAL,
    reference TEXT NOT NULL,
    created_at TEXT NOT NULL,
    UNIQUE (kind, reference)
) STRICT;
CREATE INDEX far_credit_entries_account ON far_credit_entries (account, id);
CREATE TRIGGER far_credit_entries_no_update BEFORE UPDATE ON far_credit_entries
BEGIN
    SELECT RAISE(ABORT, 'far_credit_entries is append-only');
END;
CREATE TRIGGER far_credit_entries_no_delete BEFORE DELETE ON far_credit_entries
BEGIN
    SELECT RAISE(ABORT, 'far_credit_entries is append-only');
END;

CREATE TABLE far_idempotency_keys (
    account TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    body_digest TEXT NOT NULL,
    response TEXT,
    created_at TEXT NOT NULL,
    PRIMARY KEY (account, idempotency_key)
) STRICT;
CREATE INDEX far_idempotency_keys_age ON far_idempotency_keys (created_at);
