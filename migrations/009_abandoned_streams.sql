-- What a session that its coordinator leaves owes beyond what was saved of it (PostgreSQL 13 or newer).
-- Applies twice over.
SET client_min_messages = warning;

ALTER TABLE far_mesh_sessions
    -- Its tokens go to the client before its end: those that nodes prove are owed.
    ADD COLUMN IF NOT EXISTS streamed boolean NOT NULL DEFAULT false,
    -- Of a stream that goes on: charged by an earlier session of its request, and made once more.
    ADD COLUMN IF NOT EXISTS repeated_tokens integer NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS prompt_charged boolean NOT NULL DEFAULT false;
