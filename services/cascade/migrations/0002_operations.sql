-- A plan may begin with another operation than a deletion, and may leave things undone.
ALTER TABLE cascade_plan ADD COLUMN operation TEXT NOT NULL DEFAULT '';
ALTER TABLE cascade_plan ADD COLUMN failure_count BIGINT NOT NULL DEFAULT 0;
