//! What other services ask of networks. Requests come from Cairn's own code; they are checked
//! all the same, so that a mistake there is told and not stored.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use cairn_agent::stored_uuid;
use cairn_proto::{
    crud::Check,
    fault::Fault,
    meta::Resource,
    network::{
        internal::v1alpha1::{
            AllocateNicRequest, AllocateNicResponse, GetClustersRequest, GetClustersResponse,
            ListNicsRequest, ListNicsResponse, PrepareHostRequest, PrepareHostResponse,
            ReleaseHostRequest, ReleaseHostResponse, ReleaseNicRequest, ReleaseNicResponse,
            network_internal_service_server::NetworkInternalService,
        },
        v1alpha1::{L2Network, L3Network},
    },
};
use cairn_store::{Tx, Value};
use cairn_types::{HostUuid, InvalidUuid, OperationUuid};
use tonic::{Request, Response, Status};
use tracing::warn;

use crate::{
    Area, dhcp,
    l2_network::bridge,
    vm_nic::{Allocation, Plugged},
};

/// The internal service of this area.
pub(crate) struct Internal(pub(crate) Arc<Area>);

#[async_trait]
impl NetworkInternalService for Internal {
    async fn get_clusters(
        &self,
        request: Request<GetClustersRequest>,
    ) -> Result<Response<GetClustersResponse>, Status> {
        let networks = request.into_inner().l3_network_uuids;
        if networks.is_empty() {
            return Err(Fault::field("l3_network_uuids", "is empty; give at least one").into());
        }
        let cluster_uuids = self.0.clusters_of(&networks).await?;
        Ok(Response::new(GetClustersResponse { cluster_uuids }))
    }

    async fn allocate_nic(
        &self,
        request: Request<AllocateNicRequest>,
    ) -> Result<Response<AllocateNicResponse>, Status> {
        let request = request.into_inner();
        let mut check = Check::default();
        check.uuid("uuid", &request.uuid);
        check.uuid("vm_instance_uuid", &request.vm_instance_uuid);
        check.uuid("l3_network_uuid", &request.l3_network_uuid);
        check.uuid("account_uuid", &request.account_uuid);
        check.finish()?;
        let asked = Allocation {
            uuid: stored_uuid(&request.uuid)?,
            account_uuid: request.account_uuid,
            vm_instance_uuid: request.vm_instance_uuid,
            l3_network_uuid: request.l3_network_uuid,
            device_index: request.device_index,
        };
        Ok(Response::new(response(self.0.allocate_nic(asked).await?)))
    }

    async fn release_nic(
        &self,
        request: Request<ReleaseNicRequest>,
    ) -> Result<Response<ReleaseNicResponse>, Status> {
        self.0.release_nic(&request.into_inner().uuid).await?;
        Ok(Response::new(ReleaseNicResponse {}))
    }

    async fn list_nics(
        &self,
        request: Request<ListNicsRequest>,
    ) -> Result<Response<ListNicsResponse>, Status> {
        let nics = self.0.nics(&request.into_inner().vm_instance_uuid).await?;
        let nics = nics.into_iter().map(response).collect();
        Ok(Response::new(ListNicsResponse { nics }))
    }

    async fn prepare_host(
        &self,
        request: Request<PrepareHostRequest>,
    ) -> Result<Response<PrepareHostResponse>, Status> {
        let request = request.into_inner();
        let operation = operation_uuid(&request.operation_uuid)?;
        let found = self.0.hosts.find(&request.host_uuid).await?;
        let (host, _) = found.ok_or_else(|| Fault::not_found("host", &request.host_uuid))?;
        self.0
            .prepare_host(operation, &request.cluster_uuid, host)
            .await?;
        Ok(Response::new(PrepareHostResponse {}))
    }

    async fn release_host(
        &self,
        request: Request<ReleaseHostRequest>,
    ) -> Result<Response<ReleaseHostResponse>, Status> {
        let request = request.into_inner();
        let operation = operation_uuid(&request.operation_uuid)?;
        if let Some((host, connected)) = self.0.hosts.find(&request.host_uuid).await? {
            self.0
                .release_host(operation, &request.cluster_uuid, host, connected)
                .await?;
        }
        Ok(Response::new(ReleaseHostResponse {}))
    }
}

fn operation_uuid(text: &str) -> Result<OperationUuid, Fault> {
    let parsed = text.parse();
    parsed.map_err(|error: InvalidUuid| Fault::field("operation_uuid", error.to_string()))
}

impl Area {
    /// The clusters that have the L2 network of each of these L3 networks, and are going to keep
    /// it.
    async fn clusters_of(&self, networks: &[String]) -> Result<Vec<String>, Fault> {
        let mut carriers = BTreeSet::new();
        for uuid in networks {
            let network = self.store.get::<L3Network>(uuid).await?;
            let network = network.ok_or_else(|| Fault::not_found(L3Network::NOUN, uuid))?;
            carriers.insert(network.l2_network_uuid);
        }
        let count = i64::try_from(carriers.len()).unwrap_or(i64::MAX);
        let marks = vec!["?"; carriers.len()].join(", ");
        let sql = format!(
            "SELECT cluster_uuid FROM l2_network_attachment a WHERE l2_network_uuid IN ({marks}) \
             AND NOT EXISTS (SELECT 1 FROM going WHERE resource_uuid = a.uuid) \
             AND NOT EXISTS (SELECT 1 FROM cluster_bridge b WHERE b.removing <> 0 \
             AND b.l2_network_uuid = a.l2_network_uuid AND b.cluster_uuid = a.cluster_uuid) \
             GROUP BY cluster_uuid HAVING COUNT(*) = ? ORDER BY cluster_uuid"
        );
        let values = carriers.into_iter().map(Value::from);
        let values = values.chain([Value::from(count)]).collect();
        let rows = self.store.find_rows(&sql, values).await?;
        let clusters = rows.iter().map(|row| Ok(row.text(0)?));
        clusters.collect()
    }

    /// Makes the networks of its cluster on a host that has just connected.
    async fn prepare_host(
        &self,
        operation: OperationUuid,
        cluster: &str,
        host: HostUuid,
    ) -> Result<(), Fault> {
        let networks = self.staying(cluster).await?;
        for network in &networks {
            let step = (operation, "prepare-host");
            self.ensure_bridge(step, network, &[host]).await?;
        }
        // Who began to detach one meanwhile may have removed its bridge before it was made here.
        let stay = self.staying(cluster).await?;
        let stays = |network: &&L2Network| stay.iter().any(|other| other.uuid == network.uuid);
        for network in networks.iter().filter(|network| !stays(network)) {
            let step = (operation, "undo-prepare-host");
            self.delete_bridge(step, network, &[host]).await?;
        }
        self.restore_dhcp(operation, host).await
    }

    /// Removes what a host has that is being deleted. One that does not answer keeps its bridges;
    /// what it serves from goes back all the same.
    async fn release_host(
        &self,
        operation: OperationUuid,
        cluster: &str,
        host: HostUuid,
        connected: bool,
    ) -> Result<(), Fault> {
        if connected {
            for network in self.staying(cluster).await? {
                let step = (operation, "release-host");
                self.delete_bridge(step, &network, &[host]).await?;
            }
        } else {
            warn!(%host, "a host that does not answer keeps its bridges");
        }
        let forgotten = self
            .store
            .write(move |tx: &mut Tx| Box::pin(async move { dhcp::rows::forget(tx, host).await }));
        forgotten.await
    }

    /// The networks that a cluster has and is going to keep.
    async fn staying(&self, cluster: &str) -> Result<Vec<L2Network>, Fault> {
        let attached = "uuid IN (SELECT a.l2_network_uuid FROM l2_network_attachment a \
                        WHERE a.cluster_uuid = ? AND NOT EXISTS (SELECT 1 FROM cluster_bridge b \
                        WHERE b.cluster_uuid = a.cluster_uuid \
                        AND b.l2_network_uuid = a.l2_network_uuid AND b.removing <> 0)) \
                        ORDER BY uuid";
        Ok(self.store.list(attached, vec![cluster.into()]).await?)
    }
}

fn response((nic, interface): Plugged) -> AllocateNicResponse {
    AllocateNicResponse {
        bridge: bridge::name(&interface),
        vm_nic: Some(nic),
    }
}
