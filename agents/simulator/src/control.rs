//! The simulator's controls as JSON lines: one request, one reply. They come over the process's
//! standard input, never over a listener.

use serde::{Deserialize, Serialize};

use crate::{Fault, HostSize, HostState, Record, Simulator};
use cairn_agent_protocol::Enrollment;
use cairn_agent_runtime::{AgentServer, RuntimeError};
use cairn_types::{HostUuid, Uuid, chain};

/// Answers requests about simulated hosts.
pub struct Control {
    simulator: Simulator,
    server: AgentServer,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Request {
    AddHost(AddHost),
    Install(Install),
    Fault(Fault),
    Release(u64),
    EndVm(EndVm),
    List(List),
}

#[derive(Deserialize)]
struct AddHost {
    host: HostUuid,
    #[serde(default)]
    size: Option<HostSize>,
}

#[derive(Deserialize)]
struct Install {
    host: HostUuid,
    #[serde(flatten)]
    enrollment: Enrollment,
}

#[derive(Deserialize)]
struct EndVm {
    host: HostUuid,
    vm: Uuid,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum List {
    Commands,
    Hosts,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Reply {
    Request { host: HostUuid, csr: String },
    Installed { installed: HostUuid },
    Fault { fault: u64 },
    Released { released: bool },
    Ended { ended: bool },
    Commands { commands: Vec<Record> },
    Hosts { hosts: Vec<HostState> },
    Error { error: String },
}

impl Control {
    /// Over the hosts of a simulator and what serves them.
    #[must_use]
    pub fn new(simulator: Simulator, server: AgentServer) -> Self {
        Self { simulator, server }
    }

    /// Answers one line with one line.
    pub async fn answer(&self, line: &str) -> String {
        let reply = match serde_json::from_str(line) {
            Ok(request) => self
                .act(request)
                .await
                .unwrap_or_else(|error| Reply::Error {
                    error: chain(&error),
                }),
            Err(error) => Reply::Error {
                error: error.to_string(),
            },
        };
        serde_json::to_string(&reply).unwrap_or_else(|error| format!(r#"{{"error":"{error}"}}"#))
    }

    async fn act(&self, request: Request) -> Result<Reply, RuntimeError> {
        Ok(match request {
            Request::AddHost(AddHost { host, size }) => {
                if let Some(size) = size {
                    self.simulator.set_size(host, size);
                }
                Reply::Request {
                    host,
                    csr: self.server.request(host).await?,
                }
            }
            Request::Install(Install { host, enrollment }) => {
                self.server.install(host, enrollment).await?;
                Reply::Installed { installed: host }
            }
            Request::Fault(fault) => Reply::Fault {
                fault: self.simulator.inject(fault),
            },
            Request::Release(id) => Reply::Released {
                released: self.simulator.release(id),
            },
            Request::EndVm(EndVm { host, vm }) => Reply::Ended {
                ended: self.simulator.end_vm(host, vm),
            },
            Request::List(List::Commands) => Reply::Commands {
                commands: self.simulator.records(),
            },
            Request::List(List::Hosts) => Reply::Hosts {
                hosts: self.simulator.hosts(),
            },
        })
    }
}
