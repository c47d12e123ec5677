-- The session that has allowed a session for one job; NULL for those that began with a password, a link
-- or an earlier version. Sessions for one job that began with a password end: pages ask for none any more.
ALTER TABLE session ADD COLUMN parent_id TEXT;
DELETE FROM session WHERE job_id IS NOT NULL;
