//! The virtual machines of the host: their folders, their processes, and what becomes of them.
//!
//! A virtual machine is a QEMU in a session of its own. It outlives the agent, which finds it
//! again at its next start by what is in its folder. The folder is there before the first tap or
//! process, and names all of them: of a start that ended with the agent, a stop or a destroy
//! finds what to remove.
//!
//! What is done to a virtual machine takes turns. A start has its turn to the end, even if nobody
//! waits for it any more: a program that is killed half-way may still finish what it was at, and
//! would do so behind the back of the next.

mod folder;
mod strays;
mod turns;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::{Notify, oneshot},
    task::JoinSet,
    time::timeout,
};
use tracing::{info, warn};

use self::{
    folder::{Folder, Folders},
    turns::Turns,
};
use crate::{
    Accelerator, KvmError,
    machine::{self, MachineFiles},
    monitor::Monitor,
    network::Network,
    process::Process,
};
use cairn_agent_protocol::{ConsolePart, ReadConsole, StartVm};
use cairn_types::{Uuid, chain};

/// How long QEMU may take to have a virtual machine run, or tell why not.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long QEMU may take to end when it is told to.
const QUIT_LIMIT: Duration = Duration::from_secs(2);
/// How long the system may take to end a process that is killed.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// How virtual machines are run.
#[derive(Debug, Clone)]
pub(crate) struct Hypervisor {
    pub(crate) qemu: String,
    pub(crate) machine: String,
    pub(crate) accelerator: Accelerator,
}

/// The virtual machines of the host.
pub(crate) struct Vms {
    host: Arc<VmHost>,
    starts: Mutex<JoinSet<()>>,
}

/// What starts and watchers, too, have a part in.
struct VmHost {
    /// For watchers, which must not keep it.
    this: Weak<Self>,
    turns: Turns,
    folders: Folders,
    network: Network,
    hypervisor: Hypervisor,
    running: Running,
    /// Notified when one ended that nobody here was ending.
    ended: Notify,
    watchers: Mutex<JoinSet<()>>,
}

/// Those whose process has not ended, as far as its watcher got.
type Running = Mutex<BTreeMap<Uuid, Process>>;

impl Vms {
    /// Finds the virtual machines that an agent started earlier.
    pub(crate) async fn adopt(
        directory: &Path,
        network: Network,
        hypervisor: Hypervisor,
    ) -> Result<Self, KvmError> {
        let folders = Folders::in_directory(directory)?;
        let host = Arc::new_cyclic(|this| VmHost {
            this: this.clone(),
            turns: Turns::default(),
            folders,
            network,
            hypervisor,
            running: Mutex::default(),
            ended: Notify::new(),
            watchers: Mutex::default(),
        });
        for folder in host.folders.all()? {
            // One that is damaged must not keep the agent from serving the others.
            if let Err(error) = host.adopt(&folder).await {
                warn!(vm = %folder.vm, error = %chain(&error), "adopt");
            }
        }
        Ok(Self {
            host,
            starts: Mutex::default(),
        })
    }

    /// Waits until one has ended by itself.
    pub(crate) async fn ended(&self) {
        self.host.ended.notified().await;
    }

    /// Those that run.
    pub(crate) fn running(&self) -> Vec<Uuid> {
        lock(&self.host.running).keys().copied().collect()
    }

    /// Those that there is a folder of, as the disk has it.
    pub(crate) fn folders(&self) -> Result<Vec<Uuid>, KvmError> {
        let folders = self.host.folders.all()?.into_iter();
        Ok(folders.map(|folder| folder.vm).collect())
    }

    /// Starts a virtual machine; gives its process's number. If this is dropped, the start is
    /// undone.
    pub(crate) async fn start(&self, spec: StartVm) -> Result<u32, KvmError> {
        machine::check(&spec)?;
        let turn = self.host.turns.take(spec.vm).await;
        let (host, (answer, answered)) = (self.host.clone(), oneshot::channel());
        let start = async move {
            let started = host.start(&spec, || answer.is_closed()).await;
            drop(turn);
            let _ = answer.send(started);
        };
        {
            let mut starts = lock(&self.starts);
            while starts.try_join_next().is_some() {}
            starts.spawn(start);
        }
        match answered.await {
            Ok(started) => started,
            Err(_) => Err(KvmError::Refused("a fault in the start".to_owned())),
        }
    }

    /// Stops a virtual machine: asks the guest, then QEMU, then the system.
    pub(crate) async fn stop(&self, vm: Uuid, grace: Duration) -> Result<(), KvmError> {
        let _turn = self.host.turns.take(vm).await;
        let host = &self.host;
        let folder = host.folders.of(vm);
        if let Some(process) = host.find(&folder).await? {
            if !grace.is_zero() {
                ask_to_end(&folder, &process, "system_powerdown", grace).await;
            }
            ask_to_end(&folder, &process, "quit", QUIT_LIMIT).await;
            host.kill(vm, &process).await?;
            info!(%vm, "stopped");
        }
        host.clear(&folder).await
    }

    /// Restarts the guest of a running virtual machine; its process stays.
    pub(crate) async fn reboot(&self, vm: Uuid) -> Result<(), KvmError> {
        let _turn = self.host.turns.take(vm).await;
        let folder = self.host.folders.of(vm);
        if self.host.find(&folder).await?.is_none() {
            return Err(KvmError::NotRunning(vm));
        }
        Monitor::tell(&folder.monitor(), "system_reset").await
    }

    /// Removes a virtual machine with all that it has here but its volumes.
    pub(crate) async fn destroy(&self, vm: Uuid) -> Result<(), KvmError> {
        let _turn = self.host.turns.take(vm).await;
        self.host.undo(&self.host.folders.of(vm), true).await
    }

    /// A part of what a virtual machine wrote to its serial console, which takes no turn: it is
    /// read while the machine starts or stops, too. None where it never ran.
    pub(crate) async fn read_console(
        &self,
        command: &ReadConsole,
    ) -> Result<Option<ConsolePart>, KvmError> {
        self.host.folders.of(command.vm).read_console(command).await
    }
}

impl VmHost {
    /// Takes over what an agent before this one left of a virtual machine.
    async fn adopt(&self, folder: &Folder) -> Result<(), KvmError> {
        if let Some(process) = self.find(folder).await? {
            info!(vm = %folder.vm, pid = process.id().pid, "adopted");
        } else if folder.knew_process()? {
            info!(vm = %folder.vm, "ended while no agent ran");
            self.clear(folder).await?;
        }
        // Of a start that was cut short the process may be about to come: nothing is cleared.
        Ok(())
    }

    /// `is_abandoned` says whether nobody waits for the start any more.
    async fn start(
        &self,
        spec: &StartVm,
        is_abandoned: impl Fn() -> bool,
    ) -> Result<u32, KvmError> {
        let folder = self.folders.of(spec.vm);
        if let Some(process) = self.find(&folder).await? {
            return Ok(process.id().pid);
        }
        let new = !folder.exists()?;
        let launched = async {
            // What is left of a run that nobody stopped.
            self.clear(&folder).await?;
            folder.write_spec(spec).await?;
            let process = self.launch(&folder, spec).await?;
            match is_abandoned() {
                false => Ok(process),
                true => Err(KvmError::Refused("it came too late".to_owned())),
            }
        };
        match launched.await {
            Ok(process) => {
                let pid = process.id().pid;
                info!(vm = %spec.vm, pid, "started");
                Ok(pid)
            }
            Err(error) => {
                if let Err(left) = self.undo(&folder, new).await {
                    warn!(vm = %spec.vm, error = %chain(&left), "undo a failed start");
                }
                Err(error)
            }
        }
    }

    /// The virtual machine's process, if it runs; from then on it is watched.
    async fn find(&self, folder: &Folder) -> Result<Option<Process>, KvmError> {
        let watched = lock(&self.running).get(&folder.vm).cloned();
        if let Some(process) = watched {
            if Process::known_as(process.id())?.is_some() {
                return Ok(Some(process));
            }
            // Its watcher has not been told yet.
            forget(&self.running, folder.vm, &process);
        }
        let found = folder.process().await?;
        if let Some(process) = &found {
            self.watch(folder.vm, process.clone());
        }
        Ok(found)
    }

    async fn launch(&self, folder: &Folder, spec: &StartVm) -> Result<Process, KvmError> {
        for nic in &spec.nics {
            self.network.add_tap(nic).await?;
        }
        let (console, monitor, pid) = (folder.console(), folder.monitor(), folder.pid());
        let files = MachineFiles {
            console: &console,
            monitor: &monitor,
            pid: &pid,
        };
        let Hypervisor {
            qemu,
            machine,
            accelerator,
        } = &self.hypervisor;
        let words = machine::arguments(spec, machine, *accelerator, &files);
        self.network.programs.run(qemu, &words, START_LIMIT).await?;
        let process = self.find(folder).await?;
        process.ok_or_else(|| KvmError::Refused(format!("{qemu} ended at once")))
    }

    /// Watches a process, so that its end is known without a question.
    fn watch(&self, vm: Uuid, process: Process) {
        lock(&self.running).insert(vm, process.clone());
        let this = self.this.clone();
        let mut watchers = lock(&self.watchers);
        while watchers.try_join_next().is_some() {}
        watchers.spawn(async move {
            let ended = process.ended().await;
            let Some(host) = this.upgrade() else { return };
            let seen_to = match ended {
                Ok(()) => host.see_to_end(vm, &process).await,
                Err(error) => Err(error),
            };
            if let Err(error) = seen_to {
                warn!(%vm, error = %chain(&error), "watch a virtual machine");
            }
        });
    }

    /// A process ended. Unless a stop is behind it, what it had goes too: a tap that stayed would
    /// hold its bridge.
    async fn see_to_end(&self, vm: Uuid, process: &Process) -> Result<(), KvmError> {
        if !forget(&self.running, vm, process) {
            return Ok(());
        }
        self.ended.notify_one();
        let _turn = self.turns.take(vm).await;
        let folder = self.folders.of(vm);
        // It may have been stopped, destroyed or started again before this turn came.
        if lock(&self.running).contains_key(&vm) || !folder.knew_process()? {
            return Ok(());
        }
        info!(%vm, pid = process.id().pid, "ended by itself");
        self.clear(&folder).await
    }

    async fn kill(&self, vm: Uuid, process: &Process) -> Result<(), KvmError> {
        process.kill()?;
        match timeout(KILL_LIMIT, process.ended()).await {
            Ok(ended) => ended?,
            Err(_) => {
                return Err(KvmError::TimedOut {
                    what: format!("the end of process {}, which was killed", process.id().pid),
                    limit: KILL_LIMIT,
                });
            }
        }
        forget(&self.running, vm, process);
        Ok(())
    }

    /// Ends what a start that failed or was cut short may have left, and removes it.
    async fn undo(&self, folder: &Folder, with_folder: bool) -> Result<(), KvmError> {
        if let Some(process) = self.find(folder).await? {
            self.kill(folder.vm, &process).await?;
        }
        self.clear(folder).await?;
        match with_folder {
            true => folder.remove().await,
            false => Ok(()),
        }
    }

    /// Removes what a virtual machine has only while it runs. Its process must have ended.
    async fn clear(&self, folder: &Folder) -> Result<(), KvmError> {
        self.network.remove_taps(&folder.taps()?).await?;
        folder.clear()
    }
}

/// Has the process end by a word to its monitor. That it does not is no failure: something
/// stronger follows.
async fn ask_to_end(folder: &Folder, process: &Process, command: &'static str, limit: Duration) {
    if let Ok(None) = Process::known_as(process.id()) {
        return;
    }
    match Monitor::tell(&folder.monitor(), command).await {
        Ok(()) => {
            if timeout(limit, process.ended()).await.is_err() {
                info!(vm = %folder.vm, command, "no effect");
            }
        }
        Err(error) => {
            let error = chain(&error);
            info!(vm = %folder.vm, command, error, "the monitor does not take a command");
        }
    }
}

/// Takes a process that ended from the list; says whether it was there.
fn forget(running: &Running, vm: Uuid, process: &Process) -> bool {
    let mut running = lock(running);
    let there = running.get(&vm).map(Process::id) == Some(process.id());
    if there {
        running.remove(&vm);
    }
    there
}

/// What a panic left behind is whole: each change under these locks is one call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
