-- The clients that wake a connection's job, as JSON; null for those of the job's policy.
ALTER TABLE connection ADD COLUMN wake_on TEXT NOT NULL DEFAULT 'null';
-- 1 for a job that was suspended because nobody used it, until it executes again.
ALTER TABLE job ADD COLUMN is_idle INTEGER NOT NULL DEFAULT 0;
