//! Attaching a network to a cluster: its hosts get the bridge.

use std::{collections::HashSet, sync::Arc};

use async_trait::async_trait;
use cairn_operation::{Ended, KeyedHandler, OperationContext};
use cairn_proto::{
    compute::v1alpha1::GetClusterRequest,
    crud::Keyed as _,
    fault::Fault,
    meta::Resource,
    network::v1alpha1::{AttachL2NetworkToClusterRequest, L2Network, L2NetworkAttachment},
};
use cairn_resource::{check_references, now};
use cairn_store::{Tx, Value};
use cairn_types::{ErrorCode, HostUuid, OperationUuid, Uuid};
use tracing::warn;

use super::{attached, bridge};
use crate::Area;

pub(super) struct Attach(pub(super) Arc<Area>);

#[async_trait]
impl KeyedHandler for Attach {
    type Request = AttachL2NetworkToClusterRequest;
    type Resource = L2Network;

    async fn run(
        &self,
        cx: &OperationContext,
        request: Arc<Self::Request>,
    ) -> Result<Ended<L2Network>, Fault> {
        let (area, cluster) = (&self.0, &request.cluster_uuid);
        let network = area.store.get::<L2Network>(&request.uuid).await?;
        let network = network.ok_or_else(|| Fault::not_found(L2Network::NOUN, &request.uuid))?;
        self.same_zone(&network, cluster).await?;
        let repair = attached(&area.store, &network.uuid, cluster).await?;
        let hosts = area.hosts.connected(cluster).await?;
        self.reserve(&network, cluster).await?;
        match self.make(cx, &request, &network, &hosts).await {
            Ok(ended) => {
                self.catch_up(cx.uuid(), &network, cluster, &hosts).await;
                Ok(ended)
            }
            // What was attached before stays so, and its bridges are in use.
            Err(fault) if repair => Err(fault),
            Err(fault) => Err(self.undo(cx, fault, &network, cluster, &hosts).await),
        }
    }
}

impl Attach {
    async fn same_zone(&self, network: &L2Network, uuid: &str) -> Result<(), Fault> {
        let uuid = uuid.to_owned();
        let request = GetClusterRequest { uuid: uuid.clone() };
        let found = self.0.clusters.get_cluster(request).await;
        let found = found.map_err(|status| Fault::from_status(&status))?;
        let zone = found.cluster.unwrap_or_default().zone_uuid;
        if zone == network.zone_uuid {
            return Ok(());
        }
        let problem = format!(
            "cluster {uuid} is in zone {zone}, the network in {}; give a cluster of its zone",
            network.zone_uuid
        );
        Err(Fault::field("cluster_uuid", problem))
    }

    /// Takes the bridge in the cluster, so that no other network makes or removes it meanwhile.
    async fn reserve(&self, network: &L2Network, cluster: &str) -> Result<(), Fault> {
        let (network, cluster) = (network.clone(), cluster.to_owned());
        let reserved = self.0.store.write(move |tx| {
            let (network, cluster) = (network.clone(), cluster.clone());
            Box::pin(async move { reserve(tx, &network, &cluster).await })
        });
        reserved.await
    }

    async fn make(
        &self,
        cx: &OperationContext,
        request: &Arc<AttachL2NetworkToClusterRequest>,
        network: &L2Network,
        hosts: &[HostUuid],
    ) -> Result<Ended<L2Network>, Fault> {
        cx.check_cancelled()?;
        cx.progress(10, format!("making bridges on {} hosts", hosts.len()));
        let step = (cx.uuid(), "ensure-bridge");
        self.0.ensure_bridge(step, network, hosts).await?;
        let request = Arc::clone(request);
        cx.finish(move |tx| {
            let request = Arc::clone(&request);
            Box::pin(async move { attach(tx, &request).await })
        })
        .await
    }

    /// Removes the bridges that were made, and then gives the bridge in the cluster back.
    async fn undo(
        &self,
        cx: &OperationContext,
        mut fault: Fault,
        network: &L2Network,
        cluster: &str,
        hosts: &[HostUuid],
    ) -> Fault {
        let undone = async {
            let step = (cx.uuid(), "undo-ensure-bridge");
            self.0.delete_bridge(step, network, hosts).await?;
            let (uuid, cluster) = (network.uuid.clone(), cluster.to_owned());
            let given_back = self.0.store.write(move |tx| {
                let (uuid, cluster) = (uuid.clone(), cluster.clone());
                Box::pin(async move { give_back(tx, &uuid, &cluster).await })
            });
            given_back.await
        };
        match undone.await {
            Ok(()) => fault.rolled_back.push("ensure-bridge".to_owned()),
            // The network keeps the bridge: attached again or deleted, it is put right.
            Err(error) => {
                warn!(
                    network = network.uuid,
                    cluster,
                    error = error.message,
                    "undo bridges"
                );
            }
        }
        fault
    }

    /// A host that connected after the hosts were listed may have seen no attachment.
    async fn catch_up(
        &self,
        operation: OperationUuid,
        network: &L2Network,
        cluster: &str,
        made: &[HostUuid],
    ) {
        let caught_up = async {
            let made: HashSet<_> = made.iter().collect();
            let mut hosts = self.0.hosts.connected(cluster).await?;
            hosts.retain(|host| !made.contains(host));
            let step = (operation, "ensure-bridge");
            self.0.ensure_bridge(step, network, &hosts).await
        };
        if let Err(fault) = caught_up.await {
            // The host is prepared when it connects the next time.
            warn!(
                cluster,
                error = fault.message,
                "prepare hosts that connected meanwhile"
            );
        }
    }
}

async fn reserve(tx: &mut Tx, network: &L2Network, cluster: &str) -> Result<(), Fault> {
    let bridge = bridge::name(&network.physical_interface);
    let sql = "INSERT INTO cluster_bridge (cluster_uuid, bridge, l2_network_uuid) \
               VALUES (?, ?, ?) ON CONFLICT DO NOTHING";
    let values = vec![cluster.into(), (&bridge).into(), (&network.uuid).into()];
    if tx.execute(sql, values).await? > 0 {
        return Ok(());
    }
    let sql = "SELECT l2_network_uuid FROM cluster_bridge WHERE cluster_uuid = ? AND bridge = ?";
    let holder = tx.rows(sql, vec![cluster.into(), Value::from(&bridge)]);
    let holder = match holder.await?.first() {
        Some(row) => row.text(0)?,
        None => String::new(),
    };
    if holder == network.uuid {
        let sql = "UPDATE cluster_bridge SET removing = 0 WHERE cluster_uuid = ? AND bridge = ?";
        tx.execute(sql, vec![cluster.into(), (&bridge).into()])
            .await?;
        return Ok(());
    }
    let message = format!(
        "cluster {cluster} has bridge {bridge} for l2-network {holder}, and an interface carries \
         one network without VLAN; detach that one first"
    );
    Err(Fault::new(ErrorCode::InUse, message).on(L2Network::NOUN, &network.uuid))
}

async fn give_back(tx: &mut Tx, network: &str, cluster: &str) -> Result<(), Fault> {
    let sql = "DELETE FROM cluster_bridge WHERE l2_network_uuid = ? AND cluster_uuid = ?";
    tx.execute(sql, vec![network.into(), cluster.into()])
        .await?;
    Ok(())
}

/// The network, attached; it may be already.
async fn attach(
    tx: &mut Tx,
    request: &AttachL2NetworkToClusterRequest,
) -> Result<L2Network, Fault> {
    check_references(tx, &request.references()).await?;
    let network = tx.get::<L2Network>(&request.uuid).await?;
    let network = network.ok_or_else(|| Fault::not_found(L2Network::NOUN, &request.uuid))?;
    let both = "l2_network_uuid = ? AND cluster_uuid = ?";
    let values = vec![(&request.uuid).into(), (&request.cluster_uuid).into()];
    let there: Vec<L2NetworkAttachment> = tx.list(both, values).await?;
    if there.is_empty() {
        let mut attachment = L2NetworkAttachment {
            uuid: Uuid::now_v7().to_string(),
            name: network.name.clone(),
            account_uuid: network.account_uuid.clone(),
            l2_network_uuid: request.uuid.clone(),
            cluster_uuid: request.cluster_uuid.clone(),
            ..L2NetworkAttachment::default()
        };
        attachment.stamp(now());
        tx.insert(&attachment).await?;
    }
    Ok(network)
}
