-- The registry: when each node signed the newest of its requests that was taken (SQLite).
-- Mirrors 007_registry.sql.
ALTER TABLE far_nodes ADD COLUMN signed_ms INTEGER NOT NULL DEFAULT 0;
