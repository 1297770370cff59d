CREATE TABLE primary_storage (
    uuid TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    account_uuid TEXT NOT NULL,
    create_time BIGINT,
    last_operation_time BIGINT,
    zone_uuid TEXT NOT NULL,
    type TEXT NOT NULL,
    path TEXT NOT NULL,
    state TEXT NOT NULL
);
CREATE INDEX primary_storage_create_time ON primary_storage (create_time, uuid);
CREATE INDEX primary_storage_zone_uuid ON primary_storage (zone_uuid);

CREATE TABLE primary_storage_attachment (
    uuid TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    account_uuid TEXT NOT NULL,
    create_time BIGINT,
    last_operation_time BIGINT,
    primary_storage_uuid TEXT NOT NULL,
    cluster_uuid TEXT NOT NULL,
    UNIQUE (primary_storage_uuid, cluster_uuid)
);
CREATE INDEX primary_storage_attachment_create_time ON primary_storage_attachment (create_time, uuid);
CREATE INDEX primary_storage_attachment_cluster_uuid ON primary_storage_attachment (cluster_uuid);

CREATE TABLE primary_storage_capacity (
    uuid TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    account_uuid TEXT NOT NULL,
    create_time BIGINT,
    last_operation_time BIGINT,
    primary_storage_uuid TEXT NOT NULL,
    host_uuid TEXT,
    total_bytes BIGINT NOT NULL,
    available_bytes BIGINT NOT NULL,
    UNIQUE (primary_storage_uuid, host_uuid)
);
CREATE INDEX primary_storage_capacity_create_time ON primary_storage_capacity (create_time, uuid);
CREATE INDEX primary_storage_capacity_host_uuid ON primary_storage_capacity (host_uuid);

-- The cluster of each host that a storage is local to.
CREATE TABLE primary_storage_host (
    primary_storage_uuid TEXT NOT NULL,
    host_uuid TEXT NOT NULL,
    cluster_uuid TEXT NOT NULL,
    PRIMARY KEY (primary_storage_uuid, host_uuid)
);
CREATE INDEX primary_storage_host_cluster_uuid ON primary_storage_host (cluster_uuid);

CREATE TABLE image (
    uuid TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    account_uuid TEXT NOT NULL,
    create_time BIGINT,
    last_operation_time BIGINT,
    url TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    sha256 TEXT NOT NULL,
    state TEXT NOT NULL
);
CREATE INDEX image_create_time ON image (create_time, uuid);

CREATE TABLE image_cache (
    uuid TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    account_uuid TEXT NOT NULL,
    create_time BIGINT,
    last_operation_time BIGINT,
    image_uuid TEXT NOT NULL,
    primary_storage_uuid TEXT NOT NULL,
    host_uuid TEXT,
    install_path TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    UNIQUE (image_uuid, primary_storage_uuid, host_uuid)
);
CREATE INDEX image_cache_create_time ON image_cache (create_time, uuid);
CREATE INDEX image_cache_primary_storage_uuid ON image_cache (primary_storage_uuid);
CREATE INDEX image_cache_host_uuid ON image_cache (host_uuid);

CREATE TABLE volume (
    uuid TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    account_uuid TEXT NOT NULL,
    create_time BIGINT,
    last_operation_time BIGINT,
    primary_storage_uuid TEXT NOT NULL,
    host_uuid TEXT,
    vm_instance_uuid TEXT,
    image_uuid TEXT,
    type TEXT NOT NULL,
    status TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    install_path TEXT NOT NULL
);
CREATE INDEX volume_create_time ON volume (create_time, uuid);
CREATE INDEX volume_primary_storage_uuid ON volume (primary_storage_uuid);
CREATE INDEX volume_host_uuid ON volume (host_uuid);
CREATE INDEX volume_vm_instance_uuid ON volume (vm_instance_uuid);
CREATE INDEX volume_image_uuid ON volume (image_uuid);

-- Volumes that an agent was told to make: there may be a file.
CREATE TABLE volume_file (
    volume_uuid TEXT NOT NULL PRIMARY KEY
);
