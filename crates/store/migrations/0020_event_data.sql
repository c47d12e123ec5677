-- An event has data beside its sentence; events of earlier versions have none and are read as notes.
ALTER TABLE event ADD COLUMN data TEXT;
