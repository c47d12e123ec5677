-- The words that users read: a job migrates, and a capsule of a running job is a snapshot.
UPDATE migration SET kind = 'migrate' WHERE kind = 'move';
UPDATE migration SET kind = 'snapshot' WHERE kind = 'capture';
UPDATE capsule SET kind = 'snapshot' WHERE kind = 'capture';
ALTER TABLE connection RENAME COLUMN patience TO hold_limits;
