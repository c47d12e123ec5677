-- The requests that change something. Rows of strangers, who have no session, are kept in a number of
-- their own: strangers can't push out what users did.
CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    time INTEGER NOT NULL, -- in milliseconds
    user_name TEXT NOT NULL,
    is_stranger INTEGER NOT NULL,
    address TEXT NOT NULL,
    client TEXT NOT NULL,
    action TEXT NOT NULL,
    object TEXT NOT NULL,
    object_name TEXT NOT NULL,
    detail TEXT NOT NULL,
    outcome TEXT NOT NULL,
    reason TEXT NOT NULL
) STRICT;
CREATE INDEX audit_time ON audit (time);

-- A session is named by an id, and knows from where it began.
ALTER TABLE session ADD COLUMN id TEXT NOT NULL DEFAULT '';
ALTER TABLE session ADD COLUMN address TEXT NOT NULL DEFAULT '';
ALTER TABLE session ADD COLUMN client TEXT NOT NULL DEFAULT '';
UPDATE session SET id = 's-' || substr(lower(hex(randomblob(11))), 1, 21);
CREATE UNIQUE INDEX session_id ON session (id);
