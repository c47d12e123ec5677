-- Whether a job that was suspended because its host was drained is resumed by itself as soon as a host fits. Nobody asked for that suspend.
ALTER TABLE job ADD COLUMN awaits_host INTEGER NOT NULL DEFAULT 0;
