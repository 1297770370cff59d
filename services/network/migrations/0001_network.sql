CREATE TABLE l2_network (
    uuid TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    account_uuid TEXT NOT NULL,
    create_time BIGINT,
    last_operation_time BIGINT,
    zone_uuid TEXT NOT NULL,
    type TEXT NOT NULL,
    physical_interface TEXT NOT NULL
);
CREATE INDEX l2_network_create_time ON l2_network (create_time, uuid);
CREATE INDEX l2_network_zone_uuid ON l2_network (zone_uuid);

CREATE TABLE l2_network_attachment (
    uuid TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    account_uuid TEXT NOT NULL,
    create_time BIGINT,
    last_operation_time BIGINT,
    l2_network_uuid TEXT NOT NULL,
    cluster_uuid TEXT NOT NULL,
    UNIQUE (l2_network_uuid, cluster_uuid)
);
CREATE INDEX l2_network_attachment_create_time ON l2_network_attachment (create_time, uuid);
CREATE INDEX l2_network_attachment_cluster_uuid ON l2_network_attachment (cluster_uuid);

-- Which network has a bridge on the hosts of a cluster: taken before the first host is touched.
CREATE TABLE cluster_bridge (
    cluster_uuid TEXT NOT NULL,
    bridge TEXT NOT NULL,
    l2_network_uuid TEXT NOT NULL,
    PRIMARY KEY (cluster_uuid, bridge)
);
CREATE INDEX cluster_bridge_l2_network_uuid ON cluster_bridge (l2_network_uuid);

CREATE TABLE l3_network (
    uuid TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    account_uuid TEXT NOT NULL,
    create_time BIGINT,
    last_operation_time BIGINT,
    l2_network_uuid TEXT NOT NULL,
    state TEXT NOT NULL
);
CREATE INDEX l3_network_create_time ON l3_network (create_time, uuid);
CREATE INDEX l3_network_l2_network_uuid ON l3_network (l2_network_uuid);

CREATE TABLE ip_range (
    uuid TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    account_uuid TEXT NOT NULL,
    create_time BIGINT,
    last_operation_time BIGINT,
    l3_network_uuid TEXT NOT NULL,
    start_ip TEXT NOT NULL,
    end_ip TEXT NOT NULL,
    prefix_length BIGINT NOT NULL,
    gateway TEXT NOT NULL
);
CREATE INDEX ip_range_create_time ON ip_range (create_time, uuid);
CREATE INDEX ip_range_l3_network_uuid ON ip_range (l3_network_uuid);

-- The addresses of ranges that no nic has, as intervals that neither overlap nor touch within a
-- range. Addresses are numbers: 192.168.10.20 is 3232238100.
CREATE TABLE free_address (
    l3_network_uuid TEXT NOT NULL,
    first_number BIGINT NOT NULL,
    last_number BIGINT NOT NULL,
    ip_range_uuid TEXT NOT NULL,
    PRIMARY KEY (l3_network_uuid, first_number),
    UNIQUE (ip_range_uuid, last_number)
);

CREATE TABLE vm_nic (
    uuid TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    account_uuid TEXT NOT NULL,
    create_time BIGINT,
    last_operation_time BIGINT,
    vm_instance_uuid TEXT NOT NULL,
    l3_network_uuid TEXT NOT NULL,
    ip_range_uuid TEXT NOT NULL,
    ip TEXT NOT NULL,
    prefix_length BIGINT NOT NULL,
    gateway TEXT NOT NULL,
    mac TEXT NOT NULL,
    device_index BIGINT NOT NULL,
    UNIQUE (l3_network_uuid, ip),
    UNIQUE (mac)
);
CREATE INDEX vm_nic_create_time ON vm_nic (create_time, uuid);
CREATE INDEX vm_nic_vm_instance_uuid ON vm_nic (vm_instance_uuid);
CREATE INDEX vm_nic_ip_range_uuid ON vm_nic (ip_range_uuid);
