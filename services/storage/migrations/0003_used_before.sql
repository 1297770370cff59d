-- What of a place was in use when it became known, and by nothing of the cloud's. Not known of places
-- from before.
ALTER TABLE primary_storage_host ADD COLUMN used_before_bytes BIGINT;
