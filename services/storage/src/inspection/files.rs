//! The files of a host, held against rows. Pure: no table is read here.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    path::Path,
};

use cairn_agent_protocol::{HostInventory, PoolFile, Stray};
use cairn_inspect::Suspect;
use cairn_proto::{
    meta::Resource as _,
    storage::v1alpha1::{Image, ImageCache, Volume},
};
use cairn_types::Uuid;

use super::{cached, is_ready};

/// What a person does about a volume without a file.
const LOST: &str = "its data is lost: bring the file back from a backup of your own, or delete the \
                    virtual machine that it is of";
/// What a person does about a file of something that there is.
const OWNED: &str = "what its name says is there, so no fix removes it: see for yourself whether it \
                     is needed, and remove it by hand";

/// What a person does about a file in the folder of a storage that is none any more.
const ABANDONED: &str = "no fix removes what may be somebody's data from a folder that is no storage's \
                         any more: see for yourself whether it is needed, and remove it by hand";

/// What the tables say of a host.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The folders of the storages of its zone, by their uuids.
    pub(super) pools: BTreeMap<String, String>,
    /// The folders of storages that were deleted.
    pub(super) deleted: BTreeSet<String>,
    /// Those on the host.
    pub(super) volumes: Vec<Volume>,
    /// Those on the host.
    pub(super) caches: Vec<ImageCache>,
    /// Copies of images that go with a volume: who removes that goes on with them.
    pub(super) copies: HashSet<String>,
    /// What files belong to that none of these explains.
    pub(super) owners: HashMap<String, (&'static str, String)>,
}

impl Known {
    /// Where a volume's file is, or is going to be.
    fn path(&self, volume: &Volume) -> String {
        if !volume.install_path.is_empty() {
            return volume.install_path.clone();
        }
        let pool = self.pools.get(&volume.primary_storage_uuid);
        let pool = pool.map_or("", String::as_str);
        format!("{pool}/volumes/{}.qcow2", volume.uuid)
    }

    /// The files that no volume, no cache and no note of a copy says to be there.
    pub(super) fn unexplained(&self, has: &HostInventory) -> Vec<String> {
        let volumes = self.volumes.iter().map(|volume| self.path(volume));
        let caches = self.caches.iter().map(|cache| cache.install_path.clone());
        let copies = self.copies.iter().cloned();
        let explained: HashSet<_> = volumes.chain(caches).chain(copies).collect();
        let files = has.files.iter().map(|file| file.path.clone());
        files.filter(|path| !explained.contains(path)).collect()
    }

    /// Whether a file is a volume's, by its name, or one that a volume on the host was made from. A
    /// copy of an image that none was made from is no data: that is on the backup storage.
    fn is_needed(&self, path: &str) -> bool {
        let is_volume = |(noun, _): &(&str, String)| *noun == Volume::NOUN;
        let named = name_of(path).map(|uuid| uuid.to_string());
        let mut volumes = self.volumes.iter();
        self.owners.get(path).is_some_and(is_volume)
            || volumes.any(|it| {
                named.is_some() && it.image_uuid == named || Some(&it.uuid) == named.as_ref()
            })
    }

    /// Whether a file is in the folder of a storage that was deleted.
    fn is_deleted(&self, path: &str) -> bool {
        pool_of(path).is_some_and(|pool| self.deleted.contains(pool))
    }

    /// The virtual machines whose volumes are being made from an image on the host.
    fn making<'a>(&'a self, image: &'a str) -> impl Iterator<Item = &'a String> {
        let making = self
            .volumes
            .iter()
            .filter(move |volume| !is_ready(volume) && volume.image_uuid.as_deref() == Some(image));
        making.filter_map(|volume| volume.vm_instance_uuid.as_ref())
    }
}

/// What the two do not agree on.
pub(super) fn compare(has: &HostInventory, known: &Known) -> Vec<Suspect> {
    let mut suspects = Vec::new();
    for path in known.unexplained(has) {
        suspects.push(extra(&path, has, known));
    }
    let there: HashSet<_> = has.files.iter().map(|file| &*file.path).collect();
    for volume in known.volumes.iter().filter(|volume| is_ready(volume)) {
        let path = known.path(volume);
        if !there.contains(&*path) {
            let detail = "the volume is Ready, and its file is not there";
            let suspect = Suspect::missing("volume-file", path, detail).advise(LOST);
            let vm = volume.vm_instance_uuid.clone().unwrap_or_default();
            suspects.push(suspect.of(Volume::NOUN, &volume.uuid).concerns(vm));
        }
    }
    for cache in &known.caches {
        let path = &cache.install_path;
        if !there.contains(&**path) {
            let detail = format!("{}, and its file is not there", cached(cache));
            let suspect = Suspect::missing("image-file", path, detail).repair();
            let suspect = suspect.of(ImageCache::NOUN, &cache.uuid);
            let suspect = suspect.queued_at(Image::NOUN, &cache.image_uuid);
            suspects.push(suspect.concerns(&cache.image_uuid));
        }
    }
    suspects
}

fn extra(path: &str, has: &HostInventory, known: &Known) -> Suspect {
    let (kind, detail) = match kind_of(path) {
        "part-file" => ("part-file", "it is half made, and nobody is at it"),
        "volume-file" => ("volume-file", "no volume of the host has it"),
        "image-file" => ("image-file", "no image is said to be cached there"),
        other => (other, "nobody knows it"),
    };
    let detail = match known.is_deleted(path) {
        true => "the storage that the folder was of is deleted",
        false => detail,
    };
    let suspect = Suspect::extra(kind, path, detail);
    let kept = kept(path, kind, has, known);
    let suspect = match (name_of(path).map(|uuid| uuid.to_string()), kept) {
        (_, Some(advice)) => suspect.advise(advice),
        (named, None) => {
            let path = path.to_owned();
            let suspect = suspect.remove(Stray::File { path });
            // An operation may be at it whose resource is gone already.
            match (named, kind) {
                (Some(uuid), "image-file") => suspect.queued_at(Image::NOUN, &uuid).concerns(uuid),
                (Some(uuid), _) => suspect.queued_at(Volume::NOUN, &uuid).concerns(uuid),
                (None, _) => suspect,
            }
        }
    };
    let Some((noun, uuid)) = known.owners.get(path) else {
        // The file of a volume that is on its way has its volume's name.
        let volume = name_of(path).map(|uuid| uuid.to_string());
        let volume = known
            .volumes
            .iter()
            .find(|it| Some(&it.uuid) == volume.as_ref());
        return match volume {
            Some(volume) => {
                let vm = volume.vm_instance_uuid.clone().unwrap_or_default();
                suspect.of(Volume::NOUN, &volume.uuid).concerns(vm)
            }
            None => suspect,
        };
    };
    let volume = known.volumes.iter().find(|volume| volume.uuid == *uuid);
    let vm = volume.and_then(|volume| volume.vm_instance_uuid.as_ref());
    let vms = known.making(uuid).chain(vm);
    let suspect = vms.fold(suspect, |suspect, vm| suspect.concerns(vm));
    suspect.of(noun, uuid).queued_at(noun, uuid)
}

/// Why no fix removes a file, as advice; nothing if it is no data of anybody's.
fn kept(path: &str, kind: &str, has: &HostInventory, known: &Known) -> Option<&'static str> {
    let half_made = kind == "part-file";
    if !known.is_deleted(path) {
        return (!half_made && known.is_needed(path)).then_some(OWNED);
    }
    // No row tells any more what was made from what.
    let is_volume = |file: &PoolFile| {
        pool_of(&file.path) == pool_of(path) && kind_of(&file.path) == "volume-file"
    };
    let copy = kind == "image-file" && !has.files.iter().any(is_volume);
    let nobodys = name_of(path).is_some() && (half_made || copy);
    (!nobodys).then_some(ABANDONED)
}

/// The folder of the storage that a file is on.
fn pool_of(path: &str) -> Option<&str> {
    Path::new(path).parent()?.parent()?.to_str()
}

/// The kind of a file in a pool, as its path says.
fn kind_of(path: &str) -> &'static str {
    let path = Path::new(path);
    let folder = path.parent().and_then(Path::file_name);
    match folder.and_then(|name| name.to_str()) {
        _ if path.extension().is_some_and(|it| it == "part") => "part-file",
        Some("volumes") => "volume-file",
        Some("images") => "image-file",
        _ => "file",
    }
}

/// The uuid that a file's name begins with.
pub(super) fn name_of(path: &str) -> Option<Uuid> {
    let name = Path::new(path).file_name()?.to_str()?;
    name.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use cairn_proto::{
        doctor::v1alpha1::{
            Problem::{self, Extra, Missing},
            Remedy,
        },
        storage::v1alpha1::VolumeStatus,
    };

    use super::*;

    fn uuid(number: u128) -> String {
        Uuid::from_u128(number).to_string()
    }

    /// A host with a volume and the image that it was made from; the tables say the same.
    fn at_rest() -> (HostInventory, Known) {
        let mut volume = Volume {
            uuid: uuid(1),
            primary_storage_uuid: "pool".to_owned(),
            vm_instance_uuid: Some("vm".to_owned()),
            image_uuid: Some(uuid(2)),
            install_path: format!("/pool/volumes/{}.qcow2", uuid(1)),
            ..Volume::default()
        };
        volume.set_status(VolumeStatus::Ready);
        let cache = ImageCache {
            uuid: uuid(3),
            image_uuid: uuid(2),
            install_path: format!("/pool/images/{}.qcow2", uuid(2)),
            ..ImageCache::default()
        };
        let paths = [&volume.install_path, &cache.install_path];
        let files = paths.map(|path| PoolFile {
            path: path.clone(),
            size_bytes: 1,
        });
        let has = HostInventory {
            files: files.to_vec(),
            ..HostInventory::default()
        };
        let known = Known {
            pools: [("pool".to_owned(), "/pool".to_owned())].into(),
            volumes: vec![volume],
            caches: vec![cache],
            ..Known::default()
        };
        (has, known)
    }

    #[test]
    fn files_and_rows_are_held_against_each_other() {
        let check = |change: fn(&mut HostInventory, &mut Known),
                     expected: &[(&str, Problem, &str)]| {
            let (mut has, mut known) = at_rest();
            change(&mut has, &mut known);
            let found = compare(&has, &known);
            let found: Vec<_> = found.iter().map(Suspect::finding).collect();
            let short: Vec<_> = found
                .iter()
                .map(|it| (&*it.kind, it.problem(), &*it.owner_type))
                .collect();
            assert_eq!(short, expected, "{found:?}");
        };
        check(|_, _| {}, &[]);
        check(
            |has, _| has.files.clear(),
            &[
                ("volume-file", Missing, "volume"),
                ("image-file", Missing, "image-cache"),
            ],
        );
        check(
            |_, known| known.volumes.clear(),
            &[("volume-file", Extra, "")],
        );
        check(
            |_, known| known.caches.clear(),
            &[("image-file", Extra, "")],
        );
        let of_image = |has: &mut HostInventory, known: &mut Known| {
            known.caches.clear();
            let path = has.files[1].path.clone();
            known.owners.insert(path, (Image::NOUN, uuid(2)));
        };
        check(of_image, &[("image-file", Extra, "image")]);
        // It goes with a volume, and whoever removes that knows.
        let goes = |has: &mut HostInventory, known: &mut Known| {
            known.caches.clear();
            known.copies.insert(has.files[1].path.clone());
        };
        check(goes, &[]);
        // On its way: its file may be there or not, and half made it is told with its owner.
        let on_its_way = |_: &mut HostInventory, known: &mut Known| {
            known.volumes[0].set_status(VolumeStatus::NotInstantiated);
            known.volumes[0].install_path.clear();
        };
        check(on_its_way, &[]);
        let half = |has: &mut HostInventory, known: &mut Known| {
            known.volumes[0].set_status(VolumeStatus::NotInstantiated);
            known.volumes[0].install_path.clear();
            has.files[0].path.push_str(".part");
        };
        check(half, &[("part-file", Extra, "volume")]);
        let stray = |path: &str, has: &mut HostInventory| {
            has.files.push(PoolFile {
                path: path.to_owned(),
                size_bytes: 1,
            });
        };
        let (mut has, known) = at_rest();
        for (path, kind) in [
            ("/pool/volumes/x.part", "part-file"),
            ("/pool/volumes/x", "volume-file"),
            ("/pool/images/x", "image-file"),
        ] {
            stray(path, &mut has);
            let found = compare(&has, &known);
            assert_eq!(found.last().unwrap().finding().kind, kind, "{path}");
        }
    }

    #[test]
    fn of_a_deleted_storage_only_what_is_no_data_is_removed() {
        let (volume, image) = (format!("volumes/{}.qcow2", uuid(1)), uuid(2));
        let copy = format!("images/{image}.qcow2");
        let check = |files: &[&str], removed: &[&str]| {
            let path = |file: &&str| format!("/old/{file}");
            let (mut has, mut known) = at_rest();
            let more = files.iter().map(|file| PoolFile {
                path: path(file),
                size_bytes: 1,
            });
            has.files.extend(more);
            known.deleted.insert("/old".to_owned());
            let found = compare(&has, &known);
            assert_eq!(found.len(), files.len(), "{found:?}");
            let remedies = found.iter().map(Suspect::finding);
            let mut gone: Vec<_> = remedies
                .filter(|it| it.remedy() == Remedy::Remove)
                .map(|it| it.identity.clone())
                .collect();
            gone.sort();
            assert_eq!(gone, removed.iter().map(path).collect::<Vec<_>>());
        };
        check(&[&copy], &[&copy]);
        // The volume may have been made from it, whoever's it is.
        check(&[&volume, &copy], &[]);
        let half = format!("{volume}.part");
        check(&[&half, &copy], &[&copy, &half]);
        check(&["volumes/notes", "images/notes", "images/notes.part"], &[]);
    }

    #[test]
    fn an_image_that_is_being_brought_concerns_those_who_wait_for_it() {
        let (mut has, mut known) = at_rest();
        known.volumes[0].set_status(VolumeStatus::NotInstantiated);
        known.caches.clear();
        has.files.remove(0);
        has.files[0].path.push_str(".part");
        let path = has.files[0].path.clone();
        known.owners.insert(path.clone(), (Image::NOUN, uuid(2)));
        let expected = Suspect::extra("part-file", path, "it is half made, and nobody is at it");
        let expected = expected.concerns(uuid(2)).concerns("vm");
        let expected = expected.of(Image::NOUN, uuid(2));
        let path = known.owners.keys().next().unwrap().clone();
        let expected = expected.remove(Stray::File { path });
        let expected = expected.queued_at(Image::NOUN, uuid(2));
        assert_eq!(compare(&has, &known), [expected]);
    }
}
