CREATE TABLE backup_storage (
    uuid TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    account_uuid TEXT NOT NULL,
    create_time BIGINT,
    last_operation_time BIGINT,
    type TEXT NOT NULL,
    state TEXT NOT NULL,
    status TEXT NOT NULL,
    address TEXT NOT NULL,
    username TEXT NOT NULL,
    path TEXT NOT NULL,
    host_key TEXT NOT NULL,
    total_bytes BIGINT,
    available_bytes BIGINT,
    public_key TEXT NOT NULL
);
CREATE INDEX backup_storage_create_time ON backup_storage (create_time, uuid);

-- Images from before are on no backup storage: hosts keep what they have of them.
ALTER TABLE image ADD COLUMN backup_storage_uuid TEXT NOT NULL DEFAULT '';
ALTER TABLE image ADD COLUMN status TEXT NOT NULL DEFAULT 'Ready';
ALTER TABLE image ADD COLUMN format TEXT;
ALTER TABLE image ADD COLUMN file_size_bytes BIGINT NOT NULL DEFAULT 0;
ALTER TABLE image ADD COLUMN install_path TEXT NOT NULL DEFAULT '';
CREATE INDEX image_backup_storage_uuid ON image (backup_storage_uuid);
