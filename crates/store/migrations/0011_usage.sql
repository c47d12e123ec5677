-- What a job used, as its host measured it: amounts at `time` (in milliseconds), and rates of the `seconds` before.
CREATE TABLE usage (
    job_id TEXT NOT NULL REFERENCES job (id),
    time INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    status TEXT NOT NULL,
    seconds REAL NOT NULL,
    cpu_used REAL NOT NULL,
    cpu REAL NOT NULL,
    mem_used INTEGER NOT NULL,
    mem INTEGER NOT NULL,
    page_cache INTEGER NOT NULL,
    swap INTEGER NOT NULL,
    limit_hits INTEGER NOT NULL,
    processes INTEGER NOT NULL,
    received INTEGER NOT NULL,
    sent INTEGER NOT NULL,
    disk INTEGER,
    PRIMARY KEY (job_id, time)
) STRICT, WITHOUT ROWID;

-- For how long a job that executes has been seen not to be used.
CREATE TABLE idleness (
    job_id TEXT PRIMARY KEY REFERENCES job (id),
    idle_ms INTEGER NOT NULL
) STRICT;

-- The size that a job was submitted with, once a move has given it another one.
CREATE TABLE size_submitted (
    job_id TEXT PRIMARY KEY REFERENCES job (id),
    cpu INTEGER NOT NULL,
    mem_gb REAL NOT NULL
) STRICT;
