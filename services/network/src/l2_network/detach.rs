//! Detaching a network from a cluster: refused while nics are on it. Its hosts lose the bridge.

use std::sync::Arc;

use async_trait::async_trait;
use cairn_operation::{Ended, Handler, OperationContext, Queue};
use cairn_proto::{
    call::{Method, Rpc as _},
    crud::{Check, Keyed as _},
    fault::Fault,
    meta::Resource,
    network::v1alpha1::{
        DetachL2NetworkFromClusterRequest, DetachL2NetworkFromClusterResponse, L2Network,
    },
};
use cairn_store::{Row, Tx, Value};
use cairn_types::{ErrorCode, HostUuid};
use tracing::warn;

use super::attached;
use crate::Area;

/// Nics on the L3 networks of an L2 network; takes its uuid.
const NICS: &str = "SELECT COUNT(*) FROM vm_nic WHERE l3_network_uuid IN \
                    (SELECT uuid FROM l3_network WHERE l2_network_uuid = ?)";

pub(super) struct Detach(pub(super) Arc<Area>);

#[async_trait]
impl Handler for Detach {
    type Request = DetachL2NetworkFromClusterRequest;
    type Response = DetachL2NetworkFromClusterResponse;
    type Spec = DetachL2NetworkFromClusterRequest;
    const METHOD: &'static Method = DetachL2NetworkFromClusterRequest::METHOD;

    fn check(&self, request: &Self::Request) -> Result<Self::Spec, Fault> {
        let mut check = Check::default();
        request.check(&mut check);
        check.finish()?;
        Ok(request.clone())
    }

    fn queue(&self, request: &Self::Spec) -> Queue {
        Queue::serial(L2Network::NOUN, &request.uuid)
    }

    async fn run(
        &self,
        cx: &OperationContext,
        request: Arc<Self::Spec>,
    ) -> Result<Ended<L2Network>, Fault> {
        let (area, cluster) = (&self.0, &request.cluster_uuid);
        let network = area.store.get::<L2Network>(&request.uuid).await?;
        let network = network.ok_or_else(|| Fault::not_found(L2Network::NOUN, &request.uuid))?;
        if !attached(&area.store, &network.uuid, cluster).await? {
            let message = format!(
                "l2-network {} is not attached to cluster {cluster}",
                network.uuid
            );
            let fault = Fault::new(ErrorCode::WrongState, message);
            return Err(fault.on(L2Network::NOUN, &network.uuid));
        }
        let nics = area.store.rows(NICS, vec![(&network.uuid).into()]);
        unused(&network.uuid, &nics.await?)?;
        // From here on a host that connects is not given the bridge.
        self.removing(&network.uuid, cluster, true).await?;
        // A host that does not answer keeps its bridge, which nothing is plugged into.
        let hosts = area.hosts.connected(cluster).await?;
        match self.remove(cx, &request, &network, &hosts).await {
            Ok(ended) => Ok(ended),
            Err(fault) => Err(self.undo(cx, fault, &network, cluster, &hosts).await),
        }
    }
}

impl Detach {
    /// The attachment goes last: as long as it is there, no other network takes the interface.
    async fn remove(
        &self,
        cx: &OperationContext,
        request: &Arc<DetachL2NetworkFromClusterRequest>,
        network: &L2Network,
        hosts: &[HostUuid],
    ) -> Result<Ended<L2Network>, Fault> {
        cx.check_cancelled()?;
        cx.progress(10, format!("removing bridges from {} hosts", hosts.len()));
        let step = (cx.uuid(), "delete-bridge");
        self.0.delete_bridge(step, network, hosts).await?;
        let request = Arc::clone(request);
        cx.finish(move |tx| {
            let request = Arc::clone(&request);
            Box::pin(async move { detach(tx, &request.uuid, &request.cluster_uuid).await })
        })
        .await
    }

    /// Whether the bridge of a network is being removed from the hosts of a cluster.
    async fn removing(&self, network: &str, cluster: &str, removing: bool) -> Result<(), Fault> {
        let (network, cluster) = (network.to_owned(), cluster.to_owned());
        let noted = self.0.store.write(move |tx| {
            let sql = "UPDATE cluster_bridge SET removing = ? \
                       WHERE l2_network_uuid = ? AND cluster_uuid = ?";
            let values = vec![
                Value::Int(removing.into()),
                (&network).into(),
                (&cluster).into(),
            ];
            Box::pin(async move { Ok::<_, Fault>(tx.execute(sql, values).await?) })
        });
        noted.await.map(drop)
    }

    /// Makes the bridges again.
    async fn undo(
        &self,
        cx: &OperationContext,
        mut fault: Fault,
        network: &L2Network,
        cluster: &str,
        hosts: &[HostUuid],
    ) -> Fault {
        let undone = async {
            self.removing(&network.uuid, cluster, false).await?;
            let step = (cx.uuid(), "undo-delete-bridge");
            self.0.ensure_bridge(step, network, hosts).await
        };
        match undone.await {
            Ok(()) => fault.rolled_back.push("delete-bridge".to_owned()),
            // A host that lost its bridge gets it when it connects the next time.
            Err(error) => warn!(
                network = network.uuid,
                error = error.message,
                "undo bridges"
            ),
        }
        fault
    }
}

async fn detach(tx: &mut Tx, uuid: &str, cluster: &str) -> Result<L2Network, Fault> {
    let network = tx.get::<L2Network>(uuid).await?;
    let network = network.ok_or_else(|| Fault::not_found(L2Network::NOUN, uuid))?;
    // One may have come since the bridges began to go.
    unused(uuid, &tx.rows(NICS, vec![uuid.into()]).await?)?;
    for table in ["l2_network_attachment", "cluster_bridge"] {
        let sql = format!("DELETE FROM {table} WHERE l2_network_uuid = ? AND cluster_uuid = ?");
        tx.execute(&sql, vec![uuid.into(), cluster.into()]).await?;
    }
    Ok(network)
}

fn unused(uuid: &str, count: &[Row]) -> Result<(), Fault> {
    let count = count.first().map_or(Ok(0), |row| row.int(0))?;
    if count == 0 {
        return Ok(());
    }
    let message = format!(
        "l2-network {uuid} has {count} nics on its L3 networks; destroy their virtual machines \
         first"
    );
    Err(Fault::new(ErrorCode::InUse, message).on(L2Network::NOUN, uuid))
}
