//! Detaching a network from a cluster: refused while virtual machines with nics on it run there. Its
//! hosts lose the bridge; one that is away then loses it when it is back, by a job of its own. A
//! virtual machine that is stopped keeps its nics, and starts again where the network is.

use std::sync::Arc;

use async_trait::async_trait;
use cairn_agent::AT_ONCE;
use cairn_flow::{Bag, Flow, FlowError, Flows, Options, Outcome, Registry, Step, StepContext};
use cairn_inspect::begin_fix;
use cairn_operation::{Ended, KeyedHandler, OperationContext};
use cairn_proto::{
    compute::v1alpha1::QueryVmInstanceRequest,
    doctor::v1alpha1::{FixFindingRequest, Problem},
    fault::Fault,
    meta::Resource,
    network::{
        internal::v1alpha1::HostsAway,
        v1alpha1::{DetachL2NetworkFromClusterRequest, L2Network},
    },
    query::v1alpha1::{Condition, Operator, Query},
};
use cairn_store::{Tx, Value};
use cairn_types::{ErrorCode, TaskUuid, Uuid};
use futures::{StreamExt as _, stream};
use tonic::Code;

use super::{attached, bridge};
use crate::Area;

const REQUEST: &str = "cairn.network.v1alpha1.DetachL2NetworkFromClusterRequest";
const NETWORK: &str = "cairn.network.v1alpha1.L2Network";
const AWAY: &str = "cairn.network.internal.v1alpha1.HostsAway";

pub(super) struct Detach(Flow);

impl Detach {
    pub(super) fn new(flows: &mut Flows) -> Result<Self, FlowError> {
        let flow = flows.of::<Self>("detach-l2-network-from-cluster", &[NETWORK])?;
        Ok(Self(flow))
    }
}

/// The steps, and the flow of them.
pub(super) fn steps(registry: &mut Registry, area: &Arc<Area>) {
    let area = || Arc::clone(area);
    registry
        .step(RestoreBridges(area()))
        .step(Announce(area()))
        .step(CheckUnused(area()))
        .step(RemoveBridges(area()))
        .step(Forget)
        .step(LeaveToJobs(area()))
        .flow(
            "detach-l2-network-from-cluster.toml",
            include_str!("../../flows/detach-l2-network-from-cluster.toml"),
        );
}

#[async_trait]
impl KeyedHandler for Detach {
    type Request = DetachL2NetworkFromClusterRequest;
    type Resource = L2Network;

    async fn run(
        &self,
        cx: &OperationContext,
        request: Arc<Self::Request>,
    ) -> Result<Ended<L2Network>, Fault> {
        let detached = self.0.run(cx, Bag::of(&*request), |_, bag| {
            let network = bag.get::<L2Network>().unwrap_or_default();
            Box::pin(async move { Ok(network) })
        });
        detached.await
    }
}

/// What comes after it removes bridges: in its steps, or on a host that connects meanwhile. To go
/// back is to make them, once everybody knows again that they stay.
struct RestoreBridges(Arc<Area>);

#[async_trait]
impl Step for RestoreBridges {
    fn name(&self) -> &'static str {
        "restore-bridges"
    }

    fn needs(&self) -> &'static [&'static str] {
        &[REQUEST]
    }

    fn outside(&self) -> bool {
        true
    }

    async fn run(&self, _: &StepContext<'_>) -> Result<Outcome, Fault> {
        Ok(Outcome::none())
    }

    /// A host that is not reached gets it when it connects the next time.
    async fn rollback(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let request: DetachL2NetworkFromClusterRequest = cx.get()?;
        let Some(network) = self.0.store.get::<L2Network>(&request.uuid).await? else {
            return Ok(Outcome::none());
        };
        if !attached(&self.0.store, &request.uuid, &request.cluster_uuid).await? {
            return Ok(Outcome::none());
        }
        let hosts = self.0.hosts.connected(&request.cluster_uuid).await?;
        let step = (cx.operation().uuid(), "restore-bridge");
        match self.0.ensure_bridge(step, &network, &hosts).await {
            Err(fault) if fault.code != ErrorCode::AgentUnreachable => Err(fault),
            _ => Ok(Outcome::none()),
        }
    }
}

/// From here on a host that connects is not given the bridge, and no virtual machine is started that
/// needs it.
struct Announce(Arc<Area>);

#[async_trait]
impl Step for Announce {
    fn name(&self) -> &'static str {
        "announce-bridge-removal"
    }

    fn needs(&self) -> &'static [&'static str] {
        &[REQUEST]
    }

    fn provides(&self) -> &'static [&'static str] {
        &[NETWORK]
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let request: DetachL2NetworkFromClusterRequest = cx.get()?;
        let (uuid, cluster) = (&request.uuid, &request.cluster_uuid);
        let network = self.0.store.get::<L2Network>(uuid).await?;
        let network = network.ok_or_else(|| Fault::not_found(L2Network::NOUN, uuid))?;
        if !attached(&self.0.store, uuid, cluster).await? {
            let message = format!("l2-network {uuid} is not attached to cluster {cluster}");
            let fault = Fault::new(ErrorCode::WrongState, message);
            return Err(fault.on(L2Network::NOUN, uuid));
        }
        self.0.unused(uuid, cluster).await?;
        Ok(removing(request, true, Bag::of(&network)))
    }

    async fn rollback(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        Ok(removing(cx.get()?, false, Bag::new()))
    }
}

/// Notes whether the bridge of a network is being removed from the hosts of a cluster.
fn removing(request: DetachL2NetworkFromClusterRequest, removing: bool, then: Bag) -> Outcome {
    Outcome::rows(move |tx| {
        let sql = "UPDATE cluster_bridge SET removing = ? \
                   WHERE l2_network_uuid = ? AND cluster_uuid = ?";
        let values = vec![
            Value::Int(removing.into()),
            (&request.uuid).into(),
            (&request.cluster_uuid).into(),
        ];
        let then = then.clone();
        Box::pin(async move {
            tx.execute(sql, values).await?;
            Ok(then)
        })
    })
}

/// A virtual machine may have started since it was looked for.
struct CheckUnused(Arc<Area>);

#[async_trait]
impl Step for CheckUnused {
    fn name(&self) -> &'static str {
        "check-network-unused"
    }

    fn needs(&self) -> &'static [&'static str] {
        &[REQUEST]
    }

    fn options(&self) -> Options {
        Options::default().no_rollback()
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let request: DetachL2NetworkFromClusterRequest = cx.get()?;
        let unused = self.0.unused(&request.uuid, &request.cluster_uuid);
        unused.await.map(|()| Outcome::none())
    }
}

/// Of every host that can be reached. Those that cannot are told to [`LeaveToJobs`]: nothing is
/// plugged into what they keep until then.
struct RemoveBridges(Arc<Area>);

#[async_trait]
impl Step for RemoveBridges {
    fn name(&self) -> &'static str {
        "remove-bridges"
    }

    fn needs(&self) -> &'static [&'static str] {
        &[REQUEST, NETWORK]
    }

    fn provides(&self) -> &'static [&'static str] {
        &[AWAY]
    }

    fn outside(&self) -> bool {
        true
    }

    fn options(&self) -> Options {
        Options::default().no_rollback()
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let request: DetachL2NetworkFromClusterRequest = cx.get()?;
        let network: L2Network = cx.get()?;
        let mut away = self.0.hosts.away(&request.cluster_uuid).await?;
        let hosts = self.0.hosts.connected(&request.cluster_uuid).await?;
        // A repeat is another task: a host that connected meanwhile may have been given the bridge
        // again before it was known that it goes, and what is gone already does no harm.
        let step = format!("delete-bridge/{}", Uuid::new_v4());
        let step = (cx.operation().uuid(), step.as_str());
        let removals = hosts.iter().map(|&host| {
            let network = &network;
            async move { (host, self.0.delete_bridge(step, network, &[host]).await) }
        });
        let removals: Vec<_> = removals.collect();
        let ended = stream::iter(removals).buffer_unordered(AT_ONCE);
        for (host, ended) in ended.collect::<Vec<_>>().await {
            match ended {
                Err(fault) if fault.code == ErrorCode::AgentUnreachable => away.push(host),
                Err(fault) => return Err(fault),
                Ok(()) => {}
            }
        }
        let host_uuids = away.iter().map(ToString::to_string).collect();
        Ok(Outcome::provide(&HostsAway { host_uuids }))
    }
}

/// The attachment goes last: as long as it is there, no other network takes the interface.
struct Forget;

#[async_trait]
impl Step for Forget {
    fn name(&self) -> &'static str {
        "detach-l2-network"
    }

    fn needs(&self) -> &'static [&'static str] {
        &[REQUEST]
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let request: DetachL2NetworkFromClusterRequest = cx.get()?;
        Ok(Outcome::rows(move |tx| {
            let request = request.clone();
            Box::pin(async move { detach(tx, &request.uuid, &request.cluster_uuid).await })
        }))
    }
}

async fn detach(tx: &mut Tx, uuid: &str, cluster: &str) -> Result<Bag, Fault> {
    for table in ["l2_network_attachment", "cluster_bridge"] {
        let sql = format!("DELETE FROM {table} WHERE l2_network_uuid = ? AND cluster_uuid = ?");
        tx.execute(&sql, vec![uuid.into(), cluster.into()]).await?;
    }
    Ok(Bag::new())
}

/// What a host kept is what the doctor would find when it is back: its fix is begun now, for each
/// host, and waits for that as a job. By then somebody may want the bridge again; then it stays.
struct LeaveToJobs(Arc<Area>);

#[async_trait]
impl Step for LeaveToJobs {
    fn name(&self) -> &'static str {
        "leave-bridges-to-jobs"
    }

    fn needs(&self) -> &'static [&'static str] {
        &[NETWORK, AWAY]
    }

    fn outside(&self) -> bool {
        true
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let network: L2Network = cx.get()?;
        let away: HostsAway = cx.get()?;
        for host in away.host_uuids {
            let request = FixFindingRequest {
                queue_uuid: network.uuid.clone(),
                queue_type: L2Network::NOUN.to_owned(),
                kind: "bridge".to_owned(),
                problem: Problem::Extra.into(),
                identity: bridge::name(&network.physical_interface),
                host_uuid: Some(host.clone()),
                ..FixFindingRequest::default()
            };
            let task = TaskUuid(Uuid::new_v5(&cx.task().0, host.as_bytes()));
            begin_fix(&self.0.doctor, task, request).await?;
        }
        Ok(Outcome::none())
    }
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
