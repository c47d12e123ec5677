-- The cookies of a connection, as JSON; and who had a port of a gateway last: browsers keep what a
-- job has left at its port, so a port goes to somebody else's job only after all others.
ALTER TABLE connection ADD COLUMN cookies TEXT NOT NULL DEFAULT '"own"';

CREATE TABLE gateway_port (
    gateway_id TEXT NOT NULL REFERENCES gateway (id) ON DELETE CASCADE,
    port INTEGER NOT NULL,
    user_name TEXT NOT NULL,
    -- Grows with each assignment of a port of the gateway.
    number INTEGER NOT NULL,
    PRIMARY KEY (gateway_id, port)
) STRICT, WITHOUT ROWID;

INSERT INTO gateway_port (gateway_id, port, user_name, number)
SELECT connection.gateway_id, connection.gateway_port, job.user_name, connection.rowid
FROM connection JOIN job ON job.id = connection.job_id;

INSERT OR IGNORE INTO gateway_port (gateway_id, port, user_name, number)
SELECT farewell.gateway_id, farewell.gateway_port, job.user_name, 0
FROM farewell JOIN job ON job.id = farewell.job_id;
