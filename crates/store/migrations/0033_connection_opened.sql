-- 1 once the gateway has listened at the port of a connection: the port stays then. Those of an
-- earlier version have it.
ALTER TABLE connection ADD COLUMN opened INTEGER NOT NULL DEFAULT 1;
