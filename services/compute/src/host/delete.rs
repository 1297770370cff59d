//! Deleting a host: what its cluster's networks and storages have on it goes first, so that the
//! machine can be used for something else.

use std::sync::Arc;

use async_trait::async_trait;
use cairn_flow::{Bag, Flow, FlowError, Flows, Outcome, Registry, Step, StepContext, gc};
use cairn_operation::{Ended, KeyedHandler, OperationContext};
use cairn_proto::{
    compute::v1alpha1::{DeleteHostRequest, Host, HostState},
    fault::Fault,
    meta::{OnDelete, Resource as _},
    network::internal::v1alpha1 as network,
    storage::internal::v1alpha1 as storage,
};
use cairn_resource::{in_use, now};
use cairn_store::Tx;
use cairn_types::ErrorCode;
use tonic::{Code, Status};

use super::Hosts;

const REQUEST: &str = "cairn.compute.v1alpha1.DeleteHostRequest";
const HOST: &str = "cairn.compute.v1alpha1.Host";

pub(super) struct Delete {
    flow: Flow,
}

impl Delete {
    pub(super) fn new(flows: &mut Flows) -> Result<Self, FlowError> {
        let flow = flows.of::<Self>("delete-host", &[HOST])?;
        Ok(Self { flow })
    }
}

/// The steps, and the flow of them.
pub(super) fn steps(registry: &mut Registry, hosts: &Arc<Hosts>) {
    registry
        .step(Disable)
        .step(ReleaseNetworks(Arc::clone(hosts)))
        .step(ReleaseStorages(Arc::clone(hosts)))
        .flow(
            "delete-host.toml",
            include_str!("../../flows/delete-host.toml"),
        );
}

#[async_trait]
impl KeyedHandler for Delete {
    type Request = DeleteHostRequest;
    type Resource = Host;

    async fn run(
        &self,
        cx: &OperationContext,
        request: Arc<DeleteHostRequest>,
    ) -> Result<Ended<Host>, Fault> {
        let deleted = self.flow.run(cx, Bag::of(&*request), |tx, bag| {
            let host = bag.get::<Host>().unwrap_or_default();
            Box::pin(async move {
                check_unused(tx, &host.uuid, |_| true).await?;
                tx.delete::<Host>(&host.uuid).await?;
                // What waits for it need not do anything there any more.
                gc::wake(tx, Host::NOUN, &host.uuid).await?;
                Ok(host)
            })
        });
        deleted.await
    }
}

/// Refuses a host that others refer to; `counts` says whose references do.
async fn check_unused(tx: &mut Tx, uuid: &str, counts: impl Fn(&str) -> bool) -> Result<(), Fault> {
    let mut referrers = tx.referrers(Host::NOUN, uuid).await?;
    referrers.retain(|(noun, _)| counts(noun));
    match referrers.is_empty() {
        true => Ok(()),
        false => Err(in_use(Host::NOUN, uuid, &referrers)),
    }
}

/// A host that nothing runs on gets nothing to run any more. Keeps how it was before.
struct Disable;

#[async_trait]
impl Step for Disable {
    fn name(&self) -> &'static str {
        "disable-host"
    }

    fn needs(&self) -> &'static [&'static str] {
        &[REQUEST]
    }

    fn provides(&self) -> &'static [&'static str] {
        &[HOST]
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let request: DeleteHostRequest = cx.get()?;
        Ok(Outcome::rows(move |tx| {
            let uuid = request.uuid.clone();
            Box::pin(async move {
                let before = tx.get::<Host>(&uuid).await?;
                let before = before.ok_or_else(|| Fault::not_found(Host::NOUN, &uuid))?;
                // Its parts go in the steps after this one.
                let catalog = Arc::clone(tx.catalog());
                let part = |noun: &str| {
                    let mut referrers = catalog.referrers(Host::NOUN);
                    referrers.any(|(resource, field)| {
                        resource.name == noun && field.on_delete == OnDelete::Part
                    })
                };
                check_unused(tx, &uuid, |noun| !part(noun)).await?;
                let mut host = before.clone();
                host.set_state(HostState::Disabled);
                host.stamp(now());
                tx.update(&host).await?;
                Ok(Bag::of(&before))
            })
        }))
    }

    async fn rollback(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let Some(before) = cx.find::<Host>() else {
            return Ok(Outcome::none());
        };
        Ok(Outcome::rows(move |tx| {
            let before = before.clone();
            Box::pin(async move {
                // What else changed since, its status for one, stays.
                if let Some(mut host) = tx.get::<Host>(&before.uuid).await? {
                    host.state = before.state;
                    tx.update(&host).await?;
                }
                Ok(Bag::new())
            })
        }))
    }
}

/// The bridges of its cluster's networks go.
struct ReleaseNetworks(Arc<Hosts>);

#[async_trait]
impl Step for ReleaseNetworks {
    fn name(&self) -> &'static str {
        "release-host-networks"
    }

    fn needs(&self) -> &'static [&'static str] {
        &[HOST]
    }

    fn outside(&self) -> bool {
        true
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let host: Host = cx.get()?;
        let request = network::ReleaseHostRequest {
            host_uuid: host.uuid,
            cluster_uuid: host.cluster_uuid,
            operation_uuid: cx.operation().uuid().to_string(),
        };
        done(self.0.networks.release_host(request).await)
    }

    async fn rollback(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let host: Host = cx.get()?;
        let request = network::PrepareHostRequest {
            host_uuid: host.uuid,
            cluster_uuid: host.cluster_uuid,
            operation_uuid: cx.operation().uuid().to_string(),
        };
        restored(self.0.networks.prepare_host(request).await)
    }
}

/// What its cluster's storages have on it goes.
struct ReleaseStorages(Arc<Hosts>);

#[async_trait]
impl Step for ReleaseStorages {
    fn name(&self) -> &'static str {
        "release-host-storages"
    }

    fn needs(&self) -> &'static [&'static str] {
        &[HOST]
    }

    fn outside(&self) -> bool {
        true
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let host: Host = cx.get()?;
        let request = storage::ReleaseHostRequest {
            host_uuid: host.uuid,
            cluster_uuid: host.cluster_uuid,
            operation_uuid: cx.operation().uuid().to_string(),
        };
        done(self.0.storages.release_host(request).await)
    }

    async fn rollback(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let host: Host = cx.get()?;
        let request = storage::PrepareHostRequest {
            host_uuid: host.uuid,
            cluster_uuid: host.cluster_uuid,
            operation_uuid: cx.operation().uuid().to_string(),
        };
        restored(self.0.storages.prepare_host(request).await)
    }
}

/// A cloud without networks or storages has nothing on a host.
fn done<T>(answer: Result<T, Status>) -> Result<Outcome, Fault> {
    match answer {
        Err(status) if status.code() != Code::Unimplemented => Err(Fault::from_status(&status)),
        _ => Ok(Outcome::none()),
    }
}

/// A host that does not answer is prepared when it connects.
fn restored<T>(answer: Result<T, Status>) -> Result<Outcome, Fault> {
    match done(answer) {
        Err(fault) if fault.code == ErrorCode::AgentUnreachable => Ok(Outcome::none()),
        outcome => outcome,
    }
}
