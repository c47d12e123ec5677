-- For how long only what a job does on its own has kept it awake, since it was last used.
ALTER TABLE idleness ADD COLUMN held_ms INTEGER NOT NULL DEFAULT 0;
