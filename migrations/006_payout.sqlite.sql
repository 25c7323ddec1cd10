-- Payout: the transactions of batches, what they charge users, and what was seen on chain (SQLite).
-- Mirrors 006_payout.sql.

ALTER TABLE far_payment_batches ADD COLUMN fee_far_units INTEGER NOT NULL DEFAULT 0;
ALTER TABLE far_payment_batches ADD COLUMN fee_far TEXT GENERATED ALWAYS AS (printf('%d.%08d', fee_far_units / 100000000, fee_far_units % 100000000)) VIRTUAL;

CREATE TABLE far_payment_transactions (
    tx_hash TEXT PRIMARY KEY,
    batch_id TEXT NOT NULL REFERENCES far_payment_batches (id) ON DELETE RESTRICT,
    chain_id INTEGER NOT NULL,
    sender TEXT NOT NULL,
    nonce INTEGER NOT NULL,
    raw BLOB NOT NULL,
    created_at TEXT NOT NULL
) STRICT;
CREATE INDEX far_payment_transactions_batch ON far_payment_transactions (batch_id);

CREATE TABLE far_payment_charges (
    batch_id TEXT NOT NULL REFERENCES far_payment_batches (id) ON DELETE RESTRICT,
    account TEXT NOT NULL,
    amount_far_units INTEGER NOT NULL CHECK (amount_far_units > 0),
    amount_far TEXT GENERATED ALWAYS AS (printf('%d.%08d', amount_far_units / 100000000, amount_far_units % 100000000)) VIRTUAL,
    PRIMARY KEY (batch_id, account)
) STRICT;
CREATE INDEX far_payment_charges_account ON far_payment_charges (account);

CREATE TABLE far_payout_leases (
    name TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    expires_at TEXT NOT NULL
) STRICT;

CREATE TABLE far_payout_settings (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

CREATE TABLE far_chain_cursors (
    name TEXT PRIMARY KEY,
    block_number INTEGER NOT NULL,
    block_hash TEXT NOT NULL
) STRICT;

CREATE TABLE far_chain_movements (
    reference TEXT PRIMARY KEY,
    chain TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('deposit', 'withdrawal')),
    account TEXT NOT NULL,
    amount_wei TEXT NOT NULL,
    tx_hash TEXT NOT NULL,
    block_number INTEGER NOT NULL,
    dropped_at TEXT
) STRICT;
CREATE INDEX far_chain_movements_block ON far_chain_movements (chain, block_number);

-- Work of nodes that had no wallet yet: looked for by every batch, hardly ever there.
CREATE INDEX far_session_contributions_walletless ON far_session_contributions (node_id)
    WHERE wallet_address IS NULL AND batch_id IS NULL AND paid_at IS NULL;

-- Each trigger fires for its own columns, so that a batch of a hundred thousand rows runs the one
-- that reads a single column. A reorganisation can undo a confirmation: then the item is pending
-- again, and its contributions are unpaid again. Nothing else changes twice.
DROP TRIGGER far_guard_contribution;
CREATE TRIGGER far_guard_contribution BEFORE UPDATE OF id, session_id, node_id, tokens_contributed,
    layers_processed, payment_far_units, created_at, prompt_tokens_contributed
ON far_session_contributions
WHEN NEW.id <> OLD.id OR NEW.session_id <> OLD.session_id OR NEW.node_id <> OLD.node_id
    OR NEW.tokens_contributed <> OLD.tokens_contributed
    OR NEW.layers_processed <> OLD.layers_processed
    OR NEW.payment_far_units <> OLD.payment_far_units OR NEW.created_at <> OLD.created_at
    OR NEW.prompt_tokens_contributed <> OLD.prompt_tokens_contributed
BEGIN
    SELECT RAISE(ABORT, 'a contribution is written once');
END;
CREATE TRIGGER far_guard_contribution_batch BEFORE UPDATE OF batch_id ON far_session_contributions
WHEN OLD.batch_id IS NOT NULL AND NEW.batch_id IS NOT OLD.batch_id
BEGIN
    SELECT RAISE(ABORT, 'a contribution is written once');
END;
CREATE TRIGGER far_guard_contribution_wallet BEFORE UPDATE OF wallet_address
ON far_session_contributions
WHEN OLD.wallet_address IS NOT NULL AND NEW.wallet_address IS NOT OLD.wallet_address
BEGIN
    SELECT RAISE(ABORT, 'a contribution is written once');
END;
CREATE TRIGGER far_guard_contribution_paid BEFORE UPDATE OF paid_at, payment_tx_hash
ON far_session_contributions
WHEN ((OLD.paid_at IS NOT NULL AND NEW.paid_at IS NOT OLD.paid_at)
        OR (OLD.payment_tx_hash IS NOT NULL AND NEW.payment_tx_hash IS NOT OLD.payment_tx_hash))
    AND NOT (NEW.paid_at IS NULL AND NEW.payment_tx_hash IS NULL AND EXISTS (
        SELECT 1 FROM far_payment_items i WHERE i.batch_id = OLD.batch_id
            AND i.wallet_address = OLD.wallet_address AND i.status = 'pending'))
BEGIN
    SELECT RAISE(ABORT, 'a contribution is written once');
END;
