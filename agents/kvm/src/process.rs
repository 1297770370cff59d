//! A process that is not our child: QEMU outlives the agent that started it.
//!
//! A number does not name a process for long: the system gives it to another one later. So a
//! process is held by a pidfd, and known again after a restart by its number, the time it was
//! started at and the boot in which that was.

use std::{
    fs,
    io::{self, ErrorKind},
    os::fd::OwnedFd,
    path::Path,
    sync::Arc,
};

use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use serde::{Deserialize, Serialize};
use tokio::io::{Interest, unix::AsyncFd};

use crate::KvmError;

/// What tells a process from every other one of this machine, ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    pub(crate) pid: u32,
    /// In ticks since the boot, as in `/proc/<pid>/stat`.
    started_at: u64,
    boot_id: String,
}

/// A process that ran when it was opened. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    id: ProcessId,
    fd: Arc<AsyncFd<OwnedFd>>,
}

impl Process {
    /// The process with that number; none if there is none or it has ended.
    pub(crate) fn open(pid: u32) -> Result<Option<Self>, KvmError> {
        let failed = |cause| KvmError::Process {
            action: "watch",
            pid,
            cause,
        };
        let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
            return Ok(None);
        };
        let fd = match pidfd_open(raw, PidfdFlags::empty()) {
            Ok(fd) => fd,
            Err(Errno::SRCH) => return Ok(None),
            Err(cause) => return Err(failed(cause.into())),
        };
        // Read after the descriptor is there: what ended in between ends the descriptor too.
        let Some(started_at) = started_at(pid).map_err(failed)? else {
            return Ok(None);
        };
        let id = ProcessId {
            pid,
            started_at,
            boot_id: boot_id()?,
        };
        #[expect(
            deprecated,
            reason = "its successor is unsafe, and asks for a descriptor that stays: an OwnedFd's"
        )]
        let fd = AsyncFd::with_interest(fd, Interest::READABLE).map_err(failed)?;
        Ok(Some(Self {
            id,
            fd: Arc::new(fd),
        }))
    }

    /// The process that was known as that; none if it has ended, even if its number lives on.
    pub(crate) fn known_as(id: &ProcessId) -> Result<Option<Self>, KvmError> {
        Ok(Self::open(id.pid)?.filter(|process| process.id == *id))
    }

    pub(crate) fn id(&self) -> &ProcessId {
        &self.id
    }

    /// Whether one of the words on its command line is this one.
    pub(crate) fn was_told(&self, word: &Path) -> bool {
        let line = fs::read(format!("/proc/{}/cmdline", self.id.pid)).unwrap_or_default();
        line.split(|byte| *byte == 0)
            .any(|told| told == word.as_os_str().as_encoded_bytes())
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(&self) -> Result<(), KvmError> {
        // A pidfd is readable from the end of its process on.
        match self.fd.readable().await {
            Ok(_) => Ok(()),
            Err(cause) => Err(KvmError::Process {
                action: "watch",
                pid: self.id.pid,
                cause,
            }),
        }
    }

    /// Ends it at once. One that has ended already is a success.
    pub(crate) fn kill(&self) -> Result<(), KvmError> {
        match pidfd_send_signal(self.fd.get_ref(), Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(cause) => Err(KvmError::Process {
                action: "kill",
                pid: self.id.pid,
                cause: cause.into(),
            }),
        }
    }
}

/// Another one for each boot of the machine.
pub(crate) fn boot_id() -> Result<String, KvmError> {
    let path = "/proc/sys/kernel/random/boot_id";
    let text = fs::read_to_string(path).map_err(KvmError::file(path))?;
    Ok(text.trim().to_owned())
}

/// When the process was started; none if there is none, or nothing is left of it but its status.
fn started_at(pid: u32) -> io::Result<Option<u64>> {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => Ok(parse_stat(&stat)),
        Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(None),
        Err(cause) if cause.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => Ok(None),
        Err(cause) => Err(cause),
    }
}

/// See proc_pid_stat(5): the state is the third field, the start time the 22nd. The second, the
/// name, may have spaces and parentheses in it.
fn parse_stat(stat: &str) -> Option<u64> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
    let state = fields.next()?;
    let started_at = fields.nth(18)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(started_at)
}

#[cfg(test)]
mod tests {
    use std::{process::Command, time::Duration};

    use cairn_testkit::wait_for;

    use super::*;

    #[test]
    fn a_stat_is_read_whatever_the_name() {
        let stat = |name: &str, state: &str| {
            format!("7 ({name}) {state} 1 7 7 0 -1 4194304 1 0 0 0 1 2 0 0 20 0 1 0 4711 9 9 9")
        };
        assert_eq!(parse_stat(&stat("qemu", "S")), Some(4711));
        assert_eq!(parse_stat(&stat("a) R (b", "R")), Some(4711));
        assert_eq!(parse_stat(&stat("qemu", "Z")), None);
        assert_eq!(parse_stat("7 (qemu) S 1"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[tokio::test]
    async fn a_process_is_known_again_until_it_ends() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let process = Process::open(child.id()).unwrap().unwrap();
        // Its start returns a moment before its command line is there.
        let told = async || process.was_told(Path::new("600")).then_some(());
        wait_for("its command line", told, Duration::from_secs(10)).await;
        assert!(!process.was_told(Path::new("60")));
        assert!(Process::known_as(process.id()).unwrap().is_some());
        let reused = ProcessId {
            started_at: process.id.started_at + 1,
            ..process.id.clone()
        };
        assert!(Process::known_as(&reused).unwrap().is_none());

        process.kill().unwrap();
        process.ended().await.unwrap();
        // Nobody has asked for its status yet, so its number is still taken.
        assert!(Process::known_as(process.id()).unwrap().is_none());
        child.wait().unwrap();
        process.ended().await.unwrap();
        process.kill().unwrap();
        assert!(Process::open(child.id()).unwrap().is_none());
    }
}
