//! Processes that outlive us: known again by number, time of start and boot, and found by what
//! they were told.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    command::{command, hear},
    error::XtaskError,
};

use super::steps::{Look, wait_until};

/// How long the system may take to end a process that is killed.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// What tells a process from every other one of this machine, ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// In ticks since the boot, as in `/proc/<pid>/stat`.
    started_at: u64,
    boot_id: String,
}

impl Process {
    /// The process with that number, if it runs.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(Self {
            pid,
            started_at: parse_stat(&stat)?,
            boot_id: boot_id.trim().to_owned(),
        })
    }

    pub(crate) fn runs(&self) -> bool {
        Self::of(self.pid).as_ref() == Some(self)
    }

    /// Whether it runs this very file, not one that was there under the same name.
    pub(crate) fn is_of(&self, program: &Path) -> bool {
        let of = |path: &Path| fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
        let runs = of(Path::new(&format!("/proc/{}/exe", self.pid)));
        runs.is_some() && runs == of(program)
    }

    /// Its command line.
    pub(crate) fn words(&self) -> Vec<String> {
        let line = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        let words = line.split(|byte| *byte == 0);
        let mut words: Vec<_> = words
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect();
        words.pop();
        words
    }

    /// Whether one of its sockets listens on this port of IPv4.
    pub(crate) fn listens_on(&self, port: u16) -> bool {
        let table = fs::read_to_string(format!("/proc/{}/net/tcp", self.pid)).unwrap_or_default();
        let sockets = listening(&table, port);
        let open = fs::read_dir(format!("/proc/{}/fd", self.pid));
        let mut open = open.into_iter().flatten().flatten();
        open.any(|entry| {
            let target = fs::read_link(entry.path()).unwrap_or_default();
            sockets.iter().any(|socket| target.as_os_str() == &**socket)
        })
    }

    /// The name of its program: `cairn-node`.
    pub(crate) fn name(&self) -> String {
        let words = self.words();
        let program = words.first().map_or("", String::as_str);
        program.rsplit('/').next().unwrap_or_default().to_owned()
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        format!("process {} ({})", self.pid, self.name())
    }

    /// Asks it to end, waits, and ends it if it does not.
    pub(crate) fn end(&self, patience: Duration) -> Result<(), XtaskError> {
        let ended = || match self.runs() {
            false => Ok(Look::Is(())),
            true => Ok(Look::Not("it runs".to_owned())),
        };
        let what = format!("{} has ended", self.text());
        if !patience.is_zero() {
            self.signal("-TERM")?;
            if wait_until(&what, patience, ended).is_ok() {
                return Ok(());
            }
        }
        self.signal("-KILL")?;
        wait_until(&what, KILL_LIMIT, ended)
    }

    fn signal(&self, signal: &str) -> Result<(), XtaskError> {
        if !self.runs() {
            return Ok(());
        }
        let told = hear(&mut command("kill", &[signal, &self.pid.to_string()]));
        match told {
            Err(error) if self.runs() => Err(error),
            _ => Ok(()),
        }
    }
}

/// Every process of this machine.
pub(crate) fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(Process::of).collect()
}

/// Those in a network namespace.
pub(crate) fn in_namespace(name: &str) -> Vec<Process> {
    let of = |path: PathBuf| fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    let Some(namespace) = of(Path::new("/run/netns").join(name)) else {
        return Vec::new();
    };
    let mut all = all();
    all.retain(|process| of(format!("/proc/{}/ns/net", process.pid).into()) == Some(namespace));
    all
}

/// The sockets that listen on a port, as the links of open files name them; of proc_pid_net(5)'s
/// `tcp`, where the second field is the local address, the fourth the state, the tenth the socket.
fn listening(table: &str, port: u16) -> Vec<String> {
    let at = format!(":{port:04X}");
    let lines = table.lines().map(|line| line.split_whitespace().collect());
    let found = lines.filter_map(|fields: Vec<&str>| match fields[..] {
        [_, local, _, "0A", _, _, _, _, _, socket, ..] if local.ends_with(&at) => {
            Some(format!("socket:[{socket}]"))
        }
        _ => None,
    });
    found.collect()
}

/// See proc_pid_stat(5): the state is the third field, the start time the 22nd. The second, the
/// name, may have spaces and parentheses in it. None of what has ended and was not asked for its
/// status.
fn parse_stat(stat: &str) -> Option<u64> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
    let state = fields.next()?;
    let started_at = fields.nth(18)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(started_at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_is_read_whatever_the_name() {
        let stat = |name: &str, state: &str| {
            format!("7 ({name}) {state} 1 7 7 0 -1 4194304 1 0 0 0 1 2 0 0 20 0 1 0 4711 9 9 9")
        };
        assert_eq!(parse_stat(&stat("a) R (b", "R")), Some(4711));
        assert_eq!(parse_stat(&stat("node", "Z")), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn a_process_listens_where_it_does_and_nowhere_else() {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(Process::of(std::process::id()).unwrap().listens_on(port));
        let mut other = command("sleep", &["600"]).spawn().unwrap();
        assert!(!Process::of(other.id()).unwrap().listens_on(port));
        other.kill().unwrap();
        other.wait().unwrap();
        let table = "0: 0100007F:1D13 00000000:0000 0A 0:0 00:0 0 0 0 77 1\n\
                     1: 0100007F:1D13 0100007F:9C40 01 0:0 00:0 0 0 0 78 1\n";
        assert_eq!(listening(table, 7443), ["socket:[77]"]);
        assert_eq!(listening(table, 7444), [""; 0]);
    }

    #[test]
    fn a_process_is_known_until_it_ends() {
        let mut child = command("sleep", &["600"]).spawn().unwrap();
        let process = Process::of(child.id()).unwrap();
        assert!(process.runs());
        let other = Process {
            started_at: process.started_at + 1,
            ..process.clone()
        };
        assert!(!other.runs());
        process.end(Duration::from_secs(10)).unwrap();
        assert!(!process.runs());
        child.wait().unwrap();
    }
}
