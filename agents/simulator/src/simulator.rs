//! The handle by which a test holds the simulated hosts.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::mpsc;

use crate::{
    Fault, FaultEffect, HostSize, HostState, Record, RecordOutcome, StateError, fault::Faults,
    record::Records, state::States,
};
use cairn_agent_protocol::{CommandError, TaskContext};
use cairn_agent_runtime::{AgentServer, Options, RuntimeError};
use cairn_types::{HostUuid, Uuid};

/// Simulated hosts. Clones are handles to the same.
#[derive(Debug, Clone, Default)]
pub struct Simulator {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    states: Mutex<States>,
    faults: Mutex<Faults>,
    records: Records,
    changes: Changes,
}

/// Hosts on which something changed by itself, until that is told.
#[derive(Debug)]
struct Changes {
    tell: mpsc::UnboundedSender<HostUuid>,
    told: tokio::sync::Mutex<mpsc::UnboundedReceiver<HostUuid>>,
}

impl Default for Changes {
    fn default() -> Self {
        let (tell, told) = mpsc::unbounded_channel();
        let told = tokio::sync::Mutex::new(told);
        Self { tell, told }
    }
}

impl Simulator {
    /// Hosts that keep what they have in a folder, over restarts of the process.
    ///
    /// # Errors
    /// If the folder is not there, or its content is not a simulator's.
    pub fn kept_in(dir: &Path) -> Result<Self, StateError> {
        let states = Mutex::new(States::load(dir)?);
        Ok(Self {
            inner: Arc::new(Inner {
                states,
                ..Inner::default()
            }),
        })
    }

    /// The agent of these hosts.
    ///
    /// # Errors
    /// If the state folder cannot be read.
    pub fn server(&self, options: Options) -> Result<AgentServer, RuntimeError> {
        let simulator = self.clone();
        let options = Options {
            report_filter: Some(Arc::new(move |report| {
                let inner = &simulator.inner;
                match inner.records.of_task(report.host, report.task) {
                    Some((command, resource)) => {
                        !lock(&inner.faults).loses(command, report.host, resource)
                    }
                    None => true,
                }
            })),
            ..options
        };
        AgentServer::new(Arc::new(self.clone()), options)
    }

    /// Has something go wrong from now on; the number is to release it by.
    pub fn inject(&self, fault: Fault) -> u64 {
        lock(&self.inner.faults).inject(fault)
    }

    /// Ends a fault and lets go what it held; `false` if there is none with that number.
    pub fn release(&self, id: u64) -> bool {
        lock(&self.inner.faults).release(id)
    }

    /// Ends all faults, and lets go what they held.
    pub fn release_all(&self) {
        lock(&self.inner.faults).release_all();
    }

    /// Says how big a host is.
    pub fn set_size(&self, host: HostUuid, size: HostSize) {
        // Without a reply there is nothing that could fail but keeping it, which the next
        // change repeats.
        let _ = lock(&self.inner.states).change(host, |state| {
            state.size = size;
            Ok(())
        });
    }

    /// Changes what a host has behind everybody's back.
    pub fn tamper(&self, host: HostUuid, change: impl FnOnce(&mut HostState)) {
        // As with `set_size`.
        let _ = lock(&self.inner.states).change(host, |state| {
            change(state);
            Ok(())
        });
    }

    /// Has a virtual machine end by itself, as if its process had died; `false` if it does not
    /// run on the host.
    pub fn end_vm(&self, host: HostUuid, vm: Uuid) -> bool {
        let ended = lock(&self.inner.states).change(host, |state| {
            let ran = state.running().contains(&vm);
            state.stop_vm(vm);
            Ok(ran)
        });
        let ended = ended.unwrap_or_default();
        if ended {
            // The other end is in `self`.
            let _ = self.inner.changes.tell.send(host);
        }
        ended
    }

    /// Waits until something changed by itself on a host.
    pub(crate) async fn next_change(&self) -> HostUuid {
        let mut told = self.inner.changes.told.lock().await;
        match told.recv().await {
            Some(host) => host,
            // Not as long as `self` is there.
            None => std::future::pending().await,
        }
    }

    /// What the hosts have.
    #[must_use]
    pub fn hosts(&self) -> Vec<HostState> {
        lock(&self.inner.states).all()
    }

    /// Has the hosts be as they were when [`Simulator::hosts`] told this.
    pub fn restore(&self, hosts: Vec<HostState>) {
        lock(&self.inner.states).restore(hosts);
    }

    /// Every command that began, in that order.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        self.inner.records.all.borrow().clone()
    }

    /// Waits until the records are as `condition` says.
    pub async fn wait_for(&self, mut condition: impl FnMut(&[Record]) -> bool) {
        let mut all = self.inner.records.all.subscribe();
        // It fails only if the sender is gone, which `self` holds.
        let _ = all.wait_for(|all| condition(all)).await;
    }

    pub(crate) fn with_host<R>(&self, host: HostUuid, read: impl FnOnce(&HostState) -> R) -> R {
        read(lock(&self.inner.states).get(host))
    }

    /// Runs a command: recorded, and with the faults that are due to it.
    pub(crate) async fn run<R>(
        &self,
        name: &'static str,
        cx: &TaskContext,
        change: impl FnOnce(&mut HostState) -> Result<R, CommandError>,
    ) -> Result<R, CommandError> {
        let mut running = self.inner.records.start(name, cx);
        let result = self.run_with_faults(name, cx, change).await;
        running.outcome = match &result {
            Ok(_) => RecordOutcome::Ok,
            Err(error) => RecordOutcome::Failed(error.clone()),
        };
        result
    }

    async fn run_with_faults<R>(
        &self,
        name: &'static str,
        cx: &TaskContext,
        change: impl FnOnce(&mut HostState) -> Result<R, CommandError>,
    ) -> Result<R, CommandError> {
        let due = lock(&self.inner.faults).due(name, cx.host, cx.resource);
        let mut after = None;
        for due in due {
            match due.effect {
                FaultEffect::Fail { code, message } => {
                    return Err(CommandError::new(code, message));
                }
                FaultEffect::FailAfter { message } => after = Some(CommandError::failed(message)),
                FaultEffect::DelayMs(ms) => {
                    tokio::time::sleep(std::time::Duration::from_millis(ms)).await;
                }
                FaultEffect::Hold => due.released.cancelled().await,
                FaultEffect::Panic => std::panic::panic_any("a panic on purpose"),
                FaultEffect::LoseReport => {}
            }
        }
        let reply = lock(&self.inner.states).command(cx.host, name, change)?;
        after.map_or(Ok(reply), Err)
    }
}

/// No code panics while it holds one of these locks; if one did, the data would still be whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
