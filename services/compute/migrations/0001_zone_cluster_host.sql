CREATE TABLE zone (
    uuid TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    account_uuid TEXT NOT NULL,
    create_time BIGINT,
    last_operation_time BIGINT,
    state TEXT NOT NULL
);

CREATE TABLE cluster (
    uuid TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    account_uuid TEXT NOT NULL,
    create_time BIGINT,
    last_operation_time BIGINT,
    zone_uuid TEXT NOT NULL,
    hypervisor_type TEXT NOT NULL,
    state TEXT NOT NULL
);
CREATE INDEX cluster_zone_uuid ON cluster (zone_uuid);

CREATE TABLE host (
    uuid TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    account_uuid TEXT NOT NULL,
    create_time BIGINT,
    last_operation_time BIGINT,
    cluster_uuid TEXT NOT NULL,
    zone_uuid TEXT NOT NULL,
    hypervisor_type TEXT NOT NULL,
    state TEXT NOT NULL,
    status TEXT NOT NULL,
    address TEXT NOT NULL,
    cpu_count BIGINT NOT NULL,
    memory_bytes BIGINT NOT NULL,
    available_memory_bytes BIGINT NOT NULL,
    available_cpu_count BIGINT NOT NULL,
    operating_system TEXT NOT NULL,
    hypervisor_version TEXT NOT NULL,
    boot_id TEXT NOT NULL,
    certificate_fingerprint TEXT NOT NULL
);
CREATE INDEX host_cluster_uuid ON host (cluster_uuid);
CREATE INDEX host_zone_uuid ON host (zone_uuid);
CREATE INDEX zone_create_time ON zone (create_time, uuid);
CREATE INDEX cluster_create_time ON cluster (create_time, uuid);
CREATE INDEX host_create_time ON host (create_time, uuid);
