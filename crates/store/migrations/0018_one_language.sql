-- The words that users read: a job migrates, and a capsule of a running job is a snapshot.
UPDATE migration SET kind = 'migrate' WHERE kind = 'move';
UPDATE migration SET kind = 'snapshot' WHERE kind = 'capture';
UPDATE capsule SET kind = 'snapshot' WHERE kind = 'capture';
ALTER TABLE connection RENAME COLUMN patience TO hold_limits;

-- What a user requested, or NULL.
ALTER TABLE job ADD COLUMN requested_host TEXT;
ALTER TABLE job ADD COLUMN requested_gateway TEXT;
UPDATE job SET requested_host = NULLIF(host_wanted, ''), requested_gateway = NULLIF(gateway_wanted, '');
ALTER TABLE job DROP COLUMN host_wanted;
ALTER TABLE job DROP COLUMN gateway_wanted;

-- NULL for an image without a digest.
ALTER TABLE job RENAME COLUMN image_digest TO image_digest_or_empty;
ALTER TABLE job ADD COLUMN image_digest TEXT;
UPDATE job SET image_digest = NULLIF(image_digest_or_empty, '');
ALTER TABLE job DROP COLUMN image_digest_or_empty;
