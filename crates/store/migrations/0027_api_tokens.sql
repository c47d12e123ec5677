-- Tokens with which a user's programs call the API.
CREATE TABLE api_token (
    id TEXT PRIMARY KEY,
    token_hash TEXT NOT NULL UNIQUE,
    user_id TEXT NOT NULL REFERENCES user (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    scope TEXT NOT NULL,
    create_time TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    -- NULL until the first use.
    last_used TEXT,
    UNIQUE (user_id, name)
) STRICT;
