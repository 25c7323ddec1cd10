-- The registry: when each node signed the newest of its requests that was taken (Unix milliseconds),
-- so that none is taken twice, by whichever service of one database.
ALTER TABLE far_nodes ADD COLUMN IF NOT EXISTS signed_ms bigint NOT NULL DEFAULT 0;
