-- Why a host is to be empty, as an admin said and as its cloud did; null where nobody did.
ALTER TABLE host ADD COLUMN drain_by_hand TEXT;
ALTER TABLE host ADD COLUMN drain_by_notice TEXT;
