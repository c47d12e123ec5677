-- Times are RFC 3339 text; specs and facts are JSON, read back through the types crate.

CREATE TABLE setting (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

CREATE TABLE user (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    create_time TEXT NOT NULL
) STRICT;

CREATE TABLE session (
    token_hash TEXT PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES user (id),
    create_time TEXT NOT NULL,
    last_used TEXT NOT NULL
) STRICT;

CREATE TABLE host (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    overlay TEXT NOT NULL UNIQUE,
    token_hash TEXT NOT NULL UNIQUE,
    -- The JoinRequest without its token and jobs: address, role, certificate, facts.
    join_data TEXT NOT NULL,
    last_seen TEXT
) STRICT;

CREATE TABLE job (
    id TEXT PRIMARY KEY,
    user_name TEXT NOT NULL,
    spec TEXT NOT NULL,
    status TEXT NOT NULL,
    status_reason TEXT NOT NULL DEFAULT '',
    -- Kept until the job ends, then freed.
    address TEXT UNIQUE,
    generation INTEGER NOT NULL DEFAULT 0,
    host_id TEXT REFERENCES host (id),
    -- The host that the user insists on, by name.
    host_wanted TEXT NOT NULL DEFAULT '',
    exit_code INTEGER,
    submit_time TEXT NOT NULL,
    exec_time TEXT,
    end_time TEXT,
    last_update TEXT NOT NULL
) STRICT;

CREATE TABLE migration (
    id TEXT PRIMARY KEY,
    job_id TEXT NOT NULL REFERENCES job (id),
    generation INTEGER NOT NULL,
    from_host TEXT NOT NULL REFERENCES host (id),
    to_host TEXT NOT NULL REFERENCES host (id),
    token TEXT NOT NULL,
    reason TEXT NOT NULL,
    start_time TEXT NOT NULL,
    -- How far the plan has come, as the reconciler decided.
    stage TEXT NOT NULL,
    outcome TEXT NOT NULL,
    phases TEXT NOT NULL DEFAULT '[]',
    pause_seconds REAL NOT NULL DEFAULT 0,
    bytes_moved INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX migration_by_job ON migration (job_id, start_time);

-- A job has one move at a time.
CREATE UNIQUE INDEX migration_under_way ON migration (job_id) WHERE stage <> 'ended';

CREATE TABLE gateway (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    spec TEXT NOT NULL,
    host_id TEXT NOT NULL REFERENCES host (id),
    token TEXT NOT NULL UNIQUE,
    create_time TEXT NOT NULL
) STRICT;

CREATE TABLE connection (
    id TEXT PRIMARY KEY,
    gateway_id TEXT NOT NULL REFERENCES gateway (id) ON DELETE CASCADE,
    job_id TEXT NOT NULL REFERENCES job (id),
    target_port INTEGER NOT NULL,
    gateway_port INTEGER NOT NULL,
    protocol TEXT NOT NULL,
    UNIQUE (gateway_id, gateway_port),
    UNIQUE (gateway_id, job_id, target_port)
) STRICT;

CREATE TABLE event (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id TEXT NOT NULL REFERENCES job (id),
    time TEXT NOT NULL,
    kind TEXT NOT NULL,
    message TEXT NOT NULL
) STRICT;

CREATE INDEX event_by_job ON event (job_id, sequence);

-- What happened stays as it was written.
CREATE TRIGGER event_is_never_changed BEFORE UPDATE ON event
BEGIN
    SELECT RAISE(ABORT, 'the event log is append-only');
END;

CREATE TRIGGER event_is_never_removed BEFORE DELETE ON event
BEGIN
    SELECT RAISE(ABORT, 'the event log is append-only');
END;
