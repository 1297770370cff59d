//! Detaching a nic: a virtual machine that is stopped loses it, and its address is free again.

use std::sync::Arc;

use async_trait::async_trait;
use cairn_flow::{Bag, Flow, FlowError, Flows, Outcome, Step, StepContext};
use cairn_operation::{Ended, KeyedHandler, OperationContext};
use cairn_proto::{
    compute::v1alpha1::{DetachVmInstanceNicRequest, VmInstance, VmInstanceState as State},
    fault::Fault,
    meta::Resource as _,
    network::internal::v1alpha1::{ListNicsRequest, ReleaseNicRequest},
};
use cairn_resource::now;
use cairn_store::Tx;
use cairn_types::ErrorCode;

use super::{Vms, placement::as_fault, state};

const REQUEST: &str = "cairn.compute.v1alpha1.DetachVmInstanceNicRequest";

pub(super) struct DetachNic {
    flow: Flow,
}

impl DetachNic {
    pub(super) fn new(flows: &mut Flows) -> Result<Self, FlowError> {
        let flow = flows.of::<Self>("detach-vm-instance-nic", &[])?;
        Ok(Self { flow })
    }
}

#[async_trait]
impl KeyedHandler for DetachNic {
    type Request = DetachVmInstanceNicRequest;
    type Resource = VmInstance;

    async fn run(
        &self,
        cx: &OperationContext,
        request: Arc<Self::Request>,
    ) -> Result<Ended<VmInstance>, Fault> {
        let uuid = request.uuid.clone();
        let detached = self.flow.run(cx, Bag::of(&*request), move |tx, _| {
            let uuid = uuid.clone();
            Box::pin(async move {
                let mut vm = stopped(tx, &uuid).await?;
                vm.stamp(now());
                tx.update(&vm).await?;
                Ok(vm)
            })
        });
        detached.await
    }
}

/// The virtual machine, if it is stopped: a nic of one that runs is in use by its guest.
async fn stopped(tx: &mut Tx, uuid: &str) -> Result<VmInstance, Fault> {
    let vm = state::load(tx, uuid).await?;
    if vm.state() == State::Stopped {
        return Ok(vm);
    }
    let message = format!(
        "virtual machine {uuid} is {:?}; stop it, a nic is detached from one that is Stopped",
        vm.state()
    );
    Err(Fault::new(ErrorCode::WrongState, message).on(VmInstance::NOUN, uuid))
}

/// The virtual machine is stopped and has the nic.
pub(super) struct CheckNic(pub(super) Arc<Vms>);

#[async_trait]
impl Step for CheckNic {
    fn name(&self) -> &'static str {
        "check-nic"
    }

    fn needs(&self) -> &'static [&'static str] {
        &[REQUEST]
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let request: DetachVmInstanceNicRequest = cx.get()?;
        let nics = ListNicsRequest {
            vm_instance_uuid: request.uuid.clone(),
        };
        let nics = self.0.networks.list_nics(nics).await.map_err(as_fault)?;
        let mut nics = nics.nics.iter().filter_map(|nic| nic.vm_nic.as_ref());
        let has = nics.any(|nic| nic.uuid == request.vm_nic_uuid);
        Ok(Outcome::rows(move |tx| {
            let request = request.clone();
            Box::pin(async move {
                stopped(tx, &request.uuid).await?;
                if !has {
                    let (vm, nic) = (&request.uuid, &request.vm_nic_uuid);
                    let problem = format!("virtual machine {vm} has no vm-nic {nic}");
                    return Err(Fault::field("vm_nic_uuid", problem));
                }
                Ok(Bag::new())
            })
        }))
    }
}

/// The network service takes the nic back, with its addresses.
pub(super) struct ReleaseNic(pub(super) Arc<Vms>);

#[async_trait]
impl Step for ReleaseNic {
    fn name(&self) -> &'static str {
        "release-nic"
    }

    fn needs(&self) -> &'static [&'static str] {
        &[REQUEST]
    }

    fn outside(&self) -> bool {
        true
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let request: DetachVmInstanceNicRequest = cx.get()?;
        let release = ReleaseNicRequest {
            uuid: request.vm_nic_uuid,
        };
        let released = self.0.networks.release_nic(release).await;
        released.map_err(as_fault)?;
        Ok(Outcome::none())
    }
}
