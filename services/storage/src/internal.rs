//! What other services ask of storages. Requests come from Cairn's own code; they are checked
//! all the same, so that a mistake there is told and not stored.

use std::{str::FromStr, sync::Arc};

use async_trait::async_trait;
use cairn_proto::{
    crud::Check,
    fault::Fault,
    meta::Resource,
    storage::{
        internal::v1alpha1::{
            AllocateVolumeRequest, AllocateVolumeResponse, CacheImageRequest, CacheImageResponse,
            GetPlacesRequest, GetPlacesResponse, InstantiateVolumeRequest,
            InstantiateVolumeResponse, Place, PrepareHostRequest, PrepareHostResponse,
            ReleaseHostRequest, ReleaseHostResponse, ReleaseVolumeRequest, ReleaseVolumeResponse,
            SelectBackupStorageRequest, SelectBackupStorageResponse,
            storage_internal_service_server::StorageInternalService,
        },
        v1alpha1::{Image, Volume},
    },
};
use cairn_store::Value;
use cairn_types::InvalidUuid;
use tonic::{Request, Response, Status};

use crate::{
    Area,
    primary_storage::capacity::signed,
    volume::{Allocation, image_for_use},
};

/// The internal service of this area.
pub(crate) struct Internal(pub(crate) Arc<Area>);

#[async_trait]
impl StorageInternalService for Internal {
    async fn get_places(
        &self,
        request: Request<GetPlacesRequest>,
    ) -> Result<Response<GetPlacesResponse>, Status> {
        let GetPlacesRequest {
            image_uuid,
            host_uuids,
        } = request.into_inner();
        let places = self.0.places(&image_uuid, host_uuids).await?;
        Ok(Response::new(places))
    }

    async fn allocate_volume(
        &self,
        request: Request<AllocateVolumeRequest>,
    ) -> Result<Response<AllocateVolumeResponse>, Status> {
        let request = request.into_inner();
        let mut check = Check::default();
        check.uuid("uuid", &request.uuid);
        check.uuid("vm_instance_uuid", &request.vm_instance_uuid);
        check.name("name", &request.name);
        check.uuid("account_uuid", &request.account_uuid);
        check.uuid("image_uuid", &request.image_uuid);
        check.uuid("host_uuid", &request.host_uuid);
        check.finish()?;
        let asked = Allocation {
            host: parse("host_uuid", &request.host_uuid)?,
            uuid: request.uuid,
            name: request.name,
            account_uuid: request.account_uuid,
            vm_instance_uuid: request.vm_instance_uuid,
            image_uuid: request.image_uuid,
        };
        let volume = Some(self.0.allocate_volume(asked).await?);
        Ok(Response::new(AllocateVolumeResponse { volume }))
    }

    async fn select_backup_storage(
        &self,
        request: Request<SelectBackupStorageRequest>,
    ) -> Result<Response<SelectBackupStorageResponse>, Status> {
        let SelectBackupStorageRequest {
            image_uuid,
            host_uuid,
        } = request.into_inner();
        let selected = self
            .0
            .select_backup_storage(&image_uuid, &host_uuid)
            .await?;
        Ok(Response::new(SelectBackupStorageResponse {
            backup_storage_uuid: selected.map(|storage| storage.uuid).unwrap_or_default(),
        }))
    }

    async fn cache_image(
        &self,
        request: Request<CacheImageRequest>,
    ) -> Result<Response<CacheImageResponse>, Status> {
        let request = request.into_inner();
        let task = parse("task_uuid", &request.task_uuid)?;
        let operation = parse("operation_uuid", &request.operation_uuid)?;
        let volume = self.0.volume(&request.volume_uuid).await?;
        let from = &request.backup_storage_uuid;
        let install_path = self.0.cache_image(&volume, task, operation, from).await?;
        Ok(Response::new(CacheImageResponse { install_path }))
    }

    async fn instantiate_volume(
        &self,
        request: Request<InstantiateVolumeRequest>,
    ) -> Result<Response<InstantiateVolumeResponse>, Status> {
        let request = request.into_inner();
        let task = parse("task_uuid", &request.task_uuid)?;
        let operation = parse("operation_uuid", &request.operation_uuid)?;
        let volume = self.0.volume(&request.uuid).await?;
        let volume = self.0.instantiate_volume(volume, task, operation).await?;
        let volume = Some(volume);
        Ok(Response::new(InstantiateVolumeResponse { volume }))
    }

    async fn release_volume(
        &self,
        request: Request<ReleaseVolumeRequest>,
    ) -> Result<Response<ReleaseVolumeResponse>, Status> {
        let request = request.into_inner();
        let task = parse("task_uuid", &request.task_uuid)?;
        let operation = parse("operation_uuid", &request.operation_uuid)?;
        self.0
            .release_volume(&request.uuid, task, operation)
            .await?;
        Ok(Response::new(ReleaseVolumeResponse {}))
    }

    async fn prepare_host(
        &self,
        request: Request<PrepareHostRequest>,
    ) -> Result<Response<PrepareHostResponse>, Status> {
        let request = request.into_inner();
        let operation = parse("operation_uuid", &request.operation_uuid)?;
        let found = self.0.hosts.find(&request.host_uuid).await?;
        let (host, _) = found.ok_or_else(|| Fault::not_found("host", &request.host_uuid))?;
        let cluster = &request.cluster_uuid;
        self.0.prepare_host(operation, cluster, host).await?;
        Ok(Response::new(PrepareHostResponse {}))
    }

    async fn release_host(
        &self,
        request: Request<ReleaseHostRequest>,
    ) -> Result<Response<ReleaseHostResponse>, Status> {
        let request = request.into_inner();
        let operation = parse("operation_uuid", &request.operation_uuid)?;
        self.0.release_host(operation, &request.host_uuid).await?;
        Ok(Response::new(ReleaseHostResponse {}))
    }
}

impl Area {
    async fn volume(&self, uuid: &str) -> Result<Volume, Fault> {
        let volume = self.store.get::<Volume>(uuid).await?;
        volume.ok_or_else(|| Fault::not_found(Volume::NOUN, uuid))
    }

    async fn places(&self, uuid: &str, hosts: Vec<String>) -> Result<GetPlacesResponse, Fault> {
        let image = image_for_use(self.store.get::<Image>(uuid).await?, uuid)?;
        let of_hosts = match hosts.len() {
            0 => String::new(),
            many => format!("AND c.host_uuid IN ({}) ", vec!["?"; many].join(", ")),
        };
        let sql = format!(
            "SELECT c.primary_storage_uuid, h.cluster_uuid, c.host_uuid, c.available_bytes \
             FROM primary_storage_capacity c \
             JOIN primary_storage p ON p.uuid = c.primary_storage_uuid \
             JOIN primary_storage_host h \
             ON h.primary_storage_uuid = c.primary_storage_uuid AND h.host_uuid = c.host_uuid \
             WHERE p.state = 'Enabled' AND c.available_bytes >= ? {of_hosts}\
             ORDER BY c.available_bytes DESC, c.uuid"
        );
        let mut values = vec![signed(image.size_bytes).into()];
        values.extend(hosts.into_iter().map(Value::from));
        let rows = match of_hosts.is_empty() {
            true => self.store.rows(&sql, values).await?,
            false => self.store.find_rows(&sql, values).await?,
        };
        let places = rows.iter().map(|row| {
            Ok(Place {
                primary_storage_uuid: row.text(0)?,
                cluster_uuid: row.text(1)?,
                host_uuid: row.text(2)?,
                available_bytes: u64::try_from(row.int(3)?).unwrap_or_default(),
            })
        });
        Ok(GetPlacesResponse {
            size_bytes: image.size_bytes,
            places: places.collect::<Result<_, Fault>>()?,
        })
    }
}

fn parse<T: FromStr<Err = InvalidUuid>>(field: &str, text: &str) -> Result<T, Fault> {
    let parsed = text.parse();
    parsed.map_err(|error: InvalidUuid| Fault::field(field, error.to_string()))
}
