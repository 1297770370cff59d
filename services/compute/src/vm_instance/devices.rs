//! The steps that get a new virtual machine its volume and nics, and those that give them back.
//! All of them ask other services, by uuids that follow from the operation: a repeat asks for
//! the same.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use cairn_flow::{Outcome, Step, StepContext};
use cairn_proto::{
    compute::v1alpha1::{CreateVmInstanceRequest, Host, VmInstance},
    fault::Fault,
    meta::Resource as _,
    network::internal::v1alpha1::{
        AllocateNicRequest, GetClustersRequest, ListNicsRequest, ListNicsResponse,
        ReleaseNicRequest,
    },
    query::v1alpha1::{Condition, Operator, Query},
    storage::{
        internal::v1alpha1::{
            AllocateVolumeRequest, CacheImageRequest, InstantiateVolumeRequest,
            ReleaseVolumeRequest, SelectBackupStorageRequest, SelectBackupStorageResponse,
        },
        v1alpha1::{GetVolumeRequest, QueryPrimaryStorageAttachmentRequest, Volume},
    },
};
use cairn_types::{ErrorCode, TaskUuid};

use super::{Vms, placement::as_fault};

const VM: &str = "cairn.compute.v1alpha1.VmInstance";
const REQUEST: &str = "cairn.compute.v1alpha1.CreateVmInstanceRequest";
pub(super) const VOLUME: &str = "cairn.storage.v1alpha1.Volume";
const SELECTED: &str = "cairn.storage.internal.v1alpha1.SelectBackupStorageResponse";
pub(super) const NICS: &str = "cairn.network.internal.v1alpha1.ListNicsResponse";

/// The uuid of something that an operation makes.
fn made(cx: &StepContext<'_>, what: &str) -> String {
    TaskUuid::of_step(cx.operation().uuid(), what, "uuid").to_string()
}

/// Finds out from where the host gets the image.
pub(super) struct SelectBackupStorage(pub(super) Arc<Vms>);

#[async_trait]
impl Step for SelectBackupStorage {
    fn name(&self) -> &'static str {
        "select-backup-storage"
    }

    fn needs(&self) -> &'static [&'static str] {
        &[VM]
    }

    fn provides(&self) -> &'static [&'static str] {
        &[SELECTED]
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let vm: VmInstance = cx.get()?;
        let request = SelectBackupStorageRequest {
            image_uuid: vm.image_uuid,
            host_uuid: vm.host_uuid.unwrap_or_default(),
        };
        let selected = self.0.storages.select_backup_storage(request).await;
        Ok(Outcome::provide(&selected.map_err(as_fault)?))
    }
}

/// Reserves the space of the root volume.
pub(super) struct AllocatePrimaryStorage(pub(super) Arc<Vms>);

#[async_trait]
impl Step for AllocatePrimaryStorage {
    fn name(&self) -> &'static str {
        "allocate-primary-storage"
    }

    fn needs(&self) -> &'static [&'static str] {
        &[VM]
    }

    fn outside(&self) -> bool {
        true
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let vm: VmInstance = cx.get()?;
        let request = AllocateVolumeRequest {
            uuid: made(cx, "root-volume"),
            name: format!("root of {}", vm.name),
            vm_instance_uuid: vm.uuid,
            account_uuid: vm.account_uuid,
            image_uuid: vm.image_uuid,
            host_uuid: vm.host_uuid.unwrap_or_default(),
        };
        self.0
            .storages
            .allocate_volume(request)
            .await
            .map_err(as_fault)?;
        Ok(Outcome::none())
    }

    /// Also removes the disk, if a later step came to make it.
    async fn rollback(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let request = ReleaseVolumeRequest {
            uuid: made(cx, "root-volume"),
            task_uuid: cx.task().to_string(),
            operation_uuid: cx.operation().uuid().to_string(),
        };
        self.0
            .storages
            .release_volume(request)
            .await
            .map_err(as_fault)?;
        Ok(Outcome::none())
    }
}

/// Brings the image to the storage. It stays there, for the next one.
pub(super) struct CacheImage(pub(super) Arc<Vms>);

#[async_trait]
impl Step for CacheImage {
    fn name(&self) -> &'static str {
        "cache-image"
    }

    fn needs(&self) -> &'static [&'static str] {
        &[SELECTED]
    }

    fn outside(&self) -> bool {
        true
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let selected: SelectBackupStorageResponse = cx.get()?;
        let request = CacheImageRequest {
            backup_storage_uuid: selected.backup_storage_uuid,
            volume_uuid: made(cx, "root-volume"),
            task_uuid: cx.task().to_string(),
            operation_uuid: cx.operation().uuid().to_string(),
        };
        self.0
            .storages
            .cache_image(request)
            .await
            .map_err(as_fault)?;
        Ok(Outcome::none())
    }
}

/// Makes the root volume, a linked clone of the image.
pub(super) struct AllocateVolume(pub(super) Arc<Vms>);

#[async_trait]
impl Step for AllocateVolume {
    fn name(&self) -> &'static str {
        "allocate-volume"
    }

    fn provides(&self) -> &'static [&'static str] {
        &[VOLUME]
    }

    fn outside(&self) -> bool {
        true
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let request = InstantiateVolumeRequest {
            uuid: made(cx, "root-volume"),
            task_uuid: cx.task().to_string(),
            operation_uuid: cx.operation().uuid().to_string(),
        };
        let ready = self
            .0
            .storages
            .instantiate_volume(request)
            .await
            .map_err(as_fault)?;
        Ok(Outcome::provide(&ready.volume.unwrap_or_default()))
    }
}

/// Makes the nics, with their addresses.
pub(super) struct AllocateNic(pub(super) Arc<Vms>);

#[async_trait]
impl Step for AllocateNic {
    fn name(&self) -> &'static str {
        "allocate-nic"
    }

    fn needs(&self) -> &'static [&'static str] {
        &[VM, REQUEST]
    }

    fn provides(&self) -> &'static [&'static str] {
        &[NICS]
    }

    fn outside(&self) -> bool {
        true
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let vm: VmInstance = cx.get()?;
        let request: CreateVmInstanceRequest = cx.get()?;
        let mut all = ListNicsResponse::default();
        for (device_index, l3_network_uuid) in (0..).zip(request.l3_network_uuids) {
            let request = AllocateNicRequest {
                uuid: made(cx, &format!("nic-{device_index}")),
                vm_instance_uuid: vm.uuid.clone(),
                l3_network_uuid,
                device_index,
                account_uuid: vm.account_uuid.clone(),
            };
            all.nics.push(
                self.0
                    .networks
                    .allocate_nic(request)
                    .await
                    .map_err(as_fault)?,
            );
        }
        Ok(Outcome::provide(&all))
    }

    async fn rollback(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let request: CreateVmInstanceRequest = cx.get()?;
        for device_index in (0..request.l3_network_uuids.len()).rev() {
            let uuid = made(cx, &format!("nic-{device_index}"));
            self.0
                .networks
                .release_nic(ReleaseNicRequest { uuid })
                .await
                .map_err(as_fault)?;
        }
        Ok(Outcome::none())
    }
}

/// Reads what a virtual machine that is there has.
pub(super) struct ListDevices(pub(super) Arc<Vms>);

#[async_trait]
impl Step for ListDevices {
    fn name(&self) -> &'static str {
        "list-devices"
    }

    fn needs(&self) -> &'static [&'static str] {
        &[VM]
    }

    fn provides(&self) -> &'static [&'static str] {
        &[VOLUME, NICS]
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let vm: VmInstance = cx.get()?;
        let uuid = vm.root_volume_uuid.unwrap_or_default();
        let volume = self
            .0
            .volumes
            .get_volume(GetVolumeRequest { uuid })
            .await
            .map_err(as_fault)?;
        let nics = ListNicsRequest {
            vm_instance_uuid: vm.uuid,
        };
        let nics = self.0.networks.list_nics(nics).await.map_err(as_fault)?;
        Ok(Outcome::provide(&volume.volume.unwrap_or_default()).and(&nics))
    }
}

/// The host's cluster still has what the virtual machine needs: it may have been detached since it
/// ran the last time.
pub(super) struct CheckAttached(pub(super) Arc<Vms>);

#[async_trait]
impl Step for CheckAttached {
    fn name(&self) -> &'static str {
        "check-attached"
    }

    fn needs(&self) -> &'static [&'static str] {
        &[VM, VOLUME, NICS]
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let (vm, volume): (VmInstance, Volume) = (cx.get()?, cx.get()?);
        let nics: ListNicsResponse = cx.get()?;
        let host = vm.host_uuid.clone().unwrap_or_default();
        let found = cx.operation().store().get::<Host>(&host).await?;
        let found = found.ok_or_else(|| Fault::not_found(Host::NOUN, &host))?;
        let (cluster, storage) = (found.cluster_uuid, volume.primary_storage_uuid);
        let networks = nics.nics.into_iter().filter_map(|nic| nic.vm_nic);
        let networks: BTreeSet<_> = networks.map(|nic| nic.l3_network_uuid).collect();
        let missing = if !self.has_networks(&cluster, networks).await? {
            "the L2 networks of all its nics".to_owned()
        } else if !self.has_storage(&cluster, &storage).await? {
            format!("primary-storage {storage}, which has the root volume")
        } else {
            return Ok(Outcome::none());
        };
        let message = format!("cluster {cluster} does not have {missing}; attach what is missing");
        Err(Fault::new(ErrorCode::WrongState, message).on(VmInstance::NOUN, &vm.uuid))
    }
}

impl CheckAttached {
    async fn has_networks(&self, cluster: &str, networks: BTreeSet<String>) -> Result<bool, Fault> {
        if networks.is_empty() {
            return Ok(true);
        }
        let l3_network_uuids = networks.into_iter().collect();
        let request = GetClustersRequest { l3_network_uuids };
        let found = self.0.networks.get_clusters(request).await;
        let found = found.map_err(as_fault)?.cluster_uuids;
        Ok(found.iter().any(|found| found == cluster))
    }

    async fn has_storage(&self, cluster: &str, storage: &str) -> Result<bool, Fault> {
        let equal = |field: &str, value: &str| Condition {
            field: field.to_owned(),
            operator: Operator::Eq.into(),
            values: vec![value.to_owned()],
        };
        let query = Query {
            conditions: vec![
                equal("cluster_uuid", cluster),
                equal("primary_storage_uuid", storage),
            ],
            count: true,
            ..Query::default()
        };
        let request = QueryPrimaryStorageAttachmentRequest { query: Some(query) };
        let attached = &self.0.attachments;
        let found = attached.query_primary_storage_attachment(request).await;
        Ok(found.map_err(as_fault)?.total.unwrap_or_default() > 0)
    }
}

/// Gives the nics back.
pub(super) struct ReleaseNics(pub(super) Arc<Vms>);

#[async_trait]
impl Step for ReleaseNics {
    fn name(&self) -> &'static str {
        "release-nics"
    }

    fn needs(&self) -> &'static [&'static str] {
        &[VM]
    }

    fn outside(&self) -> bool {
        true
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let vm: VmInstance = cx.get()?;
        let nics = ListNicsRequest {
            vm_instance_uuid: vm.uuid,
        };
        let nics = self
            .0
            .networks
            .list_nics(nics)
            .await
            .map_err(as_fault)?
            .nics;
        for nic in nics.into_iter().filter_map(|nic| nic.vm_nic) {
            let request = ReleaseNicRequest { uuid: nic.uuid };
            self.0
                .networks
                .release_nic(request)
                .await
                .map_err(as_fault)?;
        }
        Ok(Outcome::none())
    }
}

/// Removes the root volume.
pub(super) struct ReleaseVolume(pub(super) Arc<Vms>);

#[async_trait]
impl Step for ReleaseVolume {
    fn name(&self) -> &'static str {
        "release-volume"
    }

    fn needs(&self) -> &'static [&'static str] {
        &[VM]
    }

    fn outside(&self) -> bool {
        true
    }

    fn skip(&self, bag: &cairn_flow::Bag) -> bool {
        bag.get::<VmInstance>()
            .is_some_and(|vm| vm.root_volume_uuid.is_none())
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let vm: VmInstance = cx.get()?;
        let request = ReleaseVolumeRequest {
            uuid: vm.root_volume_uuid.unwrap_or_default(),
            task_uuid: cx.task().to_string(),
            operation_uuid: cx.operation().uuid().to_string(),
        };
        self.0
            .storages
            .release_volume(request)
            .await
            .map_err(as_fault)?;
        Ok(Outcome::none())
    }
}

/// The root volume that a flow has in its bag.
pub(super) fn root_volume(bag: &cairn_flow::Bag) -> Option<Volume> {
    bag.get()
}
