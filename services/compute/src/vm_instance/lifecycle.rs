//! Start, stop and reboot: each enters its state in a first step, has the host do it, and ends in
//! the state that follows.

use std::{marker::PhantomData, sync::Arc};

use async_trait::async_trait;
use cairn_flow::{Bag, Flow, FlowError, Flows, Outcome, Registry, Step, StepContext};
use cairn_operation::{Ended, KeyedHandler, OperationContext};
use cairn_proto::{
    call::Rpc,
    compute::v1alpha1::{
        Host, RebootVmInstanceRequest, StartVmInstanceRequest, StopVmInstanceRequest, VmInstance,
        VmInstanceState as State,
    },
    crud::Keyed,
    event::OperationResponse,
    fault::Fault,
    meta::Resource as _,
};
use cairn_store::Tx;
use cairn_types::ErrorCode;
use prost::Name;

use super::{capacity, state};

/// Handles the rpc whose request is `Q`.
pub(super) struct Lifecycle<Q> {
    flow: Flow,
    ends_in: State,
    /// What it holds of its host is given back at the end.
    releases: bool,
    request: PhantomData<fn() -> Q>,
}

/// The first steps of the three.
pub(super) fn steps(registry: &mut Registry) {
    registry
        .step(Enter::<StartVmInstanceRequest> {
            name: "enter-starting",
            needs: &["cairn.compute.v1alpha1.StartVmInstanceRequest"],
            to: State::Starting,
            back_to: State::Stopped,
            reserves: true,
            request: PhantomData,
        })
        .step(Enter::<StopVmInstanceRequest> {
            name: "enter-stopping",
            needs: &["cairn.compute.v1alpha1.StopVmInstanceRequest"],
            to: State::Stopping,
            back_to: State::Running,
            reserves: false,
            request: PhantomData,
        })
        .step(Enter::<RebootVmInstanceRequest> {
            name: "enter-rebooting",
            needs: &["cairn.compute.v1alpha1.RebootVmInstanceRequest"],
            to: State::Rebooting,
            back_to: State::Running,
            reserves: false,
            request: PhantomData,
        });
}

impl Lifecycle<StartVmInstanceRequest> {
    pub(super) fn start(flows: &mut Flows) -> Result<Self, FlowError> {
        Self::new(flows, "start-vm-instance", State::Running, false)
    }
}

impl Lifecycle<StopVmInstanceRequest> {
    pub(super) fn stop(flows: &mut Flows) -> Result<Self, FlowError> {
        Self::new(flows, "stop-vm-instance", State::Stopped, true)
    }
}

impl Lifecycle<RebootVmInstanceRequest> {
    pub(super) fn reboot(flows: &mut Flows) -> Result<Self, FlowError> {
        Self::new(flows, "reboot-vm-instance", State::Running, false)
    }
}

impl<Q> Lifecycle<Q>
where
    Q: Rpc + Keyed + Name,
    Q::Response: OperationResponse<Result = VmInstance>,
{
    fn new(
        flows: &mut Flows,
        flow: &str,
        ends_in: State,
        releases: bool,
    ) -> Result<Self, FlowError> {
        Ok(Self {
            flow: flows.of::<Self>(flow, &[])?,
            ends_in,
            releases,
            request: PhantomData,
        })
    }
}

#[async_trait]
impl<Q> KeyedHandler for Lifecycle<Q>
where
    Q: Rpc + Keyed + Name,
    Q::Response: OperationResponse<Result = VmInstance>,
{
    type Request = Q;
    type Resource = VmInstance;

    async fn run(
        &self,
        cx: &OperationContext,
        request: Arc<Q>,
    ) -> Result<Ended<VmInstance>, Fault> {
        let uuid = request.key().to_owned();
        let (ends_in, releases) = (self.ends_in, self.releases);
        let ended = self.flow.run(cx, Bag::of(&*request), move |tx, _| {
            let uuid = uuid.clone();
            Box::pin(async move {
                let mut vm = state::load(tx, &uuid).await?;
                state::enter(tx, &mut vm, ends_in).await?;
                if releases {
                    capacity::release(tx, &vm).await?;
                }
                Ok(vm)
            })
        });
        ended.await
    }
}

/// The first step: the virtual machine enters the state that says what is being done.
struct Enter<Q> {
    name: &'static str,
    needs: &'static [&'static str],
    to: State,
    back_to: State,
    /// On the way in it takes what it needs of its host; on the way back it gives that back.
    reserves: bool,
    request: PhantomData<fn() -> Q>,
}

#[async_trait]
impl<Q: Keyed + Name> Step for Enter<Q> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn needs(&self) -> &'static [&'static str] {
        self.needs
    }

    fn provides(&self) -> &'static [&'static str] {
        &["cairn.compute.v1alpha1.VmInstance"]
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let request: Q = cx.get()?;
        let uuid = request.key().to_owned();
        let (to, reserves) = (self.to, self.reserves);
        Ok(Outcome::rows(move |tx| {
            let uuid = uuid.clone();
            Box::pin(async move {
                let mut vm = state::load(tx, &uuid).await?;
                state::enter(tx, &mut vm, to).await?;
                if reserves {
                    refuse_held(tx, &uuid).await?;
                    reserve(tx, &vm).await?;
                }
                Ok(Bag::of(&vm))
            })
        }))
    }

    async fn rollback(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        // The row changed in one commit with the outcome: without it there is nothing to undo.
        let Some(vm) = cx.find::<VmInstance>() else {
            return Ok(Outcome::none());
        };
        let (back_to, reserves) = (self.back_to, self.reserves);
        Ok(Outcome::rows(move |tx| {
            let uuid = vm.uuid.clone();
            Box::pin(async move {
                // A job may come to this after somebody else destroyed it.
                let Some(mut vm) = tx.get::<VmInstance>(&uuid).await? else {
                    return Ok(Bag::new());
                };
                state::enter(tx, &mut vm, back_to).await?;
                if reserves {
                    capacity::release(tx, &vm).await?;
                }
                Ok(Bag::new())
            })
        }))
    }
}

/// What a cascade has stopped, or is about to, is not started before its end.
async fn refuse_held(tx: &mut Tx, uuid: &str) -> Result<(), Fault> {
    let Some(plan) = tx.going(uuid).await? else {
        return Ok(());
    };
    let message =
        format!("virtual machine {uuid} is part of cascade plan {plan}; start it after its end");
    Err(Fault::new(ErrorCode::WrongState, message).on(VmInstance::NOUN, uuid))
}

/// A virtual machine starts where its root volume is.
async fn reserve(tx: &mut Tx, vm: &VmInstance) -> Result<(), Fault> {
    let Some(uuid) = vm.host_uuid.clone() else {
        let message = format!(
            "virtual machine {} has no host: the one that it ran on is gone",
            vm.uuid
        );
        return Err(Fault::new(ErrorCode::WrongState, message).on(VmInstance::NOUN, &vm.uuid));
    };
    if capacity::reserve(tx, &uuid, vm.cpu_count, vm.memory_bytes).await? {
        return Ok(());
    }
    if let Some(plan) = tx.going(&uuid).await? {
        let message =
            format!("host {uuid}, which has the root volume, is part of cascade plan {plan}");
        return Err(Fault::new(ErrorCode::WrongState, message).on(VmInstance::NOUN, &vm.uuid));
    }
    let host = tx.get::<Host>(&uuid).await?;
    let host = host.ok_or_else(|| Fault::not_found(Host::NOUN, &uuid))?;
    let message = format!(
        "host {uuid}, which has the root volume, is {:?} and {:?} with {} bytes of memory and {} \
         processors left; {} and {} are needed",
        host.state(),
        host.status(),
        host.available_memory_bytes,
        host.available_cpu_count,
        vm.memory_bytes,
        vm.cpu_count,
    );
    Err(Fault::new(ErrorCode::OutOfCapacity, message).on(VmInstance::NOUN, &vm.uuid))
}
