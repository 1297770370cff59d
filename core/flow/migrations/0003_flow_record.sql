-- What was committed of an operation's flow: a record for each commit, in order. The first one says
-- how it began. What was logged before is in flow_run and flow_log.
CREATE TABLE flow_record (
    operation_uuid TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    record BYTEA NOT NULL,
    PRIMARY KEY (operation_uuid, sequence)
);
