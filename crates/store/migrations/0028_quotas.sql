-- The most that a user or a group may have at one time, as JSON: an absent limit does not limit.
ALTER TABLE user ADD COLUMN quota TEXT NOT NULL DEFAULT '{}';
ALTER TABLE user_group ADD COLUMN quota TEXT NOT NULL DEFAULT '{}';
