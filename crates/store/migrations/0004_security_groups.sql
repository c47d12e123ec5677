-- Security groups. A rule is text, `tcp:<ports>:<source>`; the groups of a gateway are in its spec, those of a job in its row.

CREATE TABLE security_group (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    spec TEXT NOT NULL,
    -- Who may change it, besides admins.
    user_name TEXT NOT NULL,
    create_time TEXT NOT NULL
) STRICT;

-- The group of whatever names none: everything from loopback and private addresses. Its id is the same everywhere.
INSERT INTO security_group (id, name, spec, user_name, create_time) VALUES (
    'sg-default00000000000000',
    'default',
    '{"name":"default","description":"every port, from loopback and private addresses","rules":["tcp:*:127.0.0.0/8","tcp:*:::1/128","tcp:*:10.0.0.0/8","tcp:*:172.16.0.0/12","tcp:*:192.168.0.0/16","tcp:*:198.18.0.0/15","tcp:*:100.64.0.0/10","tcp:*:fc00::/7","tcp:*:fe80::/10"]}',
    'admin',
    strftime('%Y-%m-%dT%H:%M:%fZ', 'now')
);

UPDATE gateway SET spec = json_set(spec, '$.securityGroups', json('["sg-default00000000000000"]'));

ALTER TABLE job ADD COLUMN security_groups TEXT NOT NULL DEFAULT '["sg-default00000000000000"]';

-- For how long, and for how many, a connection waits for its job.
ALTER TABLE connection ADD COLUMN patience TEXT NOT NULL DEFAULT '{"holdSeconds":600,"pageSeconds":5,"heldMax":10000}';
