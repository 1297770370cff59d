//! This area's part in an examination: the files of volumes and images on hosts, those of images on
//! backup storages, and what is reserved of storages.

mod backup;
mod capacity;
mod files;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;
use cairn_agent_protocol::HostInventory;
use cairn_inspect::{Depot, Inspect, Place, Repair, Suspect};
use cairn_proto::{
    fault::Fault,
    meta::Resource,
    storage::v1alpha1::{BackupStorage, Image, ImageCache, PrimaryStorage, Volume, VolumeStatus},
};
use cairn_types::Uuid;

use self::files::{Known, name_of};
use crate::Area;

pub(crate) struct Inspection(pub(crate) Arc<Area>);

#[async_trait]
impl Inspect for Inspection {
    /// Those of all storages of the zone, and of those that were deleted: one that is not attached
    /// any more may have left files.
    async fn pools(&self, place: &Place) -> Result<Vec<String>, Fault> {
        let known = self.pools_of(&place.zone_uuid).await?;
        Ok(known.pools.into_values().chain(known.deleted).collect())
    }

    async fn host(&self, place: &Place, has: &HostInventory) -> Result<Vec<Suspect>, Fault> {
        let known = self.known(place, has).await?;
        Ok(files::compare(has, &known))
    }

    async fn depots(&self) -> Result<Vec<Depot>, Fault> {
        let storages: Vec<BackupStorage> = self.0.store.list("", Vec::new()).await?;
        let depots = storages.into_iter().map(|storage| Depot {
            noun: BackupStorage::NOUN.to_owned(),
            uuid: storage.uuid,
        });
        Ok(depots.collect())
    }

    async fn depot(&self, depot: &Depot) -> Result<Vec<Suspect>, Fault> {
        match &*depot.noun {
            BackupStorage::NOUN => self.0.examine_backup_storage(&depot.uuid).await,
            _ => Ok(Vec::new()),
        }
    }

    async fn books(&self) -> Result<Vec<Suspect>, Fault> {
        let mut suspects = capacity::check(&self.0.store).await?;
        let not_yet = "status = 'NotInstantiated'";
        for volume in self.0.store.list::<Volume>(not_yet, Vec::new()).await? {
            let detail = "it was reserved and never made, and no operation is at it";
            let suspect = Suspect::differs("volume-status", &volume.uuid, detail);
            let suspect = suspect.advise("delete the virtual machine that it is of");
            let suspect = suspect.of(Volume::NOUN, &volume.uuid);
            suspects.push(suspect.concerns(volume.vm_instance_uuid.unwrap_or_default()));
        }
        let sql = "SELECT f.volume_uuid FROM volume_file f \
                   LEFT JOIN volume v ON v.uuid = f.volume_uuid WHERE v.uuid IS NULL";
        for row in self.0.store.rows(sql, Vec::new()).await? {
            let detail = "an agent was told to make it, and there is no such volume";
            let volume = row.text(0)?;
            let suspect = Suspect::extra("volume-note", &volume, detail).repair();
            suspects.push(suspect.queued_at(Volume::NOUN, volume));
        }
        let sql = "SELECT c.cache_uuid, c.volume_uuid FROM volume_copy c \
                   LEFT JOIN volume v ON v.uuid = c.volume_uuid WHERE v.uuid IS NULL";
        for row in self.0.store.rows(sql, Vec::new()).await? {
            let volume = row.text(1)?;
            let detail =
                format!("a copy is to go with volume {volume}, and there is no such volume");
            let suspect = Suspect::extra("copy-note", row.text(0)?, detail).repair();
            let suspect = suspect.queued_at(Volume::NOUN, &volume);
            suspects.push(suspect.concerns(volume));
        }
        Ok(suspects)
    }

    async fn repair(&self, repair: &Repair) -> Result<bool, Fault> {
        let (store, finding) = (&self.0.store, &repair.finding);
        match &*finding.kind {
            "part-file" if finding.depot_type == BackupStorage::NOUN => {
                let (storage, path) = (&finding.depot_uuid, &finding.identity);
                self.0.remove_part(storage, path).await?;
            }
            "storage-capacity" => capacity::correct(store, &finding.owner_uuid).await?,
            "volume-note" => {
                let sql = "DELETE FROM volume_file WHERE volume_uuid = ? \
                           AND volume_uuid NOT IN (SELECT uuid FROM volume)";
                self.forget(sql, &finding.identity).await?;
            }
            "copy-note" => {
                let sql = "DELETE FROM volume_copy WHERE cache_uuid = ? \
                           AND volume_uuid NOT IN (SELECT uuid FROM volume)";
                self.forget(sql, &finding.identity).await?;
            }
            // From then on it is brought again when it is needed.
            "image-file" => {
                let sql = "DELETE FROM image_cache WHERE uuid = ?";
                self.forget(sql, &finding.owner_uuid).await?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl Inspection {
    async fn forget(&self, sql: &'static str, which: &str) -> Result<(), Fault> {
        let which = which.to_owned();
        let forgotten = self.0.store.write(move |tx| {
            let values = vec![(&which).into()];
            Box::pin(async move { tx.execute(sql, values).await })
        });
        forgotten.await?;
        Ok(())
    }

    /// The folders of the storages of a zone, and nothing else.
    async fn pools_of(&self, zone: &str) -> Result<Known, Fault> {
        let store = &self.0.store;
        let of_zone = || vec![zone.into()];
        let storages: Vec<PrimaryStorage> = store.list("zone_uuid = ?", of_zone()).await?;
        let pools: BTreeMap<_, _> = storages.into_iter().map(|it| (it.uuid, it.path)).collect();
        let sql = "SELECT path FROM deleted_pool WHERE zone_uuid = ?";
        let mut deleted = BTreeSet::new();
        for row in store.rows(sql, of_zone()).await? {
            deleted.insert(row.text(0)?);
        }
        // One of two storages with the same folder may be there still.
        for path in pools.values() {
            deleted.remove(path);
        }
        Ok(Known {
            pools,
            deleted,
            ..Known::default()
        })
    }

    async fn known(&self, place: &Place, has: &HostInventory) -> Result<Known, Fault> {
        let on_host = || vec![place.host_uuid.as_str().into()];
        let mut known = self.pools_of(&place.zone_uuid).await?;
        known.volumes = self.0.store.list("host_uuid = ?", on_host()).await?;
        known.caches = self.0.store.list("host_uuid = ?", on_host()).await?;
        let sql = "SELECT c.install_path FROM volume_copy c \
                   JOIN volume v ON v.uuid = c.volume_uuid WHERE c.host_uuid = ?";
        for row in self.0.store.rows(sql, on_host()).await? {
            known.copies.insert(row.text(0)?);
        }
        for path in known.unexplained(has) {
            // Of half made files, too, the name has the uuid of what they are made for.
            if let Some(uuid) = name_of(&path)
                && let Some(owner) = self.owner(uuid).await?
            {
                known.owners.insert(path, owner);
            }
        }
        Ok(known)
    }

    /// The resource with that uuid of which there may be files.
    async fn owner(&self, uuid: Uuid) -> Result<Option<(&'static str, String)>, Fault> {
        let uuid = uuid.to_string();
        if self.0.store.get::<Volume>(&uuid).await?.is_some() {
            return Ok(Some((Volume::NOUN, uuid)));
        }
        let image = self.0.store.get::<Image>(&uuid).await?;
        Ok(image.map(|_| (Image::NOUN, uuid)))
    }
}

/// Whether a volume has its file, as its row says.
fn is_ready(volume: &Volume) -> bool {
    volume.status() == VolumeStatus::Ready
}

/// What a cache is, for those who write of it.
fn cached(cache: &ImageCache) -> String {
    format!("image {} is cached there", cache.image_uuid)
}
