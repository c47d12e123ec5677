-- A capsule may build on another one, which is kept as long as it is.
ALTER TABLE capsule ADD COLUMN base TEXT;
