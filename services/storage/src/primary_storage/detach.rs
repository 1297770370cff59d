//! Detaching a storage from a cluster: refused while volumes are on it there. Images that were
//! cached there go with it.

use std::sync::Arc;

use async_trait::async_trait;
use cairn_operation::{Ended, Handler, OperationContext, Queue};
use cairn_proto::{
    call::{Method, Rpc as _},
    crud::{Check, Keyed as _},
    fault::Fault,
    meta::Resource,
    storage::v1alpha1::{
        DetachPrimaryStorageFromClusterRequest, DetachPrimaryStorageFromClusterResponse,
        PrimaryStorage,
    },
};
use cairn_store::{Tx, Value};
use cairn_types::ErrorCode;

use crate::Area;

/// The hosts of a cluster that a storage is local to; takes both uuids.
const HOSTS: &str = "SELECT host_uuid FROM primary_storage_host \
                     WHERE primary_storage_uuid = ? AND cluster_uuid = ?";

pub(super) struct Detach(pub(super) Arc<Area>);

#[async_trait]
impl Handler for Detach {
    type Request = DetachPrimaryStorageFromClusterRequest;
    type Response = DetachPrimaryStorageFromClusterResponse;
    type Spec = DetachPrimaryStorageFromClusterRequest;
    const METHOD: &'static Method = DetachPrimaryStorageFromClusterRequest::METHOD;

    fn check(&self, request: &Self::Request) -> Result<Self::Spec, Fault> {
        let mut check = Check::default();
        request.check(&mut check);
        check.finish()?;
        Ok(request.clone())
    }

    fn queue(&self, request: &Self::Spec) -> Queue {
        Queue::serial(PrimaryStorage::NOUN, &request.uuid)
    }

    async fn run(
        &self,
        cx: &OperationContext,
        request: Arc<Self::Spec>,
    ) -> Result<Ended<PrimaryStorage>, Fault> {
        // Listed before the rows go: afterwards nothing says where the files are.
        let there = format!("primary_storage_uuid = ? AND host_uuid IN ({HOSTS})");
        let values = [&request.uuid, &request.uuid, &request.cluster_uuid];
        let values = values.map(Value::from).to_vec();
        let caches = self.0.store.list(&there, values).await?;
        let ended = cx
            .finish(move |tx| {
                let request = Arc::clone(&request);
                Box::pin(async move { detach(tx, &request.uuid, &request.cluster_uuid).await })
            })
            .await?;
        // Not before: a volume that came first would have lost its image.
        self.0.delete_cached(cx.uuid(), caches).await;
        Ok(ended)
    }
}

/// The storage, not attached; it may not have been.
async fn detach(tx: &mut Tx, uuid: &str, cluster: &str) -> Result<PrimaryStorage, Fault> {
    let storage = tx.get::<PrimaryStorage>(uuid).await?;
    let storage = storage.ok_or_else(|| Fault::not_found(PrimaryStorage::NOUN, uuid))?;
    let there = format!("WHERE primary_storage_uuid = ? AND host_uuid IN ({HOSTS})");
    let values = || [uuid, uuid, cluster].map(Value::from).to_vec();

    let count = format!("SELECT COUNT(*) FROM volume {there}");
    let count = tx.rows(&count, values()).await?;
    let count = count.first().map_or(Ok(0), |row| row.int(0))?;
    if count > 0 {
        let message = format!(
            "primary-storage {uuid} has {count} volumes on hosts of cluster {cluster}; destroy \
             their virtual machines first"
        );
        return Err(Fault::new(ErrorCode::InUse, message).on(PrimaryStorage::NOUN, uuid));
    }
    for table in ["image_cache", "primary_storage_capacity"] {
        tx.execute(&format!("DELETE FROM {table} {there}"), values())
            .await?;
    }
    for table in ["primary_storage_host", "primary_storage_attachment"] {
        let sql =
            format!("DELETE FROM {table} WHERE primary_storage_uuid = ? AND cluster_uuid = ?");
        tx.execute(&sql, vec![uuid.into(), cluster.into()]).await?;
    }
    Ok(storage)
}
