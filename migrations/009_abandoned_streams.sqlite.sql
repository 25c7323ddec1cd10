-- What a session that its coordinator leaves owes beyond what was saved of it (SQLite).
-- Mirrors 009_abandoned_streams.sql.

ALTER TABLE far_mesh_sessions ADD COLUMN streamed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE far_mesh_sessions ADD COLUMN repeated_tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE far_mesh_sessions ADD COLUMN prompt_charged INTEGER NOT NULL DEFAULT 0;
