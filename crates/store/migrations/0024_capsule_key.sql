-- The key of a job's capsules, sealed by OpCenter. A job of an earlier version gets the cluster's
-- seal key, with which its capsules were made.
ALTER TABLE job ADD COLUMN capsule_key BLOB;
