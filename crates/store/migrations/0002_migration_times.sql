-- What the source holds, so that it can be told to let go of exactly that; and when stages began, so that durations and limits
-- survive a restart.
ALTER TABLE migration ADD COLUMN from_generation INTEGER NOT NULL DEFAULT 0;
ALTER TABLE migration ADD COLUMN stage_time TEXT NOT NULL DEFAULT '1970-01-01T00:00:00Z';
ALTER TABLE migration ADD COLUMN freeze_time TEXT;
