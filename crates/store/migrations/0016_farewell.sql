-- The ports of gateways whose jobs have ended, for as long as they say so. They are free: a connection that gets one takes its place.
CREATE TABLE farewell (
    connection_id TEXT PRIMARY KEY,
    gateway_id TEXT NOT NULL REFERENCES gateway (id) ON DELETE CASCADE,
    job_id TEXT NOT NULL REFERENCES job (id),
    gateway_port INTEGER NOT NULL,
    protocol TEXT NOT NULL,
    widget TEXT NOT NULL,
    UNIQUE (gateway_id, gateway_port)
) STRICT;
