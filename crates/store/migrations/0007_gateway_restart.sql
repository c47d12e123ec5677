-- Grows with every restart that was asked for, so that the agent knows which process is too old, whoever was away meanwhile.
ALTER TABLE gateway ADD COLUMN restart INTEGER NOT NULL DEFAULT 0;
