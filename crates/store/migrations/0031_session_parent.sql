-- The session that has allowed a session for one job; NULL for those that began with a password, a link
-- or an earlier version. Sessions for one job that began with a password end: pages ask for none any more.
ALTER TABLE session ADD COLUMN parent_id TEXT;
DELETE FROM session WHERE job_id IS NOT NULL;

-- Who may use a connection, as JSON: the kind of access, and the names of the users with whom it is shared.
-- Of the secret of its link the SHA-256.
ALTER TABLE connection ADD COLUMN access TEXT NOT NULL DEFAULT '"open"';
ALTER TABLE connection ADD COLUMN shares TEXT NOT NULL DEFAULT '[]';
ALTER TABLE connection ADD COLUMN link_hash TEXT;

-- Browsers of users that a connection lets in.
CREATE TABLE visit (
    token_hash TEXT PRIMARY KEY,
    connection_id TEXT NOT NULL REFERENCES connection (id) ON DELETE CASCADE,
    user_id TEXT NOT NULL,
    -- The session that it ends with.
    session_id TEXT NOT NULL,
    create_time TEXT NOT NULL
) STRICT;
