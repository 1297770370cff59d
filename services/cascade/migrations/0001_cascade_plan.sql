CREATE TABLE cascade_plan (
    uuid TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    account_uuid TEXT NOT NULL,
    create_time BIGINT,
    last_operation_time BIGINT,
    resource_type TEXT NOT NULL,
    resource_uuid TEXT NOT NULL,
    state TEXT NOT NULL,
    item_count BIGINT NOT NULL,
    blocker_count BIGINT NOT NULL
);
CREATE INDEX cascade_plan_create_time ON cascade_plan (create_time, uuid);

-- What a plan shows: an encoded CascadeContent.
CREATE TABLE cascade_plan_content (
    plan_uuid TEXT NOT NULL PRIMARY KEY,
    content BYTEA NOT NULL
);
