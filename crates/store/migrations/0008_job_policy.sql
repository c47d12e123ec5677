-- What is to happen to a job by itself; keys that are missing have their defaults.
ALTER TABLE job ADD COLUMN policy TEXT NOT NULL DEFAULT '{}';

-- The gateway that it was submitted for, and which of its ports, so that it can be submitted anew.
ALTER TABLE job ADD COLUMN gateway_wanted TEXT NOT NULL DEFAULT '';
ALTER TABLE job ADD COLUMN target_ports TEXT NOT NULL DEFAULT '[]';

-- For how long it had executed when its status last changed, and when that was.
ALTER TABLE job ADD COLUMN executed_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN status_time TEXT NOT NULL DEFAULT '';
UPDATE job SET status_time = COALESCE(exec_time, last_update);
