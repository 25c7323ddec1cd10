-- Payments: cheaper batches, the operator's share, withdrawals that were asked for, reservations on
-- chain (PostgreSQL 13 or newer). Applies twice over; after 006, always.
SET client_min_messages = warning;

-- A batch of a hundred thousand rows writes each row once and no index at all: nothing that an index
-- holds changes, and pages have room for a second version of their rows (a heap-only update). Rows of
-- a batch are found as unpaid, or by their transaction.
ALTER TABLE far_session_contributions SET (fillfactor = 45);
DROP INDEX IF EXISTS far_session_contributions_unpaid;
DROP INDEX IF EXISTS far_session_contributions_batch;
DROP INDEX IF EXISTS far_session_contributions_walletless;
CREATE INDEX IF NOT EXISTS far_session_contributions_due
    ON far_session_contributions (created_at) WHERE paid_at IS NULL;
CREATE INDEX IF NOT EXISTS far_session_contributions_paid
    ON far_session_contributions (payment_tx_hash) WHERE payment_tx_hash IS NOT NULL;
CREATE INDEX IF NOT EXISTS far_session_contributions_no_wallet
    ON far_session_contributions (node_id) WHERE wallet_address IS NULL AND paid_at IS NULL;

-- After the update, not before it: a trigger before it locks each row.
DROP TRIGGER IF EXISTS far_guard_contribution ON far_session_contributions;
CREATE TRIGGER far_guard_contribution AFTER UPDATE ON far_session_contributions
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

-- What a batch's transaction pays the operator, beside its items.
ALTER TABLE far_payment_transactions
    ADD COLUMN IF NOT EXISTS operator_wallet varchar(42) NOT NULL DEFAULT '',
    ADD COLUMN IF NOT EXISTS operator_far decimal(20,8) NOT NULL DEFAULT 0;

-- A charge on credit has no key; one on a reservation has keccak256 of its request's id.
ALTER TABLE far_payment_charges
    ADD COLUMN IF NOT EXISTS request_key varchar(66) NOT NULL DEFAULT '';
ALTER TABLE far_payment_charges DROP CONSTRAINT IF EXISTS far_payment_charges_pkey;
ALTER TABLE far_payment_charges ADD PRIMARY KEY (batch_id, account, request_key);

-- A wish to withdraw is absolute; its place in the block tells it from the one before.
ALTER TABLE far_chain_movements ADD COLUMN IF NOT EXISTS position bigint NOT NULL DEFAULT 0;
ALTER TABLE far_chain_movements DROP CONSTRAINT IF EXISTS far_chain_movements_kind_check;
ALTER TABLE far_chain_movements ADD CONSTRAINT far_chain_movements_kind_check
    CHECK (kind IN ('deposit', 'withdrawal', 'request'));
CREATE INDEX IF NOT EXISTS far_chain_movements_account
    ON far_chain_movements (account, block_number, position);

-- What the user has asked the escrow to give back: no credit, though it can still be charged for a
-- while.
ALTER TABLE far_credit_accounts
    ADD COLUMN IF NOT EXISTS leaving_far decimal(20,8) NOT NULL DEFAULT 0
        CHECK (leaving_far >= 0);

-- Money of one request, set aside in the escrow by its user's signature.
CREATE TABLE IF NOT EXISTS far_escrow_reservations (
    request_id varchar(255) PRIMARY KEY,
    request_key varchar(66) NOT NULL UNIQUE,
    account varchar(42) NOT NULL REFERENCES far_credit_accounts (account) ON DELETE RESTRICT,
    amount_far decimal(20,8) NOT NULL CHECK (amount_far > 0),
    cost_far decimal(20,8) NOT NULL DEFAULT 0,
    deadline timestamptz NOT NULL,
    signature bytea NOT NULL,
    status varchar(20) NOT NULL DEFAULT 'signed' CHECK (status IN ('signed', 'open', 'served',
        'authorized', 'settled', 'returned', 'refused')),
    seen_block bigint,
    reason varchar(255),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS far_escrow_reservations_live ON far_escrow_reservations (deadline)
    WHERE status IN ('signed', 'open', 'served', 'authorized');

-- A transaction of a sender that is no batch's: the last that was signed for its nonce.
CREATE TABLE IF NOT EXISTS far_payout_errands (
    name varchar(128) PRIMARY KEY,
    what varchar(255) NOT NULL,
    tx_hash varchar(66) NOT NULL,
    nonce bigint NOT NULL,
    raw bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'farlabs_admin') THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON far_escrow_reservations, far_payout_errands
            TO farlabs_admin;
    END IF;
END $$;
