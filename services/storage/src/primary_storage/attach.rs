//! Attaching a storage to a cluster: its hosts tell what the storage has on them.

use std::{collections::HashSet, sync::Arc};

use async_trait::async_trait;
use cairn_operation::{Ended, KeyedHandler, OperationContext};
use cairn_proto::{
    compute::v1alpha1::GetClusterRequest,
    crud::Keyed as _,
    fault::Fault,
    meta::Resource,
    storage::v1alpha1::{
        AttachPrimaryStorageToClusterRequest, PrimaryStorage, PrimaryStorageAttachment,
    },
};
use cairn_resource::{check_references, now};
use cairn_store::Tx;
use cairn_types::{HostUuid, OperationUuid, Uuid};
use tracing::warn;

use super::capacity::{self, Found};
use crate::Area;

pub(super) struct Attach(pub(super) Arc<Area>);

#[async_trait]
impl KeyedHandler for Attach {
    type Request = AttachPrimaryStorageToClusterRequest;
    type Resource = PrimaryStorage;

    async fn run(
        &self,
        cx: &OperationContext,
        request: Arc<Self::Request>,
    ) -> Result<Ended<PrimaryStorage>, Fault> {
        let (area, cluster) = (&self.0, &request.cluster_uuid);
        let storage = area.store.get::<PrimaryStorage>(&request.uuid).await?;
        let storage =
            storage.ok_or_else(|| Fault::not_found(PrimaryStorage::NOUN, &request.uuid))?;
        self.same_zone(&storage, cluster).await?;
        let hosts = area.hosts.connected(cluster).await?;
        cx.check_cancelled()?;
        cx.progress(10, format!("asking {} hosts what they have", hosts.len()));
        let found = area.pool_facts(cx.uuid(), &storage, &hosts).await?;
        let spaces: Vec<_> = found.iter().map(|f| (f.host, f.space)).collect();
        let wanted = Arc::clone(&request);
        let ended = cx
            .finish(move |tx| {
                let (request, spaces) = (Arc::clone(&wanted), spaces.clone());
                Box::pin(async move {
                    check_references(tx, &request.references()).await?;
                    let storage = attached(tx, &request).await?;
                    for (host, space) in spaces {
                        capacity::learn(tx, &storage, &request.cluster_uuid, host, space).await?;
                    }
                    Ok(storage)
                })
            })
            .await?;
        for Found { ack, .. } in found {
            ack.committed();
        }
        self.catch_up(cx.uuid(), cluster, &hosts).await;
        Ok(ended)
    }
}

impl Attach {
    async fn same_zone(&self, storage: &PrimaryStorage, uuid: &str) -> Result<(), Fault> {
        let uuid = uuid.to_owned();
        let request = GetClusterRequest { uuid: uuid.clone() };
        let found = self.0.clusters.get_cluster(request).await;
        let found = found.map_err(|status| Fault::from_status(&status))?;
        let zone = found.cluster.unwrap_or_default().zone_uuid;
        if zone == storage.zone_uuid {
            return Ok(());
        }
        let problem = format!(
            "cluster {uuid} is in zone {zone}, the storage in {}; give a cluster of its zone",
            storage.zone_uuid
        );
        Err(Fault::field("cluster_uuid", problem))
    }

    /// A host that connected after the hosts were listed may have seen no attachment.
    async fn catch_up(&self, operation: OperationUuid, cluster: &str, asked: &[HostUuid]) {
        let hosts = match self.0.hosts.connected(cluster).await {
            Ok(hosts) => hosts,
            Err(fault) => {
                warn!(
                    cluster,
                    error = fault.message,
                    "list hosts that connected meanwhile"
                );
                return;
            }
        };
        let asked: HashSet<_> = asked.iter().collect();
        for host in hosts.iter().filter(|host| !asked.contains(host)) {
            if let Err(fault) = self.0.prepare_host(operation, cluster, *host).await {
                // It is prepared when it connects the next time.
                warn!(%host, error = fault.message, "prepare a host that connected meanwhile");
            }
        }
    }
}

/// The storage, attached; it may be already.
async fn attached(
    tx: &mut Tx,
    request: &AttachPrimaryStorageToClusterRequest,
) -> Result<PrimaryStorage, Fault> {
    let storage = tx.get::<PrimaryStorage>(&request.uuid).await?;
    let storage = storage.ok_or_else(|| Fault::not_found(PrimaryStorage::NOUN, &request.uuid))?;
    let there = capacity::attachment(tx, &request.uuid, &request.cluster_uuid).await?;
    if there.is_none() {
        let mut attachment = PrimaryStorageAttachment {
            uuid: Uuid::now_v7().to_string(),
            name: storage.name.clone(),
            account_uuid: storage.account_uuid.clone(),
            primary_storage_uuid: request.uuid.clone(),
            cluster_uuid: request.cluster_uuid.clone(),
            ..PrimaryStorageAttachment::default()
        };
        attachment.stamp(now());
        tx.insert(&attachment).await?;
    }
    Ok(storage)
}
