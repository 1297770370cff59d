//! What this area puts right: states that nobody is on the way from.

use std::time::Duration;

use cairn_agent::stored_uuid;
use cairn_proto::{
    compute::v1alpha1::{ReconnectHostRequest, VmInstance, VmInstanceState as State},
    event::result,
    fault::Fault,
};

use super::Inspection;
use crate::vm_instance;

/// The agent lists its processes; more than this is a hanging machine.
const LIMIT: Duration = Duration::from_secs(8);

impl Inspection {
    /// Has a host say what runs on it, and what it says is taken over.
    pub(super) async fn reconnect(&self, host: &str) -> Result<(), Fault> {
        let uuid = host.to_owned();
        let request = ReconnectHostRequest { uuid };
        let reconnected = async { result(self.hosts.reconnect_host(request).await?).await };
        let reconnected = reconnected.await;
        reconnected.map_err(|status| Fault::from_status(&status))?;
        Ok(())
    }

    /// Has a virtual machine that was left on its way be what it is on its host.
    pub(super) async fn settle(&self, uuid: &str) -> Result<(), Fault> {
        let Some(vm) = self.store.get::<VmInstance>(uuid).await? else {
            return Ok(());
        };
        let mut runs = false;
        let host = vm.host_uuid.as_deref().unwrap_or_default();
        if let Some((host, _)) = self.agents.find(host).await? {
            let vm = stored_uuid(uuid)?;
            let has = self.agents.inventory(host, Vec::new(), LIMIT).await?;
            runs = has.vm_processes.iter().any(|process| process.vm == vm);
        }
        let is = if runs { State::Running } else { State::Stopped };
        let (uuid, was) = (uuid.to_owned(), vm.state());
        let settled = self.store.write(move |tx| {
            let uuid = uuid.clone();
            Box::pin(async move { vm_instance::found(tx, &uuid, was, is).await })
        });
        settled.await
    }
}
