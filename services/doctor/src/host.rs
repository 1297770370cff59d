//! One host: what it has, and what services say of that.

use std::time::Duration;

use cairn_agent::{Hosts, Task};
use cairn_agent_protocol::{HostInventory, TakeInventory};
use cairn_proto::{
    compute::v1alpha1::Host,
    doctor::ext::v1alpha1::{GetPoolsRequest, InspectHostRequest, InspectionExtensions, Suspect},
    fault::Fault,
};
use cairn_types::{ErrorCode, HostUuid, OperationUuid, TaskUuid, Uuid};
use tokio::time::timeout;

use crate::examine::not_connected;

/// The agent lists processes, interfaces and files; more than this is a hanging machine.
const LIMIT: Duration = Duration::from_secs(20);

/// A host to be examined.
pub(crate) struct Patient<'a> {
    pub(crate) host: &'a Host,
    pub(crate) agents: &'a Hosts,
    pub(crate) inspections: &'a InspectionExtensions,
}

/// What came of it.
pub(crate) enum Examined {
    /// What the rows do not explain, or the host does not have.
    Has(Vec<Suspect>),
    /// Nothing is known, and why.
    Not(String),
    /// The host is none any more.
    Gone,
}

impl Patient<'_> {
    pub(crate) async fn examine(&self) -> Examined {
        if let Some(reason) = not_connected(self.host) {
            return Examined::Not(reason);
        }
        // An agent that has just gone is tried for longer than a person wants to wait here.
        let inspected = match timeout(LIMIT, self.inspect()).await {
            Ok(inspected) => inspected,
            Err(_) => {
                let message = format!("its agent did not answer within {} s", LIMIT.as_secs());
                Err(Fault::new(ErrorCode::AgentUnreachable, message))
            }
        };
        match inspected {
            Ok(Some(suspects)) => Examined::Has(suspects),
            Ok(None) => Examined::Gone,
            Err(fault) => Examined::Not(fault.message),
        }
    }

    async fn inspect(&self) -> Result<Option<Vec<Suspect>>, Fault> {
        let host = self.host;
        let Some((uuid, _)) = self.agents.find(&host.uuid).await? else {
            return Ok(None);
        };
        let request = GetPoolsRequest {
            host_uuid: host.uuid.clone(),
            cluster_uuid: host.cluster_uuid.clone(),
            zone_uuid: host.zone_uuid.clone(),
        };
        let pools = self.inspections.get_pools(request).await;
        let pools = pools.map_err(|status| Fault::from_status(&status))?;
        let mut pools: Vec<_> = pools.into_iter().flat_map(|answer| answer.paths).collect();
        pools.sort();
        pools.dedup();
        let has = self.inventory(uuid, pools).await?;
        let inventory = serde_json::to_string(&has).map_err(|cause| {
            let message = format!("what host {uuid} has cannot be written down: {cause}");
            Fault::new(ErrorCode::Internal, message)
        })?;
        let request = InspectHostRequest {
            host_uuid: host.uuid.clone(),
            cluster_uuid: host.cluster_uuid.clone(),
            zone_uuid: host.zone_uuid.clone(),
            inventory,
        };
        let inspected = self.inspections.inspect_host(request).await;
        let inspected = inspected.map_err(|status| Fault::from_status(&status))?;
        Ok(Some(
            inspected.into_iter().flat_map(|it| it.suspects).collect(),
        ))
    }

    async fn inventory(&self, host: HostUuid, pools: Vec<String>) -> Result<HostInventory, Fault> {
        let task = Task {
            // Whoever asks again wants what is there then. An outcome that nobody waits for is of
            // no operation, so the agent is told to forget it.
            task: TaskUuid::generate(),
            operation: OperationUuid::generate(),
            resource: queue(host),
            limit: LIMIT,
        };
        let command = TakeInventory { pools };
        let (has, ack) = self.agents.call(host, task, &command).await?;
        ack.committed();
        Ok(has)
    }
}

/// The queue at the agent: of nothing that commands are at, so it neither waits nor is waited for.
/// One for each host, and always the same, because an agent remembers a queue for good.
fn queue(host: HostUuid) -> Uuid {
    Uuid::new_v5(&host.0, b"inventory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_of_an_inventory_is_stable_and_its_own() {
        let host = HostUuid(Uuid::from_u128(7));
        assert_eq!(queue(host), queue(host));
        assert_ne!(queue(host), host.0);
        assert_ne!(queue(host), queue(HostUuid(Uuid::from_u128(8))));
    }
}
