-- Payout: the transactions of batches, what they charge users, and what was seen on chain
-- (PostgreSQL 13 or newer). Applies twice over, as 004 does; after 004, always.
SET client_min_messages = warning;

ALTER TABLE far_payment_batches
    ADD COLUMN IF NOT EXISTS fee_far decimal(20,8) NOT NULL DEFAULT 0;

-- Every transaction that was ever signed for a batch, before it was sent.
CREATE TABLE IF NOT EXISTS far_payment_transactions (
    tx_hash varchar(66) PRIMARY KEY,
    batch_id uuid NOT NULL REFERENCES far_payment_batches (id) ON DELETE RESTRICT,
    chain_id bigint NOT NULL,
    sender varchar(42) NOT NULL,
    nonce bigint NOT NULL,
    raw bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS far_payment_transactions_batch ON far_payment_transactions (batch_id);

-- What a batch takes from the escrow's accounts.
CREATE TABLE IF NOT EXISTS far_payment_charges (
    batch_id uuid NOT NULL REFERENCES far_payment_batches (id) ON DELETE RESTRICT,
    account varchar(42) NOT NULL,
    amount_far decimal(20,8) NOT NULL CHECK (amount_far > 0),
    PRIMARY KEY (batch_id, account)
);
CREATE INDEX IF NOT EXISTS far_payment_charges_account ON far_payment_charges (account);

-- Who sends for an address, until when; the epoch grows with each change of hands.
CREATE TABLE IF NOT EXISTS far_payout_leases (
    name varchar(128) PRIMARY KEY,
    owner varchar(64) NOT NULL,
    epoch bigint NOT NULL,
    expires_at timestamptz NOT NULL
);

CREATE TABLE IF NOT EXISTS far_payout_settings (
    name varchar(128) PRIMARY KEY,
    value varchar(255) NOT NULL
);

CREATE TABLE IF NOT EXISTS far_chain_cursors (
    name varchar(128) PRIMARY KEY,
    block_number bigint NOT NULL,
    block_hash varchar(66) NOT NULL
);

-- Deposits into the escrow, and withdrawals from it, that are deep enough in the chain. The
-- token's own units, as decimal digits: they have ten digits more than ours.
CREATE TABLE IF NOT EXISTS far_chain_movements (
    reference varchar(255) PRIMARY KEY,
    chain varchar(128) NOT NULL,
    kind varchar(20) NOT NULL CHECK (kind IN ('deposit', 'withdrawal')),
    account varchar(42) NOT NULL,
    amount_wei varchar(78) NOT NULL,
    tx_hash varchar(66) NOT NULL,
    block_number bigint NOT NULL,
    dropped_at timestamptz
);
CREATE INDEX IF NOT EXISTS far_chain_movements_block
    ON far_chain_movements (chain, block_number);

-- Work of nodes that had no wallet yet: looked for by every batch, hardly ever there.
CREATE INDEX IF NOT EXISTS far_session_contributions_walletless
    ON far_session_contributions (node_id)
    WHERE wallet_address IS NULL AND batch_id IS NULL AND paid_at IS NULL;

-- Checking the same batch a hundred thousand times took half of the time that a batch takes. Its
-- items refer to it and cannot be deleted; the audit finds contributions without an item.
ALTER TABLE far_session_contributions
    DROP CONSTRAINT IF EXISTS far_session_contributions_batch_id_fkey;

-- A reorganisation can undo a confirmation: then the item is pending again, and its contributions
-- are unpaid again. Nothing else changes twice. The trigger calls this for changed rows only.
CREATE OR REPLACE FUNCTION far_guard_contribution() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF NEW.paid_at IS NULL AND NEW.payment_tx_hash IS NULL
            AND NEW.id = OLD.id AND NEW.session_id = OLD.session_id AND NEW.node_id = OLD.node_id
            AND NEW.tokens_contributed IS NOT DISTINCT FROM OLD.tokens_contributed
            AND NEW.layers_processed IS NOT DISTINCT FROM OLD.layers_processed
            AND NEW.payment_far IS NOT DISTINCT FROM OLD.payment_far
            AND NEW.created_at IS NOT DISTINCT FROM OLD.created_at
            AND NEW.prompt_tokens_contributed = OLD.prompt_tokens_contributed
            AND NEW.wallet_address IS NOT DISTINCT FROM OLD.wallet_address
            AND NEW.batch_id IS NOT DISTINCT FROM OLD.batch_id
            AND EXISTS (SELECT 1 FROM far_payment_items i WHERE i.batch_id = OLD.batch_id
                AND i.wallet_address = OLD.wallet_address AND i.status = 'pending') THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION 'a contribution is written once, and unpaid work is not deleted'
        USING ERRCODE = '23001';
END $$;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'farlabs_admin') THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON far_payment_charges, far_payout_leases,
            far_payout_settings, far_chain_cursors, far_chain_movements TO farlabs_admin;
        GRANT SELECT, INSERT ON far_payment_transactions TO farlabs_admin;
    END IF;
END $$;
