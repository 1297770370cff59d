//! Destroying: the virtual machine, its nics and its root volume go. Once begun it only goes
//! forward: what fails, since its host is away for instance, is left to a job that tries it again
//! until it is gone. By the deletion policy a delete may keep the nics and the volume, so that the
//! virtual machine can be recovered; then the other half follows when it is expunged.

mod begun;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use cairn_flow::{Bag, Flow, FlowError, Flows, Outcome, Step, StepContext};
use cairn_operation::{Ended, KeyedHandler, OperationContext};
use cairn_proto::{
    compute::v1alpha1::{
        DeleteVmInstanceRequest, ExpungeVmInstanceRequest, RecoverVmInstanceRequest, VmInstance,
        VmInstanceState as State,
    },
    fault::Fault,
    meta::Resource as _,
};
use cairn_resource::DeletionPolicy;
use cairn_types::ErrorCode;

use super::{capacity, state};

const VM: &str = "cairn.compute.v1alpha1.VmInstance";
const DELETE: &[&str] = &["cairn.compute.v1alpha1.DeleteVmInstanceRequest"];
const EXPUNGE: &[&str] = &["cairn.compute.v1alpha1.ExpungeVmInstanceRequest"];

/// What an operation gets: an agent and a file system may take their time.
const TIME_LIMIT: Duration = Duration::from_secs(2 * 60 * 60);

/// Whether it held nothing of its host.
fn held_nothing(before: &VmInstance) -> bool {
    matches!(before.state(), State::Stopped | State::Destroyed)
}

/// Runs the flow after which there is no row.
async fn run_to_the_end(
    flow: &Flow,
    cx: &OperationContext,
    request: Bag,
) -> Result<Ended<VmInstance>, Fault> {
    let destroyed = flow.run(cx, request, |tx, bag| {
        let before = bag.get::<VmInstance>().unwrap_or_default();
        Box::pin(async move {
            if tx.delete::<VmInstance>(&before.uuid).await? {
                begun::forget(tx, &before.uuid).await?;
                if !held_nothing(&before) {
                    capacity::release(tx, &before).await?;
                }
            }
            Ok(before)
        })
    });
    destroyed.await
}

pub(super) struct Delete {
    destroy: Flow,
    set_aside: Flow,
    policy: DeletionPolicy,
}

impl Delete {
    pub(super) fn new(policy: DeletionPolicy, flows: &mut Flows) -> Result<Self, FlowError> {
        Ok(Self {
            destroy: flows.of::<Self>("destroy-vm-instance", &[VM])?,
            set_aside: flows.of::<Self>("set-aside-vm-instance", &[VM])?,
            policy,
        })
    }
}

#[async_trait]
impl KeyedHandler for Delete {
    type Request = DeleteVmInstanceRequest;
    type Resource = VmInstance;

    fn time_limit(&self) -> Duration {
        TIME_LIMIT
    }

    async fn run(
        &self,
        cx: &OperationContext,
        request: Arc<DeleteVmInstanceRequest>,
    ) -> Result<Ended<VmInstance>, Fault> {
        let wanted = match self.policy.keeps() {
            true => &self.set_aside,
            false => &self.destroy,
        };
        // One that began by another policy goes on by that.
        let both = [&self.destroy, &self.set_aside];
        let flow = wanted.or_begun(&both, cx).await?;
        if flow.name() == self.destroy.name() {
            return run_to_the_end(flow, cx, Bag::of(&*request)).await;
        }
        let destroyed = flow.run(cx, Bag::of(&*request), |tx, bag| {
            let before = bag.get::<VmInstance>().unwrap_or_default();
            Box::pin(async move {
                let mut vm = state::load(tx, &before.uuid).await?;
                state::enter(tx, &mut vm, State::Destroyed).await?;
                begun::forget(tx, &vm.uuid).await?;
                if !held_nothing(&before) {
                    capacity::release(tx, &before).await?;
                }
                Ok(vm)
            })
        });
        destroyed.await
    }
}

pub(super) struct Expunge {
    flow: Flow,
}

impl Expunge {
    pub(super) fn new(flows: &mut Flows) -> Result<Self, FlowError> {
        let flow = flows.of::<Self>("expunge-vm-instance", &[VM])?;
        Ok(Self { flow })
    }
}

#[async_trait]
impl KeyedHandler for Expunge {
    type Request = ExpungeVmInstanceRequest;
    type Resource = VmInstance;

    fn time_limit(&self) -> Duration {
        TIME_LIMIT
    }

    async fn run(
        &self,
        cx: &OperationContext,
        request: Arc<Self::Request>,
    ) -> Result<Ended<VmInstance>, Fault> {
        run_to_the_end(&self.flow, cx, Bag::of(&*request)).await
    }
}

pub(super) struct Recover;

#[async_trait]
impl KeyedHandler for Recover {
    type Request = RecoverVmInstanceRequest;
    type Resource = VmInstance;

    async fn run(
        &self,
        cx: &OperationContext,
        request: Arc<Self::Request>,
    ) -> Result<Ended<VmInstance>, Fault> {
        cx.finish(move |tx| {
            let uuid = request.uuid.clone();
            Box::pin(async move {
                let mut vm = state::load(tx, &uuid).await?;
                if vm.state() != State::Destroyed {
                    return Err(not_destroyed(&vm, "is recovered"));
                }
                state::enter(tx, &mut vm, State::Stopped).await?;
                Ok(vm)
            })
        })
        .await
    }
}

fn not_destroyed(vm: &VmInstance, what: &str) -> Fault {
    let (uuid, state) = (&vm.uuid, vm.state());
    let message = format!(
        "virtual machine {uuid} is {state:?}; one that was deleted and is Destroyed {what}"
    );
    Fault::new(ErrorCode::WrongState, message).on(VmInstance::NOUN, uuid)
}

fn kept(vm: &VmInstance, how: &str) -> Fault {
    let message = format!("virtual machine {} {how}", vm.uuid);
    Fault::new(ErrorCode::WrongState, message).on(VmInstance::NOUN, &vm.uuid)
}

fn check_expunge(vm: &VmInstance, policy: DeletionPolicy) -> Result<(), Fault> {
    if vm.state() != State::Destroyed {
        return Err(not_destroyed(vm, "is expunged"));
    }
    match policy {
        DeletionPolicy::Never => Err(kept(
            vm,
            "is kept for good: the node's deletion policy is never",
        )),
        DeletionPolicy::Direct | DeletionPolicy::Delay(_) => Ok(()),
    }
}

/// Enters the state, and keeps how the virtual machine was before: one that was stopped holds
/// nothing of its host. One that is in it already, and whose job was given up, is as it was when its
/// destruction began: what is done of that is done again, which does nothing.
pub(super) struct EnterDestroying {
    name: &'static str,
    /// What is expunged was deleted before, and is not to be kept for good; unless a cascade takes
    /// away what it needs.
    expunges: Option<DeletionPolicy>,
    /// It is only set aside.
    keeps: bool,
}

impl EnterDestroying {
    pub(super) const DESTROY: Self = Self {
        name: "enter-destroying",
        expunges: None,
        keeps: false,
    };

    pub(super) const SET_ASIDE: Self = Self {
        name: "enter-setting-aside",
        expunges: None,
        keeps: true,
    };

    pub(super) const fn expunge(policy: DeletionPolicy) -> Self {
        Self {
            name: "enter-expunging",
            expunges: Some(policy),
            keeps: false,
        }
    }
}

#[async_trait]
impl Step for EnterDestroying {
    fn name(&self) -> &'static str {
        self.name
    }

    fn needs(&self) -> &'static [&'static str] {
        match self.expunges {
            None => DELETE,
            Some(_) => EXPUNGE,
        }
    }

    fn provides(&self) -> &'static [&'static str] {
        &[VM]
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let (expunges, keeps) = (self.expunges, self.keeps);
        let uuid = match expunges {
            None => cx.get::<DeleteVmInstanceRequest>()?.uuid,
            Some(_) => cx.get::<ExpungeVmInstanceRequest>()?.uuid,
        };
        Ok(Outcome::rows(move |tx| {
            let uuid = uuid.clone();
            Box::pin(async move {
                let mut vm = state::load(tx, &uuid).await?;
                let before = begun::before(tx, &vm).await?;
                match expunges {
                    Some(policy) if tx.going(&uuid).await?.is_none() => {
                        check_expunge(&before, policy)?;
                    }
                    None if keeps && before.state() == State::Destroyed => {
                        return Err(kept(&before, "is Destroyed already; recover or expunge it"));
                    }
                    _ => {}
                }
                state::enter(tx, &mut vm, State::Destroying).await?;
                begun::note(tx, &before).await?;
                Ok(Bag::of(&before))
            })
        }))
    }
}
