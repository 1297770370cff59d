//! What may be there of virtual machines and is nobody's: a process that no start here knows of, the
//! folder of one that nobody asks for any more.

use super::{Vms, lock};
use crate::{KvmError, process::Process};
use cairn_types::Uuid;

impl Vms {
    /// Kills a process of a virtual machine, if that number is still one. What the machine has while
    /// it runs goes with its last process, and then also its folder if that is wanted.
    pub(crate) async fn remove_process(
        &self,
        vm: Uuid,
        pid: u32,
        with_folder: bool,
    ) -> Result<(), KvmError> {
        let _turn = self.host.turns.take(vm).await;
        let (host, folder) = (&self.host, self.host.folders.of(vm));
        // It is held before it is looked at: a number may become another's in between.
        if let Some(process) = Process::open(pid)?.filter(|it| it.was_told(&folder.pid())) {
            host.kill(vm, &process).await?;
        }
        if host.find(&folder).await?.is_some() {
            return Ok(());
        }
        host.clear(&folder).await?;
        match with_folder {
            true => folder.remove().await,
            false => Ok(()),
        }
    }

    /// Removes what is kept of a virtual machine that does not run.
    pub(crate) async fn remove_folder(&self, vm: Uuid) -> Result<(), KvmError> {
        let _turn = self.host.turns.take(vm).await;
        let folder = self.host.folders.of(vm);
        if self.host.find(&folder).await?.is_some() {
            return Err(KvmError::Refused(format!("virtual machine {vm} runs")));
        }
        self.host.clear(&folder).await?;
        folder.remove().await
    }

    /// The virtual machine that runs with a tap, if one does.
    pub(crate) fn runs_with(&self, tap: &str) -> Result<Option<Uuid>, KvmError> {
        let running: Vec<_> = lock(&self.host.running).keys().copied().collect();
        for vm in running {
            if self.host.folders.of(vm).taps()?.iter().any(|it| it == tap) {
                return Ok(Some(vm));
            }
        }
        Ok(None)
    }
}
