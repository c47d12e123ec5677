-- Certificates that users have given gateways for their ports, by the first name of each. The key is
-- sealed.
CREATE TABLE gateway_certificate (
    gateway_id TEXT NOT NULL REFERENCES gateway (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    certificate TEXT NOT NULL,
    sealed_key BLOB NOT NULL,
    set_time TEXT NOT NULL,
    PRIMARY KEY (gateway_id, name)
);
