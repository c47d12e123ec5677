-- The jobs of each status are counted for every page of the list.
CREATE INDEX job_listing_by_status ON job_listing (status, submit_ns, id);
