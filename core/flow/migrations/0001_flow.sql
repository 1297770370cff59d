-- The run of a flow: what it was resolved to when it began, and where it goes.
CREATE TABLE flow_run (
    operation_uuid TEXT NOT NULL PRIMARY KEY,
    flow TEXT NOT NULL,
    steps TEXT NOT NULL,
    bag BYTEA NOT NULL,
    direction TEXT NOT NULL,
    fault BYTEA
);

-- What became of its steps, in order.
CREATE TABLE flow_log (
    operation_uuid TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    step TEXT NOT NULL,
    direction TEXT NOT NULL,
    kind TEXT NOT NULL,
    payload BYTEA,
    error TEXT,
    time BIGINT NOT NULL,
    PRIMARY KEY (operation_uuid, sequence)
);
