//! Maintenance: nothing new is placed on a host, and once nothing runs there it is in maintenance.
//! What runs is stopped by a cascade, which begins and ends with entering it.

use std::sync::Arc;

use async_trait::async_trait;
use cairn_operation::{Builder, Ended, KeyedHandler, OperationContext};
use cairn_proto::{
    compute::v1alpha1::{
        EnterHostMaintenanceRequest, Host, HostState, LeaveHostMaintenanceRequest,
    },
    fault::Fault,
    meta::Resource as _,
};
use cairn_resource::now;
use cairn_store::Tx;
use cairn_types::ErrorCode;

use crate::vm_instance;

pub(super) fn register(operations: Builder) -> Builder {
    operations.register(Enter).register(Leave)
}

/// Whether a host with that state is in maintenance, or on the way there.
pub(super) fn is_in(state: HostState) -> bool {
    matches!(state, HostState::PreMaintenance | HostState::Maintenance)
}

/// The refusal of another state for a host in maintenance.
pub(super) fn must_leave(host: &Host) -> Fault {
    let (uuid, state) = (&host.uuid, host.state());
    let message = format!("host {uuid} is {state:?}; it leaves that by LeaveHostMaintenance");
    Fault::new(ErrorCode::WrongState, message).on(Host::NOUN, uuid)
}

struct Enter;

#[async_trait]
impl KeyedHandler for Enter {
    type Request = EnterHostMaintenanceRequest;
    type Resource = Host;

    async fn run(
        &self,
        cx: &OperationContext,
        request: Arc<Self::Request>,
    ) -> Result<Ended<Host>, Fault> {
        cx.finish(move |tx| {
            let uuid = request.uuid.clone();
            Box::pin(async move {
                let mut host = load(tx, &uuid).await?;
                // A virtual machine takes its place on the host in a transaction that looks at
                // the state: none comes after this one has counted.
                let state = match vm_instance::count_on_host(tx, &uuid).await? {
                    0 => HostState::Maintenance,
                    _ => HostState::PreMaintenance,
                };
                host.set_state(state);
                host.stamp(now());
                tx.update(&host).await?;
                Ok(host)
            })
        })
        .await
    }
}

struct Leave;

#[async_trait]
impl KeyedHandler for Leave {
    type Request = LeaveHostMaintenanceRequest;
    type Resource = Host;

    async fn run(
        &self,
        cx: &OperationContext,
        request: Arc<Self::Request>,
    ) -> Result<Ended<Host>, Fault> {
        cx.finish(move |tx| {
            let uuid = request.uuid.clone();
            Box::pin(async move {
                let mut host = load(tx, &uuid).await?;
                let problem = match tx.going(&uuid).await? {
                    Some(plan) => format!("is part of cascade plan {plan}; wait for its end"),
                    None if !is_in(host.state()) => {
                        format!("is {:?}, and not in maintenance", host.state())
                    }
                    None => String::new(),
                };
                if !problem.is_empty() {
                    let message = format!("host {uuid} {problem}");
                    let fault = Fault::new(ErrorCode::WrongState, message);
                    return Err(fault.on(Host::NOUN, &uuid));
                }
                host.set_state(HostState::Enabled);
                host.stamp(now());
                tx.update(&host).await?;
                Ok(host)
            })
        })
        .await
    }
}

async fn load(tx: &mut Tx, uuid: &str) -> Result<Host, Fault> {
    let host = tx.get::<Host>(uuid).await?;
    host.ok_or_else(|| Fault::not_found(Host::NOUN, uuid))
}
