-- What operations left: a row for each that ended before its flow did.
CREATE TABLE gc_job (
    uuid TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    account_uuid TEXT NOT NULL,
    create_time BIGINT,
    last_operation_time BIGINT,
    flow TEXT NOT NULL,
    resource_uuid TEXT NOT NULL,
    steps TEXT NOT NULL,
    rolls_back BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    last_error TEXT NOT NULL,
    waits_for_type TEXT,
    waits_for_uuid TEXT,
    due_time BIGINT
);
CREATE INDEX gc_job_create_time ON gc_job (create_time, uuid);
CREATE INDEX gc_job_due_time ON gc_job (due_time);
CREATE INDEX gc_job_resource_uuid ON gc_job (resource_uuid);
CREATE INDEX gc_job_waits_for_uuid ON gc_job (waits_for_uuid);
