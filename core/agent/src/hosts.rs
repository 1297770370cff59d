//! Hosts as services see them: asked of the compute service, reached through their agents.

use std::time::Duration;

use cairn_agent_protocol::{AgentCommand, CommandErrorCode, HostInventory, TakeInventory};
use cairn_proto::{
    call::Mesh,
    compute::v1alpha1::{GetHostRequest, Host, HostClient, HostStatus, QueryHostRequest},
    fault::Fault,
    meta::Resource,
    query::v1alpha1::{Condition, Operator, Query},
};
use cairn_types::{ErrorCode, HostUuid, OperationUuid, TaskUuid, Uuid};

use crate::{Ack, Agents, Head};

/// Hosts that a command is under way on at once.
pub const AT_ONCE: usize = 64;

/// The most that a query returns.
const PAGE: u32 = 10_000;

/// The way to every host's agent.
#[derive(Clone)]
pub struct Hosts {
    compute: HostClient,
    agents: Agents,
    token: u64,
}

/// Which task a command is.
#[derive(Debug, Clone, Copy)]
pub struct Task {
    /// The task; the same for a repeat.
    pub task: TaskUuid,
    /// Its operation.
    pub operation: OperationUuid,
    /// The resource whose commands run one at a time on a host.
    pub resource: Uuid,
    /// The command's time limit.
    pub limit: Duration,
}

impl Hosts {
    /// Hosts that `mesh` knows, reached by `agents`, under this fencing token.
    #[must_use]
    pub fn new(mesh: Mesh, agents: Agents, token: u64) -> Self {
        Self {
            compute: HostClient::new(mesh),
            agents,
            token,
        }
    }

    /// The hosts of a cluster whose agents answer.
    ///
    /// # Errors
    /// What the compute service answers.
    pub async fn connected(&self, cluster: &str) -> Result<Vec<HostUuid>, Fault> {
        self.list(cluster, Operator::Eq).await
    }

    /// The hosts of a cluster whose agents do not answer.
    ///
    /// # Errors
    /// What the compute service answers.
    pub async fn away(&self, cluster: &str) -> Result<Vec<HostUuid>, Fault> {
        self.list(cluster, Operator::Ne).await
    }

    async fn list(&self, cluster: &str, connected: Operator) -> Result<Vec<HostUuid>, Fault> {
        let mut hosts = Vec::new();
        let mut last: Option<String> = None;
        loop {
            let mut conditions = vec![
                condition("cluster_uuid", Operator::Eq, cluster),
                condition("status", connected, "Connected"),
            ];
            conditions.extend(last.map(|last| condition("uuid", Operator::Gt, &last)));
            let query = Query {
                conditions,
                fields: vec!["uuid".to_owned(), "address".to_owned()],
                sort_by: "uuid".to_owned(),
                limit: Some(PAGE),
                ..Query::default()
            };
            let request = QueryHostRequest { query: Some(query) };
            let found = self.compute.query_host(request).await;
            let page = found.map_err(|status| Fault::from_status(&status))?.hosts;
            hosts.extend(page.iter().filter_map(|host| self.known(host)));
            match page.last() {
                Some(host) if page.len() >= PAGE as usize => last = Some(host.uuid.clone()),
                _ => return Ok(hosts),
            }
        }
    }

    /// A host and whether its agent answers; none if there is no such host any more.
    ///
    /// # Errors
    /// What the compute service answers.
    pub async fn find(&self, uuid: &str) -> Result<Option<(HostUuid, bool)>, Fault> {
        let uuid = uuid.to_owned();
        match self.compute.get_host(GetHostRequest { uuid }).await {
            Ok(found) => Ok(found.host.and_then(|host| {
                let connected = host.status() == HostStatus::Connected;
                Some((self.known(&host)?, connected))
            })),
            Err(status) => match Fault::from_status(&status) {
                fault if fault.code == ErrorCode::NotFound => Ok(None),
                fault => Err(fault),
            },
        }
    }

    /// Has a host run a command. What the reply means is to be committed before the
    /// acknowledgement.
    ///
    /// # Errors
    /// A fault of that host: it was not reached, refused, or failed.
    pub async fn call<C: AgentCommand>(
        &self,
        host: HostUuid,
        task: Task,
        command: &C,
    ) -> Result<(C::Reply, Ack), Fault> {
        let Task {
            task,
            operation,
            resource,
            limit,
        } = task;
        let head = Head {
            task,
            operation,
            resource,
            token: self.token,
            timeout: limit,
        };
        let on_host = |fault: Fault| fault.on(Host::NOUN, &host.to_string());
        let delivered = self.agents.call(host, head, command).await;
        let delivered = delivered.map_err(|error| on_host(Fault::of(&error)))?;
        match delivered.reply {
            Ok(reply) => Ok((reply, delivered.ack)),
            Err(error) => {
                // A failure changes no row. Forgotten by the agent, the task can be tried again.
                delivered.ack.committed();
                let code = match error.code {
                    CommandErrorCode::Timeout => ErrorCode::DeadlineExceeded,
                    _ => ErrorCode::AgentFailed,
                };
                let message = format!("host {host} failed `{}`: {error}", C::NAME);
                Err(on_host(Fault::new(code, message)))
            }
        }
    }

    /// What a host really has, with the files in these folders of storage pools. It takes at most
    /// `limit`.
    ///
    /// # Errors
    /// As [`Hosts::call`].
    pub async fn inventory(
        &self,
        host: HostUuid,
        pools: Vec<String>,
        limit: Duration,
    ) -> Result<HostInventory, Fault> {
        let task = Task {
            // Whoever asks again wants what is there then. An outcome that nobody waits for is of
            // no operation, so the agent is told to forget it.
            task: TaskUuid::generate(),
            operation: OperationUuid::generate(),
            resource: inventory_queue(host),
            limit,
        };
        let (has, ack) = self.call(host, task, &TakeInventory { pools }).await?;
        ack.committed();
        Ok(has)
    }

    /// The agents may not have heard of the host yet: another node may watch over it.
    fn known(&self, host: &Host) -> Option<HostUuid> {
        let uuid = host.uuid.parse().ok()?;
        if let Ok(address) = host.address.parse() {
            self.agents.set_address(uuid, address);
        }
        Some(uuid)
    }
}

/// The uuid of a row; only canonical ones are stored.
///
/// # Errors
/// `INTERNAL` if it is none.
pub fn stored_uuid(text: &str) -> Result<Uuid, Fault> {
    Uuid::try_parse(text)
        .map_err(|_| Fault::new(ErrorCode::Internal, format!("a row has the uuid `{text}`")))
}

/// The queue of inventories at the agent: of nothing that other commands are at, so it neither waits
/// nor is waited for. One for each host, and always the same, because an agent remembers a queue for
/// good.
fn inventory_queue(host: HostUuid) -> Uuid {
    Uuid::new_v5(&host.0, b"inventory")
}

fn condition(field: &str, operator: Operator, value: &str) -> Condition {
    Condition {
        field: field.to_owned(),
        operator: operator.into(),
        values: vec![value.to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_of_an_inventory_is_stable_and_its_own() {
        let host = HostUuid(Uuid::from_u128(7));
        assert_eq!(inventory_queue(host), inventory_queue(host));
        assert_ne!(inventory_queue(host), host.0);
        let other = HostUuid(Uuid::from_u128(8));
        assert_ne!(inventory_queue(host), inventory_queue(other));
    }
}
