-- What is to be served on a bridge of a host, counted: each change makes a revision. Applied is the
-- last that the host is known to have. A row stays, for the host remembers the revision.
CREATE TABLE dhcp_bridge (
    host_uuid TEXT NOT NULL,
    bridge TEXT NOT NULL,
    revision BIGINT NOT NULL,
    applied BIGINT NOT NULL,
    PRIMARY KEY (host_uuid, bridge)
);

-- The nics that are told their addresses on a host. A gateway and the length of its prefix are the
-- subnet.
CREATE TABLE dhcp_lease (
    host_uuid TEXT NOT NULL,
    vm_nic_uuid TEXT NOT NULL,
    vm_instance_uuid TEXT NOT NULL,
    bridge TEXT NOT NULL,
    l3_network_uuid TEXT NOT NULL,
    gateway TEXT NOT NULL,
    prefix_length BIGINT NOT NULL,
    mac TEXT NOT NULL,
    ip TEXT NOT NULL,
    host_name TEXT NOT NULL,
    PRIMARY KEY (host_uuid, vm_nic_uuid)
);
CREATE INDEX dhcp_lease_host_uuid_bridge ON dhcp_lease (host_uuid, bridge);
CREATE INDEX dhcp_lease_vm_instance_uuid ON dhcp_lease (vm_instance_uuid);

-- The address of its own that a host serves a subnet from, taken from the subnet's ranges. It is
-- given back once the host is known not to have it any more.
CREATE TABLE dhcp_server (
    host_uuid TEXT NOT NULL,
    l3_network_uuid TEXT NOT NULL,
    gateway TEXT NOT NULL,
    prefix_length BIGINT NOT NULL,
    bridge TEXT NOT NULL,
    ip TEXT NOT NULL,
    ip_range_uuid TEXT NOT NULL,
    PRIMARY KEY (host_uuid, l3_network_uuid, gateway, prefix_length)
);
CREATE INDEX dhcp_server_host_uuid_bridge ON dhcp_server (host_uuid, bridge);
CREATE INDEX dhcp_server_ip_range_uuid ON dhcp_server (ip_range_uuid);
