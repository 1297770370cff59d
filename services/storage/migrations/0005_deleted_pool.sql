-- Folders of storages that were deleted: hosts of the zone that were away then may have files there
-- still. One that is a storage's again has no row. Of zones that are gone no host reads any.
CREATE TABLE deleted_pool (
    zone_uuid TEXT NOT NULL,
    path TEXT NOT NULL,
    PRIMARY KEY (zone_uuid, path)
);
