-- Payments: the operator's share, withdrawals that were asked for, reservations on chain (SQLite).
-- Mirrors 008_payments.sql.

ALTER TABLE far_payment_transactions ADD COLUMN operator_wallet TEXT NOT NULL DEFAULT '';
ALTER TABLE far_payment_transactions ADD COLUMN operator_far_units INTEGER NOT NULL DEFAULT 0;
ALTER TABLE far_payment_transactions ADD COLUMN operator_far TEXT GENERATED ALWAYS AS (printf('%d.%08d', operator_far_units / 100000000, operator_far_units % 100000000)) VIRTUAL;

CREATE TABLE far_payment_charges_new (
    batch_id TEXT NOT NULL REFERENCES far_payment_batches (id) ON DELETE RESTRICT,
    account TEXT NOT NULL,
    request_key TEXT NOT NULL DEFAULT '',
    amount_far_units INTEGER NOT NULL CHECK (amount_far_units > 0),
    amount_far TEXT GENERATED ALWAYS AS (printf('%d.%08d', amount_far_units / 100000000, amount_far_units % 100000000)) VIRTUAL,
    PRIMARY KEY (batch_id, account, request_key)
) STRICT;
INSERT INTO far_payment_charges_new (batch_id, account, amount_far_units)
    SELECT batch_id, account, amount_far_units FROM far_payment_charges;
DROP TABLE far_payment_charges;
ALTER TABLE far_payment_charges_new RENAME TO far_payment_charges;
CREATE INDEX far_payment_charges_account ON far_payment_charges (account);

CREATE TABLE far_chain_movements_new (
    reference TEXT PRIMARY KEY,
    chain TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('deposit', 'withdrawal', 'request')),
    account TEXT NOT NULL,
    amount_wei TEXT NOT NULL,
    tx_hash TEXT NOT NULL,
    block_number INTEGER NOT NULL,
    position INTEGER NOT NULL DEFAULT 0,
    dropped_at TEXT
) STRICT;
INSERT INTO far_chain_movements_new (reference, chain, kind, account, amount_wei, tx_hash,
        block_number, dropped_at)
    SELECT reference, chain, kind, account, amount_wei, tx_hash, block_number, dropped_at
    FROM far_chain_movements;
DROP TABLE far_chain_movements;
ALTER TABLE far_chain_movements_new RENAME TO far_chain_movements;
CREATE INDEX far_chain_movements_block ON far_chain_movements (chain, block_number);
CREATE INDEX far_chain_movements_account ON far_chain_movements (account, block_number, position);

ALTER TABLE far_credit_accounts ADD COLUMN leaving_far_units INTEGER NOT NULL DEFAULT 0
    CHECK (leaving_far_units >= 0);
ALTER TABLE far_credit_accounts ADD COLUMN leaving_far TEXT GENERATED ALWAYS AS (printf('%d.%08d', leaving_far_units / 100000000, leaving_far_units % 100000000)) VIRTUAL;

CREATE TABLE far_escrow_reservations (
    request_id TEXT PRIMARY KEY,
    request_key TEXT NOT NULL UNIQUE,
    account TEXT NOT NULL REFERENCES far_credit_accounts (account) ON DELETE RESTRICT,
    amount_far_units INTEGER NOT NULL CHECK (amount_far_units > 0),
    amount_far TEXT GENERATED ALWAYS AS (printf('%d.%08d', amount_far_units / 100000000, amount_far_units % 100000000)) VIRTUAL,
    cost_far_units INTEGER NOT NULL DEFAULT 0,
    cost_far TEXT GENERATED ALWAYS AS (printf('%d.%08d', cost_far_units / 100000000, cost_far_units % 100000000)) VIRTUAL,
    deadline TEXT NOT NULL,
    signature BLOB NOT NULL,
    status TEXT NOT NULL DEFAULT 'signed' CHECK (status IN ('signed', 'open', 'served',
        'authorized', 'settled', 'returned', 'refused')),
    seen_block INTEGER,
    reason TEXT,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
) STRICT;
CREATE INDEX far_escrow_reservations_live ON far_escrow_reservations (deadline)
    WHERE status IN ('signed', 'open', 'served', 'authorized');

CREATE TABLE far_payout_errands (
    name TEXT PRIMARY KEY,
    what TEXT NOT NULL,
    tx_hash TEXT NOT NULL,
    nonce INTEGER NOT NULL,
    raw BLOB NOT NULL,
    created_at TEXT NOT NULL
) STRICT;
