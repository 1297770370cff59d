-- Copies of images that nothing needs once a volume is gone: their hosts remove them before the volume's
-- row goes, and until then only this table says where they are.
CREATE TABLE volume_copy (
    cache_uuid TEXT NOT NULL PRIMARY KEY,
    volume_uuid TEXT NOT NULL,
    image_uuid TEXT NOT NULL,
    host_uuid TEXT,
    install_path TEXT NOT NULL
);
CREATE INDEX volume_copy_volume_uuid ON volume_copy (volume_uuid);
