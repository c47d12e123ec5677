-- A move has two ends, and either may be the capsule store instead of a host.
CREATE TABLE migration_of_kind (
    id TEXT PRIMARY KEY,
    job_id TEXT NOT NULL REFERENCES job (id),
    kind TEXT NOT NULL,
    generation INTEGER NOT NULL,
    from_generation INTEGER NOT NULL,
    from_host TEXT REFERENCES host (id),
    to_host TEXT REFERENCES host (id),
    -- What is made or used of the store.
    capsule TEXT,
    -- Given up without the destination's word that nothing is left there.
    destination_lost INTEGER NOT NULL DEFAULT 0,
    -- The size that the job has afterwards, where it is another one.
    resources TEXT,
    token TEXT NOT NULL,
    reason TEXT NOT NULL,
    start_time TEXT NOT NULL,
    stage TEXT NOT NULL,
    stage_time TEXT NOT NULL,
    freeze_time TEXT,
    outcome TEXT NOT NULL,
    phases TEXT NOT NULL DEFAULT '[]',
    pause_seconds REAL NOT NULL DEFAULT 0,
    bytes_moved INTEGER NOT NULL DEFAULT 0
) STRICT;

INSERT INTO migration_of_kind
SELECT id, job_id, 'move', generation, from_generation, from_host, to_host, NULL, 0, NULL, token, reason, start_time, stage, stage_time,
    freeze_time, outcome, phases, pause_seconds, bytes_moved
FROM migration ORDER BY rowid;

DROP TABLE migration;
ALTER TABLE migration_of_kind RENAME TO migration;

CREATE INDEX migration_by_job ON migration (job_id, start_time);

-- A job has one move at a time.
CREATE UNIQUE INDEX migration_under_way ON migration (job_id) WHERE stage <> 'ended';

-- What is in the capsule store and whole. A row is written when the capsule is, and removed before the capsule is.
CREATE TABLE capsule (
    name TEXT PRIMARY KEY,
    job_id TEXT NOT NULL REFERENCES job (id),
    kind TEXT NOT NULL,
    create_time TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    stored_bytes INTEGER NOT NULL
) STRICT;

CREATE INDEX capsule_by_job ON capsule (job_id, create_time);

-- Grows when the job is another one than before for its open connections: it was recovered without them.
ALTER TABLE job ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;
