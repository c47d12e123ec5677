-- What the tag of its image meant when it was pulled: what every other host pulls from then on.
ALTER TABLE job ADD COLUMN image_digest TEXT NOT NULL DEFAULT '';
