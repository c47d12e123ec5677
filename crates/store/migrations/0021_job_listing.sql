-- What lists of jobs are filtered, ordered and counted by. A job's own row is long: its spec may
-- hold a script, so that reading all rows takes a second where reading these takes milliseconds.
CREATE TABLE job_listing (
    -- Times are in nanoseconds since 1970: texts of different precision do not sort.
    submit_ns INTEGER NOT NULL,
    id TEXT NOT NULL,
    user_name TEXT NOT NULL,
    status TEXT NOT NULL,
    name TEXT NOT NULL,
    image TEXT NOT NULL,
    host_id TEXT,
    -- A JSON object, or NULL.
    tags TEXT,
    update_ns INTEGER NOT NULL,
    exec_ns INTEGER,
    end_ns INTEGER,
    PRIMARY KEY (submit_ns, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX job_listing_by_user ON job_listing (user_name, submit_ns, id, status);

-- Images with other characters than those of ASCII, whose case SQLite does not know.
CREATE INDEX job_listing_by_wide_image ON job_listing (image) WHERE image GLOB '*[^ -~]*';

CREATE VIEW job_as_listed AS SELECT
    unixepoch(substr(submit_time, 1, 19)) * 1000000000
        + CAST(substr(rtrim(substr(submit_time, 21), 'Z') || '000000000', 1, 9) AS INTEGER) AS submit_ns,
    id,
    user_name,
    status,
    spec ->> '$.name' AS name,
    spec ->> '$.image' AS image,
    host_id,
    policy -> '$.customTags' AS tags,
    unixepoch(substr(last_update, 1, 19)) * 1000000000
        + CAST(substr(rtrim(substr(last_update, 21), 'Z') || '000000000', 1, 9) AS INTEGER) AS update_ns,
    unixepoch(substr(exec_time, 1, 19)) * 1000000000
        + CAST(substr(rtrim(substr(exec_time, 21), 'Z') || '000000000', 1, 9) AS INTEGER) AS exec_ns,
    unixepoch(substr(end_time, 1, 19)) * 1000000000
        + CAST(substr(rtrim(substr(end_time, 21), 'Z') || '000000000', 1, 9) AS INTEGER) AS end_ns
FROM job;

INSERT INTO job_listing SELECT * FROM job_as_listed;

CREATE TRIGGER job_is_listed AFTER INSERT ON job
BEGIN
    INSERT INTO job_listing SELECT * FROM job_as_listed WHERE id = NEW.id;
END;

CREATE TRIGGER job_is_listed_as_it_is
AFTER UPDATE OF user_name, status, spec, host_id, policy, last_update, exec_time, end_time ON job
BEGIN
    INSERT OR REPLACE INTO job_listing SELECT * FROM job_as_listed WHERE id = NEW.id;
END;

-- The reconciler reads the jobs that have not ended, which are few of all.
CREATE INDEX job_live ON job (submit_time, id) WHERE end_time IS NULL OR address IS NOT NULL;
