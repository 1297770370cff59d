//! Watches over hosts: pings them in rounds, and at once when they say that something changed;
//! connects those that came (back), takes over what they say that runs, and says so when one stops
//! answering.

use std::collections::HashMap;

use cairn_agent::Agents;
use cairn_agent_protocol::Pong;
use cairn_proto::{
    call::Mesh,
    compute::v1alpha1::{Host, HostClient, HostStatus, ReconnectHostRequest},
    event,
    fault::Fault,
};
use cairn_resource::now;
use cairn_store::{Store, Value};
use cairn_types::{HostUuid, Uuid, chain};
use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use prost_types::Timestamp;
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
    heard: mpsc::Receiver<Heard>,
    seen: HashMap<HostUuid, Seen>,
    connecting: FuturesUnordered<BoxFuture<'static, Tried>>,
    /// Outside of the rounds.
    pinging: FuturesUnordered<BoxFuture<'static, Option<Found>>>,
}

/// What an agent said at the callback door.
pub(super) enum Heard {
    /// That it started, and which start that is.
    Hello(HostUuid, Uuid),
    /// That something changed on its host.
    Changed(HostUuid),
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
    /// As in the row, when the host was asked.
    status: HostStatus,
    boot_id: String,
    asked: Timestamp,
    pong: Option<Pong>,
}

impl Monitor {
    pub(super) fn new(
        store: Store,
        agents: Agents,
        mesh: Mesh,
        watch: Watch,
        heard: mpsc::Receiver<Heard>,
    ) -> Self {
        let (hosts, seen) = (HostClient::new(mesh), HashMap::new());
        Self {
            store,
            agents,
            hosts,
            watch,
            heard,
            seen,
            connecting: FuturesUnordered::new(),
            pinging: FuturesUnordered::new(),
        }
    }

    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut rounds = tokio::time::interval(self.watch.interval);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let work = async {
            loop {
                tokio::select! {
                    _ = rounds.tick() => self.round().await,
                    Some(heard) = self.heard.recv() => match heard {
                        Heard::Hello(host, incarnation) => self.connect(host, incarnation),
                        Heard::Changed(host) => self.ping_now(host),
                    },
                    Some(tried) = self.connecting.next() => self.tried(tried),
                    Some(found) = self.pinging.next() => {
                        // One that does not answer is a matter of the rounds, which count.
                        if let Some(found) = found.filter(|found| found.pong.is_some()) {
                            self.found(found).await;
                        }
                    }
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
        let pings: Vec<_> = hosts
            .iter()
            .filter_map(|row| ping(&self.agents, row))
            .collect();
        let found: Vec<_> = futures::stream::iter(pings)
            .buffer_unordered(self.watch.at_once)
            .collect()
            .await;
        self.seen
            .retain(|host, _| found.iter().any(|found| found.host == *host));
        for found in found {
            self.found(found).await;
        }
    }

    fn ping_now(&self, host: HostUuid) {
        let (store, agents) = (self.store.clone(), self.agents.clone());
        self.pinging.push(Box::pin(async move {
            let row = store.get::<Host>(&host.to_string()).await.ok()??;
            Some(ping(&agents, &row)?.await)
        }));
    }

    async fn found(&mut self, found: Found) {
        let (host, status) = (found.host, found.status);
        let seen = self.seen.entry(host).or_default();
        let Some(pong) = found.pong else {
            seen.failures += 1;
            if seen.failures >= self.watch.failures && status == HostStatus::Connected {
                lost(&self.store, host).await;
            }
            return;
        };
        seen.failures = 0;
        let same = seen.connected_to == Some(pong.agent_incarnation)
            && found.boot_id == pong.status.boot_id;
        if !same || status != HostStatus::Connected {
            self.connect(host, pong.agent_incarnation);
        } else if !seen.connecting {
            let running = pong.status.running;
            let told = vm_instance::host_told(&self.store, host, running, found.asked).await;
            if let Err(fault) = told {
                warn!(%host, error = fault.message, "take over what a host says that runs");
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

/// Asks a host what it has; none if it has no usable address.
fn ping(agents: &Agents, row: &Host) -> Option<impl Future<Output = Found> + Send + use<>> {
    let (host, address) = agent_of(row)?;
    agents.set_address(host, address);
    let (agents, status, boot_id) = (agents.clone(), row.status(), row.boot_id.clone());
    Some(async move {
        let asked = now();
        Found {
            host,
            status,
            boot_id,
            asked,
            pong: agents.ping(host).await.ok(),
        }
    })
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
