CREATE TABLE credential (
    token_digest TEXT NOT NULL PRIMARY KEY,
    account_uuid TEXT NOT NULL,
    name TEXT NOT NULL,
    create_time BIGINT NOT NULL
);
