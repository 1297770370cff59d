//! The steps in which other services take part: before a virtual machine runs on its host, once
//! it runs, and when it runs no longer.

use std::sync::Arc;

use async_trait::async_trait;
use cairn_flow::{Bag, Outcome, Step, StepContext};
use cairn_proto::{
    compute::{
        ext::v1alpha1::{InstantiatedNic, ObservedRequest, PrepareRequest, ReleaseRequest},
        v1alpha1::VmInstance,
    },
    fault::Fault,
    network::internal::v1alpha1::ListNicsResponse,
};

use super::{Vms, devices::NICS, placement::as_fault};

const VM: &str = "cairn.compute.v1alpha1.VmInstance";

impl Vms {
    /// Has everyone who prepared something for the virtual machine give it up.
    async fn release(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let vm: VmInstance = cx.get()?;
        let request = ReleaseRequest {
            host_uuid: vm.host_uuid.clone().unwrap_or_default(),
            vm_instance: Some(vm),
            task_uuid: cx.task().to_string(),
            operation_uuid: cx.operation().uuid().to_string(),
        };
        self.instantiation
            .release(request)
            .await
            .map_err(as_fault)?;
        Ok(Outcome::none())
    }
}

fn instantiated(nics: ListNicsResponse) -> Vec<InstantiatedNic> {
    let nics = nics.nics.into_iter().map(|nic| InstantiatedNic {
        vm_nic: nic.vm_nic,
        bridge: nic.bridge,
    });
    nics.collect()
}

/// Has everyone prepare what the virtual machine needs of them on its host.
pub(super) struct InstantiatePre(pub(super) Arc<Vms>);

#[async_trait]
impl Step for InstantiatePre {
    fn name(&self) -> &'static str {
        "instantiate-pre"
    }

    fn needs(&self) -> &'static [&'static str] {
        &[VM, NICS]
    }

    fn outside(&self) -> bool {
        true
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let vm: VmInstance = cx.get()?;
        let request = PrepareRequest {
            host_uuid: vm.host_uuid.clone().unwrap_or_default(),
            vm_instance: Some(vm),
            nics: instantiated(cx.get()?),
            task_uuid: cx.task().to_string(),
            operation_uuid: cx.operation().uuid().to_string(),
        };
        self.0
            .instantiation
            .prepare(request)
            .await
            .map_err(as_fault)?;
        Ok(Outcome::none())
    }

    async fn rollback(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        self.0.release(cx).await
    }
}

/// Tells everyone that the virtual machine runs. What they do then, a release undoes.
pub(super) struct InstantiatePost(pub(super) Arc<Vms>);

#[async_trait]
impl Step for InstantiatePost {
    fn name(&self) -> &'static str {
        "instantiate-post"
    }

    fn needs(&self) -> &'static [&'static str] {
        &[VM, NICS]
    }

    fn outside(&self) -> bool {
        true
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let vm: VmInstance = cx.get()?;
        let request = ObservedRequest {
            host_uuid: vm.host_uuid.clone().unwrap_or_default(),
            vm_instance: Some(vm),
            nics: instantiated(cx.get()?),
            task_uuid: cx.task().to_string(),
            operation_uuid: cx.operation().uuid().to_string(),
        };
        self.0
            .instantiation
            .observed(request)
            .await
            .map_err(as_fault)?;
        Ok(Outcome::none())
    }
}

/// Has everyone give up what they prepared: the virtual machine does not run any more.
pub(super) struct ReleaseInstantiation(pub(super) Arc<Vms>);

#[async_trait]
impl Step for ReleaseInstantiation {
    fn name(&self) -> &'static str {
        "release-instantiation"
    }

    fn needs(&self) -> &'static [&'static str] {
        &[VM]
    }

    fn outside(&self) -> bool {
        true
    }

    fn skip(&self, bag: &Bag) -> bool {
        bag.get::<VmInstance>()
            .is_some_and(|vm| vm.host_uuid.is_none())
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        self.0.release(cx).await
    }
}
