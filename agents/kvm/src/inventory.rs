//! What of Cairn's runs on this host: looked for among all processes, and not in what the agent
//! noted of those that it started.
//!
//! Another agent of this machine has another state folder, and so its processes are told apart by
//! what they were told of files in it.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use tokio::task::spawn_blocking;

use crate::KvmError;
use cairn_agent_protocol::{DhcpLease, DhcpServer, VmProcess};

/// What runs of this agent's.
#[derive(Debug, Default)]
pub(crate) struct Running {
    pub(crate) vms: Vec<VmProcess>,
    pub(crate) dhcp_servers: Vec<DhcpServer>,
}

/// Looks at all processes. `directory` is the agent's state folder.
pub(crate) async fn running(directory: &Path) -> Result<Running, KvmError> {
    let directory = directory.to_owned();
    let looked = spawn_blocking(move || look(&directory));
    looked
        .await
        .map_err(|stopped| KvmError::file("/proc")(std::io::Error::other(stopped)))?
}

/// The processes that were told this word.
pub(crate) async fn told(word: &str) -> Result<Vec<u32>, KvmError> {
    let word = word.to_owned();
    let looked = spawn_blocking(move || {
        let told = processes()?.into_iter();
        let told = told.filter(|(_, words)| words.contains(&word));
        Ok(told.map(|(pid, _)| pid).collect())
    });
    looked
        .await
        .map_err(|stopped| KvmError::file("/proc")(std::io::Error::other(stopped)))?
}

fn look(directory: &Path) -> Result<Running, KvmError> {
    let mut running = Running::default();
    for (pid, words) in processes()? {
        if let Some(vm) = vm(directory, pid, &words) {
            running.vms.push(vm);
        }
        running.dhcp_servers.extend(dhcp(directory, &words)?);
    }
    Ok(running)
}

/// All processes, and what each was told.
fn processes() -> Result<Vec<(u32, Vec<String>)>, KvmError> {
    let mut processes = Vec::new();
    for entry in fs::read_dir("/proc").map_err(KvmError::file("/proc"))? {
        let name = entry.map_err(KvmError::file("/proc"))?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // One that has ended, also if nobody has asked for its status yet, has no words.
        let path = format!("/proc/{pid}/cmdline");
        processes.push((pid, words(&fs::read(path).unwrap_or_default())));
    }
    Ok(processes)
}

fn words(line: &[u8]) -> Vec<String> {
    let words = line.split(|byte| *byte == 0);
    words
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

/// QEMU is told of its file as `-pidfile <directory>/vms/<uuid>/qemu.pid`.
fn vm(directory: &Path, pid: u32, words: &[String]) -> Option<VmProcess> {
    let flag = words.iter().position(|word| word == "-pidfile")?;
    let file = Path::new(words.get(flag + 1)?);
    let within = file.strip_prefix(directory.join("vms")).ok()?;
    let vm = within.parent()?.to_str()?.parse().ok()?;
    Some(VmProcess { vm, pid })
}

/// dnsmasq is told of its file as `--pid-file=<directory>/dhcp/<bridge>/pid`.
fn dhcp(directory: &Path, words: &[String]) -> Result<Option<DhcpServer>, KvmError> {
    let told = |option: &str| words.iter().find_map(|word| word.strip_prefix(option));
    let file = told("--pid-file=").map(Path::new);
    let within = file.and_then(|file| file.strip_prefix(directory.join("dhcp")).ok());
    let Some(bridge) = within.and_then(|path| path.parent()?.to_str()) else {
        return Ok(None);
    };
    let hosts = told("--dhcp-hostsfile=").map(PathBuf::from);
    let entries = match hosts.map(|path| (fs::read_to_string(&path), path)) {
        Some((Ok(text), _)) => entries(&text),
        Some((Err(cause), path)) if cause.kind() != ErrorKind::NotFound => {
            return Err(KvmError::file(path)(cause));
        }
        _ => Vec::new(),
    };
    Ok(Some(DhcpServer {
        bridge: bridge.to_owned(),
        entries,
    }))
}

/// Lines of `<mac>,set:<tag>,<ip>,<host name>`.
fn entries(hosts: &str) -> Vec<DhcpLease> {
    let entry = |line: &str| {
        let [mac, _, ip, host_name] = *line.split(',').collect::<Vec<_>>() else {
            return None;
        };
        Some(DhcpLease {
            mac: mac.to_owned(),
            ip: ip.to_owned(),
            host_name: host_name.to_owned(),
        })
    };
    hosts.lines().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use cairn_types::Uuid;

    use super::*;

    #[test]
    fn a_process_is_known_by_what_it_was_told() {
        let directory = tempfile::tempdir().unwrap();
        let told = |line: &str| {
            let line = line.replace("DIR", directory.path().to_str().unwrap());
            words(line.replace(' ', "\0").as_bytes())
        };
        let uuid = Uuid::from_u128(7);
        let line = format!("qemu-system-x86_64 -uuid {uuid} -pidfile DIR/vms/{uuid}/qemu.pid");
        let found = vm(directory.path(), 42, &told(&line));
        assert_eq!(found, Some(VmProcess { vm: uuid, pid: 42 }));
        for other in [
            "",
            "qemu-system-x86_64 -pidfile",
            "qemu-system-x86_64 -pidfile /elsewhere/vms/00000000-0000-0000-0000-000000000007/qemu.pid",
            "qemu-system-x86_64 -pidfile DIR/vms/seven/qemu.pid",
        ] {
            assert_eq!(vm(directory.path(), 42, &told(other)), None, "{other}");
        }

        let folder = directory.path().join("dhcp/br_eth0");
        fs::create_dir_all(&folder).unwrap();
        let line =
            "dnsmasq --pid-file=DIR/dhcp/br_eth0/pid --dhcp-hostsfile=DIR/dhcp/br_eth0/hosts";
        let server = || dhcp(directory.path(), &told(line)).unwrap().unwrap();
        assert_eq!(server().bridge, "br_eth0");
        assert!(server().entries.is_empty());
        fs::write(
            folder.join("hosts"),
            "fa:00:00:00:00:01,set:s0,10.1.0.10,web\n",
        )
        .unwrap();
        let web = DhcpLease {
            mac: "fa:00:00:00:00:01".to_owned(),
            ip: "10.1.0.10".to_owned(),
            host_name: "web".to_owned(),
        };
        assert_eq!(server().entries, [web]);
        let other = told("dnsmasq --pid-file=/run/dnsmasq.pid");
        assert_eq!(dhcp(directory.path(), &other).unwrap(), None);
    }
}
