-- Tokens with which one host each may join.
CREATE TABLE join_token (
    id TEXT PRIMARY KEY,
    token_hash TEXT NOT NULL UNIQUE,
    -- The name that the host has to have; NULL for any.
    host_name TEXT,
    -- Who made it.
    user_name TEXT NOT NULL,
    create_time TEXT NOT NULL,
    expires_at TEXT NOT NULL
) STRICT;

-- Jobs that have ended and migrations name hosts, so a removed host keeps its row.
ALTER TABLE host ADD COLUMN removed_at TEXT;
