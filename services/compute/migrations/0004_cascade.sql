-- The offering may go before a virtual machine that was made with it: the column becomes optional,
-- which SQLite does to new columns only.
ALTER TABLE vm_instance ADD COLUMN offering TEXT;
UPDATE vm_instance SET offering = instance_offering_uuid;
DROP INDEX vm_instance_instance_offering_uuid;
ALTER TABLE vm_instance DROP COLUMN instance_offering_uuid;
ALTER TABLE vm_instance RENAME COLUMN offering TO instance_offering_uuid;
CREATE INDEX vm_instance_instance_offering_uuid ON vm_instance (instance_offering_uuid);

-- A cascade looks for those that refer to a volume.
CREATE INDEX vm_instance_root_volume_uuid ON vm_instance (root_volume_uuid);
