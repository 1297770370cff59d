-- What was added to a bridge after a revision is found by that of each lease. When something was
-- taken away, the host is told all.
ALTER TABLE dhcp_lease ADD COLUMN revision BIGINT NOT NULL DEFAULT 0;
ALTER TABLE dhcp_bridge ADD COLUMN removed BIGINT NOT NULL DEFAULT 0;
-- Which of these a host has is not known one by one: it is told all.
UPDATE dhcp_bridge SET removed = revision;
DROP INDEX dhcp_lease_host_uuid_bridge;
CREATE INDEX dhcp_lease_host_uuid_bridge_revision ON dhcp_lease (host_uuid, bridge, revision);
