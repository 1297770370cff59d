//! Destroying: the virtual machine, its nics and its root volume go. Once begun it only goes
//! forward: what fails, since its host is away for instance, is left to a job that tries it again
//! until it is gone.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use cairn_flow::{Bag, Flow, FlowError, Outcome, Step, StepContext};
use cairn_operation::{Ended, Handler, OperationContext, Queue};
use cairn_proto::{
    call::{Method, Rpc as _},
    compute::v1alpha1::{
        DeleteVmInstanceRequest, DeleteVmInstanceResponse, VmInstance, VmInstanceState as State,
    },
    crud::Keyed as _,
    fault::Fault,
    meta::Resource as _,
};

use super::{
    Vms, capacity, checked,
    devices::{ReleaseNics, ReleaseVolume},
    hypervisor::DestroyOnHypervisor,
    instantiation::ReleaseInstantiation,
    state,
};

const REQUEST: &str = "cairn.compute.v1alpha1.DeleteVmInstanceRequest";

pub(super) struct Destroy {
    flow: Flow,
}

impl Destroy {
    pub(super) fn new(vms: &Arc<Vms>) -> Result<Self, FlowError> {
        let vms = || Arc::clone(vms);
        let flow = Flow::builder("destroy-vm-instance")
            .step(EnterDestroying)
            .forward_after("enter-destroying")?
            .step(DestroyOnHypervisor(vms()))
            .step(ReleaseInstantiation(vms()))
            .step(ReleaseNics(vms()))
            .step(ReleaseVolume(vms()))
            .build(&[REQUEST])?;
        Ok(Self { flow })
    }
}

#[async_trait]
impl Handler for Destroy {
    type Request = DeleteVmInstanceRequest;
    type Response = DeleteVmInstanceResponse;
    type Spec = DeleteVmInstanceRequest;
    const METHOD: &'static Method = DeleteVmInstanceRequest::METHOD;

    fn check(&self, request: &DeleteVmInstanceRequest) -> Result<DeleteVmInstanceRequest, Fault> {
        checked(request)
    }

    fn queue(&self, request: &DeleteVmInstanceRequest) -> Queue {
        Queue::serial(VmInstance::NOUN, request.key())
    }

    fn time_limit(&self) -> Duration {
        Duration::from_secs(2 * 60 * 60)
    }

    async fn run(
        &self,
        cx: &OperationContext,
        request: Arc<DeleteVmInstanceRequest>,
    ) -> Result<Ended<VmInstance>, Fault> {
        let destroyed = self.flow.run(cx, Bag::of(&*request), |tx, bag| {
            let before = bag.get::<VmInstance>().unwrap_or_default();
            Box::pin(async move {
                if tx.delete::<VmInstance>(&before.uuid).await? && before.state() != State::Stopped
                {
                    capacity::release(tx, &before).await?;
                }
                Ok(before)
            })
        });
        destroyed.await
    }
}

/// Enters the state, and keeps how the virtual machine was before: one that was stopped holds
/// nothing of its host.
struct EnterDestroying;

#[async_trait]
impl Step for EnterDestroying {
    fn name(&self) -> &'static str {
        "enter-destroying"
    }

    fn needs(&self) -> &'static [&'static str] {
        &[REQUEST]
    }

    fn provides(&self) -> &'static [&'static str] {
        &["cairn.compute.v1alpha1.VmInstance"]
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let request: DeleteVmInstanceRequest = cx.get()?;
        Ok(Outcome::rows(move |tx| {
            let uuid = request.uuid.clone();
            Box::pin(async move {
                let before = state::load(tx, &uuid).await?;
                state::enter(tx, &mut before.clone(), State::Destroying).await?;
                Ok(Bag::of(&before))
            })
        }))
    }
}
