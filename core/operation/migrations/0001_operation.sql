-- The resource, as its proto declares it.
CREATE TABLE operation (
    uuid TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    account_uuid TEXT NOT NULL,
    create_time BIGINT,
    last_operation_time BIGINT,
    method TEXT NOT NULL,
    resource_uuid TEXT NOT NULL,
    state TEXT NOT NULL,
    error_code TEXT,
    error_message TEXT,
    end_time BIGINT,
    deadline BIGINT,
    parent_uuid TEXT,
    cancel_requested BIGINT NOT NULL
);
CREATE INDEX operation_state_end_time ON operation (state, end_time);
CREATE INDEX operation_resource_uuid ON operation (resource_uuid);
CREATE INDEX operation_parent_uuid ON operation (parent_uuid);

-- What only its run, its repeat and its recovery need.
CREATE TABLE operation_request (
    operation_uuid TEXT NOT NULL PRIMARY KEY,
    sequence BIGINT NOT NULL,
    request BYTEA NOT NULL,
    request_digest TEXT NOT NULL,
    idempotency_account TEXT,
    idempotency_key TEXT,
    has_log BIGINT NOT NULL,
    traceparent TEXT,
    result BYTEA,
    status BYTEA,
    UNIQUE (idempotency_account, idempotency_key)
);
CREATE INDEX operation_request_sequence ON operation_request (sequence);
