-- The SHA-256 of the key that a host drew at its first start. NULL: the host joined before hosts had
-- keys. Empty: an admin lets the host join with a new key.
ALTER TABLE host ADD COLUMN key_hash TEXT;
