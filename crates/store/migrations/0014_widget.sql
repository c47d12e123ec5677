-- Whether the pages of a connection get the widget, as JSON; and the one job that a session is for, where it is for one alone.
ALTER TABLE connection ADD COLUMN widget TEXT NOT NULL DEFAULT '"shown"';
ALTER TABLE session ADD COLUMN job_id TEXT;
