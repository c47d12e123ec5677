-- Groups of users, secrets and templates.

CREATE TABLE user_group (
    name TEXT PRIMARY KEY,
    description TEXT NOT NULL,
    create_time TEXT NOT NULL
) STRICT;

CREATE TABLE group_member (
    group_name TEXT NOT NULL REFERENCES user_group (name) ON DELETE CASCADE,
    user_id TEXT NOT NULL REFERENCES user (id) ON DELETE CASCADE,
    PRIMARY KEY (group_name, user_id)
) STRICT;

-- What a secret is can be read with OpCenter's key alone, which is not in here.
CREATE TABLE secret (
    user_id TEXT NOT NULL REFERENCES user (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    sealed BLOB NOT NULL,
    create_time TEXT NOT NULL,
    update_time TEXT NOT NULL,
    PRIMARY KEY (user_id, name)
) STRICT;

-- The newest of a name is the one with the highest sequence.
CREATE TABLE template (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    -- Whose it is; NULL for everybody's.
    owner_id TEXT REFERENCES user (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    tag TEXT NOT NULL,
    description TEXT NOT NULL,
    -- A SubmitRequest.
    job TEXT NOT NULL,
    access_path TEXT NOT NULL,
    -- Who created it.
    user_name TEXT NOT NULL,
    create_time TEXT NOT NULL
) STRICT;

CREATE UNIQUE INDEX template_by_name ON template (COALESCE(owner_id, ''), name, tag);

-- Who created it, and may change it besides admins.
ALTER TABLE gateway ADD COLUMN user_name TEXT NOT NULL DEFAULT 'admin';
