-- The identities of users who sign in at an OpenID provider. A user is found by issuer and subject,
-- never by name.
CREATE TABLE identity (
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    user_id TEXT NOT NULL UNIQUE REFERENCES user (id) ON DELETE CASCADE,
    -- 1 if the user is an admin because the provider says so.
    makes_admin INTEGER NOT NULL,
    PRIMARY KEY (issuer, subject)
) STRICT;

-- 1 for a membership that the provider gave, and takes away.
ALTER TABLE group_member ADD COLUMN is_of_provider INTEGER NOT NULL DEFAULT 0;
