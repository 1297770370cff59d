//! Watches over hosts: pings them in rounds, connects those that (came) back, and says so when
//! one stops answering.

use std::collections::HashMap;

use cairn_agent::Agents;
use cairn_agent_protocol::Pong;
use cairn_proto::{
    call::Mesh,
    compute::v1alpha1::{Host, HostClient, HostStatus, ReconnectHostRequest},
    event,
    fault::Fault,
};
use cairn_store::{Store, Value};
use cairn_types::{HostUuid, Uuid, chain};
use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::{sync::mpsc, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tracing::{info, warn};

use super::agent_of;
use crate::{Watch, vm_instance};

/// The task that watches. One for all hosts; what it knows of them dies with it, and the first
/// round finds it out again.
pub(crate) struct Monitor {
    store: Store,
    agents: Agents,
    hosts: HostClient,
    watch: Watch,
    hellos: mpsc::Receiver<(HostUuid, Uuid)>,
    seen: HashMap<HostUuid, Seen>,
    connecting: FuturesUnordered<BoxFuture<'static, Tried>>,
}

#[derive(Default)]
struct Seen {
    failures: u32,
    /// The agent's start that the row was written from.
    connected_to: Option<Uuid>,
    connecting: bool,
}

/// How an attempt to connect ended.
struct Tried {
    host: HostUuid,
    incarnation: Uuid,
    connected: Result<(), Status>,
}

/// What a ping found out.
struct Found {
    host: HostUuid,
    status: HostStatus,
    pong: Option<Pong>,
}

impl Monitor {
    pub(super) fn new(
        store: Store,
        agents: Agents,
        mesh: Mesh,
        watch: Watch,
        hellos: mpsc::Receiver<(HostUuid, Uuid)>,
    ) -> Self {
        let (hosts, seen) = (HostClient::new(mesh), HashMap::new());
        Self {
            store,
            agents,
            hosts,
            watch,
            hellos,
            seen,
            connecting: FuturesUnordered::new(),
        }
    }

    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut rounds = tokio::time::interval(self.watch.interval);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let work = async {
            loop {
                tokio::select! {
                    _ = rounds.tick() => self.round().await,
                    Some((host, incarnation)) = self.hellos.recv() => self.connect(host, incarnation),
                    Some(tried) = self.connecting.next() => self.tried(tried),
                }
            }
        };
        stop.run_until_cancelled(work).await;
    }

    async fn round(&mut self) {
        // A host whose agent never enrolled cannot answer.
        let enrolled = "certificate_fingerprint <> ''";
        let hosts = match self.store.list::<Host>(enrolled, vec![]).await {
            Ok(hosts) => hosts,
            Err(error) => {
                warn!(error = %chain(&error), "list hosts to ping");
                return;
            }
        };
        let pings = hosts.iter().filter_map(|row| {
            let (host, address) = agent_of(row)?;
            self.agents.set_address(host, address);
            let (agents, status) = (self.agents.clone(), row.status());
            Some(async move {
                Found {
                    host,
                    status,
                    pong: agents.ping(host).await.ok(),
                }
            })
        });
        let pings: Vec<_> = pings.collect();
        let found: Vec<_> = futures::stream::iter(pings)
            .buffer_unordered(self.watch.at_once)
            .collect()
            .await;
        self.seen
            .retain(|host, _| found.iter().any(|found| found.host == *host));

        for Found { host, status, pong } in found {
            let seen = self.seen.entry(host).or_default();
            match pong {
                Some(Pong {
                    agent_incarnation, ..
                }) => {
                    seen.failures = 0;
                    let same = seen.connected_to == Some(agent_incarnation);
                    if !same || status != HostStatus::Connected {
                        self.connect(host, agent_incarnation);
                    }
                }
                None => {
                    seen.failures += 1;
                    if seen.failures >= self.watch.failures && status == HostStatus::Connected {
                        lost(&self.store, host).await;
                    }
                }
            }
        }
    }

    /// Connects to an agent's start, unless that is under way.
    fn connect(&mut self, host: HostUuid, incarnation: Uuid) {
        let seen = self.seen.entry(host).or_default();
        if std::mem::replace(&mut seen.connecting, true) {
            return;
        }
        let hosts = self.hosts.clone();
        self.connecting.push(Box::pin(async move {
            let request = ReconnectHostRequest {
                uuid: host.to_string(),
            };
            let connected = match hosts.reconnect_host(request).await {
                Ok(events) => event::result(events).await.map(|_| ()),
                Err(refused) => Err(refused),
            };
            Tried {
                host,
                incarnation,
                connected,
            }
        }));
    }

    fn tried(
        &mut self,
        Tried {
            host,
            incarnation,
            connected,
        }: Tried,
    ) {
        let seen = self.seen.entry(host).or_default();
        seen.connecting = false;
        match connected {
            Ok(()) => {
                seen.connected_to = Some(incarnation);
                info!(%host, "connected");
            }
            Err(status) => warn!(%host, error = status.message(), "connect to a host"),
        }
    }
}

async fn lost(store: &Store, host: HostUuid) {
    let written = store
        .write(move |tx| {
            Box::pin(async move {
                let values = vec![Value::from(host.to_string())];
                let lost = "UPDATE host SET status = 'Disconnected' WHERE uuid = ? AND status = 'Connected'";
                if tx.execute(lost, values).await? == 1 {
                    vm_instance::host_lost(tx, &host.to_string()).await?;
                }
                Ok::<_, Fault>(())
            })
        })
        .await;
    match written {
        Ok(()) => warn!(%host, "a host stopped answering"),
        Err(fault) => warn!(%host, error = fault.message, "note that a host is lost"),
    }
}
