//! What the host serves by DHCP: one dnsmasq for each bridge that has something to serve.
//!
//! Other hosts serve other virtual machines on the same wire, so a server says nothing to a
//! client that it does not know. Its folder, `dhcp/<bridge>/`, has what was applied last, by which
//! the server is found again after a restart of the agent. dnsmasq keeps root's rights: that folder
//! is the agent's, and nobody else may read it.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    KvmError, inventory,
    network::check_name,
    process::{Process, ProcessId},
    programs::{Programs, SHORT},
};
use cairn_agent_protocol::{ApplyDhcp, Behind, DhcpLease, DhcpSubnet};
use cairn_types::HostUuid;

/// The servers of this host.
#[derive(Debug, Clone)]
pub(crate) struct Dhcp {
    /// Where each bridge has a folder.
    pub(crate) directory: PathBuf,
    /// Revisions are counted anew for a machine that becomes another host.
    pub(crate) host: HostUuid,
    pub(crate) programs: Programs,
}

/// What was applied, as it is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Applied {
    command: ApplyDhcp,
    /// The server; none if nothing is served.
    server: Option<ProcessId>,
    /// The host that this was told as; what was kept before that was noted does not say.
    #[serde(default)]
    host: Option<HostUuid>,
}

/// A network interface, as `ip -json address show` tells of it.
#[derive(Debug, Deserialize)]
struct Link {
    #[serde(rename = "ifname")]
    name: String,
    #[serde(default, rename = "addr_info")]
    addresses: Vec<Address>,
}

#[derive(Debug, Deserialize)]
struct Address {
    local: Option<String>,
}

impl Dhcp {
    /// Serves what the command says, unless a later one was applied. One that adds to what was not
    /// applied is answered so.
    pub(crate) async fn apply(&self, command: ApplyDhcp) -> Result<Option<Behind>, KvmError> {
        check(&command)?;
        let folder = self.directory.join(&command.bridge);
        fs::create_dir_all(&folder).map_err(KvmError::file(&folder))?;
        let before = read(&folder.join("applied.json"))?;
        let told = before
            .as_ref()
            .filter(|it| it.host.is_none_or(|host| host == self.host));
        let (applied, served) = match told {
            Some(Applied { command, .. }) => (command.revision, &*command.subnets),
            None => Default::default(),
        };
        if applied > command.revision {
            return Ok(None);
        }
        let command = match command.whole(applied, served) {
            Ok(whole) => whole,
            Err(behind) => return Ok(Some(behind)),
        };
        let running = match before.as_ref().and_then(|before| before.server.as_ref()) {
            Some(server) => Process::known_as(server)?,
            None => None,
        };
        let old = before.map(|before| before.command.subnets);
        let old = old.unwrap_or_default();
        // Before the addresses go that it is bound to. What changes needs another server: a running
        // one would read its hosts again at a SIGHUP, but dnsmasq 2.86 to 2.90 ends at that if it
        // has answered a host with a tag.
        let running = match running {
            Some(server) if old != command.subnets => {
                server.kill()?;
                server.ended().await?;
                None
            }
            running => running,
        };
        self.set_addresses(&command.bridge, &old, &command.subnets)
            .await?;
        let server = match running {
            _ if command.subnets.is_empty() => None,
            Some(server) => Some(server),
            None => Some(self.start(&folder, &command).await?),
        };
        let applied = Applied {
            command,
            server: server.map(|server| server.id().clone()),
            host: Some(self.host),
        };
        let path = folder.join("applied.json");
        let text = serde_json::to_vec(&applied)
            .map_err(|cause| KvmError::file(&path)(std::io::Error::other(cause)))?;
        write(&path, &text)?;
        Ok(None)
    }

    /// Ends all that is served on a bridge, and forgets it.
    pub(crate) async fn forget(&self, bridge: &str) -> Result<(), KvmError> {
        check_name(bridge)?;
        let folder = self.directory.join(bridge);
        let told = told(&folder);
        for pid in inventory::told(&told).await? {
            // It is held before it is looked at: a number may become another's in between.
            let server = Process::open(pid)?;
            if let Some(server) = server.filter(|server| server.was_told(Path::new(&told))) {
                server.kill()?;
                server.ended().await?;
            }
        }
        let links = self.links().await?;
        let mut links = links.iter().filter(|link| link.name == bridge);
        let is_four = |address: &Address| {
            let local = address.local.as_deref().unwrap_or_default();
            local.parse::<Ipv4Addr>().is_ok()
        };
        if links.any(|link| link.addresses.iter().any(is_four)) {
            let flush = ["-4", "address", "flush", "dev", bridge];
            self.programs.run("ip", &flush, SHORT).await?;
        }
        match fs::remove_dir_all(&folder) {
            Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
                Err(KvmError::file(&folder)(cause))
            }
            _ => Ok(()),
        }
    }

    async fn links(&self) -> Result<Vec<Link>, KvmError> {
        let arguments = ["-json", "address", "show"];
        self.programs.ask("ip", &arguments, SHORT).await
    }

    async fn start(&self, folder: &Path, command: &ApplyDhcp) -> Result<Process, KvmError> {
        let pid_file = folder.join("pid");
        // One that was started and not kept, for the agent ended in between.
        if let Some(stray) = server(&pid_file, folder)? {
            stray.kill()?;
            stray.ended().await?;
        }
        // Every lease follows from the hosts: what is forgotten is found again.
        for stale in ["leases", "pid"].map(|name| folder.join(name)) {
            match fs::remove_file(&stale) {
                Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
                    return Err(KvmError::file(&stale)(cause));
                }
                _ => {}
            }
        }
        write(&folder.join("hosts"), hosts(&command.subnets).as_bytes())?;
        let arguments = arguments(folder, command);
        self.programs.run("dnsmasq", &arguments, SHORT).await?;
        let started = server(&pid_file, folder)?;
        started.ok_or_else(|| {
            let bridge = &command.bridge;
            KvmError::Refused(format!("dnsmasq on {bridge} ended as soon as it had begun"))
        })
    }

    /// Gives the bridge the servers' addresses, and takes away those that it had from us.
    async fn set_addresses(
        &self,
        bridge: &str,
        old: &[DhcpSubnet],
        new: &[DhcpSubnet],
    ) -> Result<(), KvmError> {
        let links = self.links().await?;
        let Some(link) = links.iter().find(|link| link.name == bridge) else {
            return match new.is_empty() {
                true => Ok(()),
                false => Err(KvmError::Refused(format!("there is no bridge {bridge}"))),
            };
        };
        let has = |subnet: &&DhcpSubnet| {
            let mut addresses = link.addresses.iter();
            addresses.any(|address| address.local.as_deref() == Some(&*subnet.address))
        };
        let kept = |subnet: &&DhcpSubnet| new.iter().any(|it| it.address == subnet.address);
        let gone = old.iter().filter(has).filter(|subnet| !kept(subnet));
        let missing = new.iter().filter(|subnet| !has(subnet));
        let changes = gone
            .map(|it| ("delete", it))
            .chain(missing.map(|it| ("add", it)));
        for (action, subnet) in changes {
            let address = format!("{}/{}", subnet.address, subnet.prefix_length);
            let arguments = ["address", action, &address, "dev", bridge];
            self.programs.run("ip", &arguments, SHORT).await?;
        }
        Ok(())
    }
}

/// For `--dhcp-hostsfile`.
fn hosts(subnets: &[DhcpSubnet]) -> String {
    let mut text = String::new();
    for (number, subnet) in subnets.iter().enumerate() {
        for DhcpLease { mac, ip, host_name } in &subnet.leases {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{mac},set:s{number},{ip},{host_name}");
        }
    }
    text
}

fn arguments(folder: &Path, command: &ApplyDhcp) -> Vec<String> {
    let path = |name: &str| folder.join(name).display().to_string();
    let dns = command.subnets.iter().any(|subnet| !subnet.dns.is_empty());
    let mut arguments = vec![
        "--conf-file=/dev/null".to_owned(),
        // Clients are told of name servers; this is none.
        "--port=0".to_owned(),
        "--user=root".to_owned(),
        format!("--interface={}", command.bridge),
        "--except-interface=lo".to_owned(),
        "--bind-interfaces".to_owned(),
        format!("--pid-file={}", path("pid")),
        format!("--dhcp-leasefile={}", path("leases")),
        format!("--dhcp-hostsfile={}", path("hosts")),
        "--dhcp-authoritative".to_owned(),
        "--dhcp-ignore=tag:!known".to_owned(),
    ];
    if !dns {
        // Otherwise clients are told the server's own address.
        arguments.push("--dhcp-option=option:dns-server".to_owned());
    }
    let mut ranges = BTreeSet::new();
    for (number, subnet) in command.subnets.iter().enumerate() {
        let address = subnet.address.parse::<Ipv4Addr>().map_or(0, u32::from);
        let mask = u32::MAX << (32 - subnet.prefix_length);
        let (network, mask) = (Ipv4Addr::from(address & mask), Ipv4Addr::from(mask));
        ranges.insert(format!("--dhcp-range={network},static,{mask},12h"));
        let mut option = |name: &str, value: &str| {
            arguments.push(format!("--dhcp-option=tag:s{number},option:{name},{value}"));
        };
        option("router", &subnet.gateway);
        if let Some(domain) = &subnet.domain_name {
            option("domain-name", domain);
        }
        if !subnet.dns.is_empty() {
            option("dns-server", &subnet.dns.join(","));
        }
    }
    arguments.extend(ranges);
    arguments
}

/// Refuses what would mean something else to a program, or in its file.
fn check(command: &ApplyDhcp) -> Result<(), KvmError> {
    check_name(&command.bridge)?;
    let refuse = |what: &str, text: &str| {
        let text = format!("`{text}` is no {what}");
        Err(KvmError::Invalid(text))
    };
    let label = |text: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        (1..=63).contains(&text.len()) && text.chars().all(plain) && !text.starts_with('-')
    };
    for subnet in &command.subnets {
        if !(1..=30).contains(&subnet.prefix_length) {
            return refuse("length of a prefix", &subnet.prefix_length.to_string());
        }
        if let Some(domain) = subnet.domain_name.as_deref()
            && !domain.split('.').all(label)
        {
            return refuse("domain", domain);
        }
        let own = [&subnet.address, &subnet.gateway].into_iter();
        let leased = subnet.leases.iter().map(|lease| &lease.ip);
        for ip in own.chain(&subnet.dns).chain(leased) {
            if ip.parse::<Ipv4Addr>().is_err() {
                return refuse("IPv4 address", ip);
            }
        }
        for DhcpLease { mac, host_name, .. } in &subnet.leases {
            let pair = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
            if mac.split(':').count() != 6 || !mac.split(':').all(pair) {
                return refuse("hardware address", mac);
            }
            if !label(host_name) {
                return refuse("host name", host_name);
            }
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Option<Applied>, KvmError> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .map_err(|cause| KvmError::Damaged {
                path: path.to_owned(),
                cause,
            }),
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(KvmError::file(path)(cause)),
    }
}

/// The server that a file has the number of, if it is ours.
fn server(pid_file: &Path, folder: &Path) -> Result<Option<Process>, KvmError> {
    let text = match fs::read_to_string(pid_file) {
        Ok(text) => text,
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(KvmError::file(pid_file)(cause)),
    };
    let Ok(pid) = text.trim().parse() else {
        return Ok(None);
    };
    let told = told(folder);
    let process = Process::open(pid)?;
    Ok(process.filter(|process| process.was_told(Path::new(&told))))
}

/// The word by which a server is known to be that of the bridge with this folder.
fn told(folder: &Path) -> String {
    format!("--pid-file={}", folder.join("pid").display())
}

/// Whole or not at all. Not synced: what the machine forgets when it stops, it serves no longer.
fn write(path: &Path, text: &[u8]) -> Result<(), KvmError> {
    let temporary = path.with_extension("new");
    fs::write(&temporary, text).map_err(KvmError::file(&temporary))?;
    fs::rename(&temporary, path).map_err(KvmError::file(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(leases: &[(&str, &str, &str)]) -> DhcpSubnet {
        let leases = leases.iter().map(|(mac, ip, host_name)| DhcpLease {
            mac: (*mac).to_owned(),
            ip: (*ip).to_owned(),
            host_name: (*host_name).to_owned(),
        });
        DhcpSubnet {
            address: "10.1.0.9".to_owned(),
            prefix_length: 16,
            gateway: "10.1.0.1".to_owned(),
            domain_name: None,
            dns: Vec::new(),
            leases: leases.collect(),
        }
    }

    const WEB: (&str, &str, &str) = ("fa:00:00:00:00:01", "10.1.0.10", "web");
    const DB: (&str, &str, &str) = ("fa:00:00:00:00:02", "10.1.0.11", "db");

    #[test]
    fn dnsmasq_is_told_the_subnet_and_its_clients() {
        let command = ApplyDhcp {
            bridge: "br_eth0".to_owned(),
            revision: 1,
            since: None,
            subnets: vec![subnet(&[WEB, DB])],
        };
        check(&command).unwrap();
        let told = arguments(Path::new("/d"), &command);
        for expected in [
            "--dhcp-range=10.1.0.0,static,255.255.0.0,12h",
            "--dhcp-option=tag:s0,option:router,10.1.0.1",
            "--dhcp-hostsfile=/d/hosts",
        ] {
            assert!(told.iter().any(|it| it == expected), "{expected}: {told:?}");
        }
        let expected =
            "fa:00:00:00:00:01,set:s0,10.1.0.10,web\nfa:00:00:00:00:02,set:s0,10.1.0.11,db\n";
        assert_eq!(hosts(&command.subnets), expected);
    }

    #[test]
    fn what_would_be_read_as_something_else_is_refused() {
        for wrong in [
            ("fa:00:00:00:00:01,ignore", "10.1.0.10", "web"),
            ("fa:00:00:00:00:01", "10.1.0", "web"),
            ("fa:00:00:00:00:01", "10.1.0.10", "web\nfa:00:00:00:00:02"),
            ("fa:00:00:00:00:01", "10.1.0.10", ""),
        ] {
            let command = ApplyDhcp {
                bridge: "br_eth0".to_owned(),
                revision: 1,
                since: None,
                subnets: vec![subnet(&[wrong])],
            };
            let refused = check(&command);
            assert!(matches!(refused, Err(KvmError::Invalid(_))), "{wrong:?}");
        }
    }
}
