//! Detaching a network from a cluster: refused while virtual machines with nics on it run there. Its
//! hosts lose the bridge. One that is stopped keeps its nics, and starts again where the network is.

use std::sync::Arc;

use async_trait::async_trait;
use cairn_operation::{Ended, KeyedHandler, OperationContext};
use cairn_proto::{
    compute::v1alpha1::QueryVmInstanceRequest,
    fault::Fault,
    meta::Resource,
    network::v1alpha1::{DetachL2NetworkFromClusterRequest, L2Network},
    query::v1alpha1::{Condition, Operator, Query},
};
use cairn_store::{Tx, Value};
use cairn_types::{ErrorCode, HostUuid};
use tonic::Code;
use tracing::warn;

use super::attached;
use crate::Area;

pub(super) struct Detach(pub(super) Arc<Area>);

#[async_trait]
impl KeyedHandler for Detach {
    type Request = DetachL2NetworkFromClusterRequest;
    type Resource = L2Network;

    async fn run(
        &self,
        cx: &OperationContext,
        request: Arc<Self::Request>,
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
        area.unused(&network.uuid, cluster).await?;
        // From here on a host that connects is not given the bridge, and no virtual machine is
        // started that needs it.
        self.removing(&network.uuid, cluster, true).await?;
        // One may have started since it was looked for.
        if let Err(fault) = area.unused(&network.uuid, cluster).await {
            self.removing(&network.uuid, cluster, false).await?;
            return Err(fault);
        }
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
    for table in ["l2_network_attachment", "cluster_bridge"] {
        let sql = format!("DELETE FROM {table} WHERE l2_network_uuid = ? AND cluster_uuid = ?");
        tx.execute(&sql, vec![uuid.into(), cluster.into()]).await?;
    }
    Ok(network)
}

impl Area {
    /// No virtual machine with a nic on the network runs in the cluster, by what their service says.
    async fn unused(&self, network: &str, cluster: &str) -> Result<(), Fault> {
        let condition = |field: &str, operator: Operator, values: &[&str]| Condition {
            field: field.to_owned(),
            operator: operator.into(),
            values: values.iter().map(|value| (*value).to_owned()).collect(),
        };
        let query = Query {
            conditions: vec![
                condition("host.cluster_uuid", Operator::Eq, &[cluster]),
                condition(
                    "vm_nics.l3_network.l2_network_uuid",
                    Operator::Eq,
                    &[network],
                ),
                condition("state", Operator::NotIn, &["Stopped", "Destroyed"]),
            ],
            count: true,
            ..Query::default()
        };
        let request = QueryVmInstanceRequest { query: Some(query) };
        let count = match self.vms.query_vm_instance(request).await {
            Ok(found) => found.total.unwrap_or_default(),
            // A cloud without virtual machines.
            Err(status) if status.code() == Code::Unimplemented => 0,
            Err(status) => return Err(Fault::from_status(&status)),
        };
        if count == 0 {
            return Ok(());
        }
        let message = format!(
            "l2-network {network} is in use in cluster {cluster} by {count} vm-instance that run \
             there; stop them, or all of them by a cascade plan"
        );
        Err(Fault::new(ErrorCode::InUse, message).on(L2Network::NOUN, network))
    }
}
