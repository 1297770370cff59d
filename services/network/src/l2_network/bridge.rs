//! The bridge of a network: its name, and the commands that make and remove it on hosts.

use std::time::Duration;

use cairn_agent::{AT_ONCE, Task, stored_uuid};
use cairn_agent_protocol::{AgentCommand, DeleteBridge, EnsureBridge};
use cairn_proto::{fault::Fault, network::v1alpha1::L2Network};
use cairn_types::{HostUuid, OperationUuid, TaskUuid, Uuid};
use futures::{StreamExt as _, stream};

use super::INTERFACE_MAX;
use crate::Area;

/// A few calls of the kernel; more than this is a hanging machine.
const LIMIT: Duration = Duration::from_secs(30);

/// Before the interface's name.
pub(crate) const PREFIX: &str = "br_";
/// Hex digits in place of the end of a name that is too long.
const DIGITS: usize = 4;

/// The bridge over an interface: `br_eth0`. A long name is cut, and told from others that begin
/// alike by digits made of the whole; no interface's name has the `~` before them.
pub(crate) fn name(interface: &str) -> String {
    let room = INTERFACE_MAX - PREFIX.len();
    if interface.len() <= room {
        return format!("{PREFIX}{interface}");
    }
    let kept: String = interface.chars().take(room - DIGITS - 1).collect();
    let whole = Uuid::new_v5(&Uuid::NAMESPACE_OID, interface.as_bytes()).simple();
    let digits: String = whole.to_string().chars().take(DIGITS).collect();
    format!("{PREFIX}{kept}~{digits}")
}

impl Area {
    /// Makes the bridge of a network on hosts. `step` says why, and tells tasks apart.
    pub(crate) async fn ensure_bridge(
        &self,
        (operation, step): (OperationUuid, &str),
        network: &L2Network,
        hosts: &[HostUuid],
    ) -> Result<(), Fault> {
        let command = EnsureBridge {
            bridge: name(&network.physical_interface),
            interface: network.physical_interface.clone(),
        };
        self.on_each((operation, step), network, hosts, &command)
            .await
    }

    /// Removes the bridge of a network from hosts.
    pub(crate) async fn delete_bridge(
        &self,
        (operation, step): (OperationUuid, &str),
        network: &L2Network,
        hosts: &[HostUuid],
    ) -> Result<(), Fault> {
        let command = DeleteBridge {
            bridge: name(&network.physical_interface),
        };
        self.on_each((operation, step), network, hosts, &command)
            .await
    }

    /// Has each host run a command, to the end on all of them: what comes after it, an undoing
    /// too, finds none under way.
    async fn on_each<C: AgentCommand<Reply = ()>>(
        &self,
        (operation, step): (OperationUuid, &str),
        network: &L2Network,
        hosts: &[HostUuid],
        command: &C,
    ) -> Result<(), Fault> {
        let resource = stored_uuid(&network.uuid)?;
        let calls = hosts.iter().map(|&host| async move {
            let step = format!("{step}/{}/{host}", network.uuid);
            let task = Task {
                task: TaskUuid::of_step(operation, &step, "run"),
                operation,
                resource,
                limit: LIMIT,
            };
            // Every row that tells of the bridge says the same with or without this outcome.
            let ((), ack) = self.hosts.call(host, task, command).await?;
            ack.committed();
            Ok(())
        });
        let calls: Vec<_> = calls.collect();
        let ended = stream::iter(calls).buffer_unordered(AT_ONCE);
        let ended: Vec<Result<(), Fault>> = ended.collect().await;
        ended.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bridges_have_names_of_their_own_that_linux_takes() {
        for (interface, bridge) in [
            ("eth0", "br_eth0"),
            ("enp0s31f6np0", "br_enp0s31f6np0"),
            // Golden: hosts have bridges of these names.
            ("enx001122334455", "br_enx0011~a590"),
            ("enx001122334456", "br_enx0011~5f1d"),
        ] {
            assert_eq!(name(interface), bridge);
            assert!(bridge.len() <= INTERFACE_MAX);
        }
    }
}
