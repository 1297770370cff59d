CREATE TABLE instance_offering (
    uuid TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    account_uuid TEXT NOT NULL,
    create_time BIGINT,
    last_operation_time BIGINT,
    cpu_count BIGINT NOT NULL,
    memory_bytes BIGINT NOT NULL,
    state TEXT NOT NULL
);

CREATE TABLE vm_instance (
    uuid TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    account_uuid TEXT NOT NULL,
    create_time BIGINT,
    last_operation_time BIGINT,
    zone_uuid TEXT NOT NULL,
    host_uuid TEXT,
    instance_offering_uuid TEXT NOT NULL,
    image_uuid TEXT NOT NULL,
    cpu_count BIGINT NOT NULL,
    memory_bytes BIGINT NOT NULL,
    state TEXT NOT NULL,
    root_volume_uuid TEXT
);
CREATE INDEX vm_instance_host_uuid ON vm_instance (host_uuid);
CREATE INDEX vm_instance_zone_uuid ON vm_instance (zone_uuid);
CREATE INDEX vm_instance_instance_offering_uuid ON vm_instance (instance_offering_uuid);
CREATE INDEX vm_instance_image_uuid ON vm_instance (image_uuid);
CREATE INDEX instance_offering_create_time ON instance_offering (create_time, uuid);
CREATE INDEX vm_instance_create_time ON vm_instance (create_time, uuid);
