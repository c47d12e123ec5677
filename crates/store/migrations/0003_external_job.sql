-- Jobs that somebody else runs: where they listen, and how often that has changed.
CREATE TABLE external_job (
    job_id TEXT PRIMARY KEY REFERENCES job (id),
    -- A list of `<targetPort>=<host>:<port>`, as JSON.
    endpoints TEXT NOT NULL,
    epoch INTEGER NOT NULL DEFAULT 0
) STRICT;
