//! The host's network: bridges, and the taps that virtual machines are plugged into them with.

use serde::Deserialize;

use crate::{
    KvmError,
    programs::{Programs, SHORT},
};
use cairn_agent_protocol::{Bridge, NicSpec, Tap, is_tap_name, tap_name};

/// The network of the namespace that the agent works in.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    pub(crate) programs: Programs,
}

/// A network interface, as `ip -details -json address show` tells of it.
#[derive(Debug, Deserialize)]
struct Link {
    #[serde(rename = "ifname")]
    name: String,
    /// The bridge that it is plugged into.
    master: Option<String>,
    #[serde(default, rename = "linkinfo")]
    info: LinkInfo,
    #[serde(default, rename = "addr_info")]
    addresses: Vec<Address>,
}

#[derive(Debug, Default, Deserialize)]
struct LinkInfo {
    #[serde(rename = "info_kind")]
    kind: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Address {
    family: Option<String>,
    scope: Option<String>,
    local: Option<String>,
}

impl Link {
    fn is(&self, kind: &str) -> bool {
        self.info.kind.as_deref() == Some(kind)
    }

    fn is_plugged_into(&self, bridge: &str) -> bool {
        self.master.as_deref() == Some(bridge)
    }
}

impl Network {
    /// Makes a bridge over a physical interface.
    pub(crate) async fn ensure_bridge(
        &self,
        bridge: &str,
        interface: &str,
    ) -> Result<(), KvmError> {
        check_name(bridge)?;
        check_name(interface)?;
        let links = self.links().await?;
        let find = |name: &str| links.iter().find(|link| link.name == name);
        let refuse = |why: String| Err(KvmError::Refused(why));
        let Some(port) = find(interface) else {
            return refuse(format!("there is no interface {interface}"));
        };
        match port.master.as_deref() {
            Some(master) if master != bridge => {
                return refuse(format!("{interface} is plugged into {master} already"));
            }
            Some(_) => {}
            // An interface that is plugged into a bridge no longer answers to its own address:
            // the host, with this agent, could be cut off.
            None => {
                let mut addresses = port.addresses.iter();
                let own = addresses.find(|address| address.scope.as_deref() == Some("global"));
                if let Some(address) = own.and_then(|address| address.local.as_deref()) {
                    return refuse(format!(
                        "{interface} has the address {address}, which a bridge over it would cut \
                         off"
                    ));
                }
            }
        }
        let there = match find(bridge) {
            Some(link) if !link.is("bridge") => {
                return refuse(format!("{bridge} is there and is no bridge"));
            }
            there => there.is_some(),
        };
        let mut ports = links.iter().filter(|link| link.is_plugged_into(bridge));
        if let Some(other) = ports.find(|link| link.name != interface && !link.is("tun")) {
            // Two ways out of one bridge can be a loop.
            return refuse(format!("{bridge} is over {} already", other.name));
        }
        if !there {
            self.ip(&["link", "add", "name", bridge, "type", "bridge"])
                .await?;
        }
        let plugged = async {
            // The host is no party in the guests' networks: they must not give it an address or
            // a route. Passed over where the host has no IPv6.
            let setting = format!("net/ipv6/conf/{bridge}/disable_ipv6=1");
            let sysctl = ["-q", "-e", "-w", &setting];
            self.programs.run("sysctl", &sysctl, SHORT).await?;
            if port.master.is_none() {
                self.ip(&["link", "set", "dev", interface, "master", bridge])
                    .await?;
            }
            self.ip(&["link", "set", "dev", interface, "up"]).await?;
            self.ip(&["link", "set", "dev", bridge, "up"]).await
        };
        let plugged = plugged.await;
        if plugged.is_err() && !there {
            // If this fails too, the first failure is the one to tell.
            let _ = self.ip(&["link", "delete", "dev", bridge]).await;
        }
        plugged
    }

    /// Removes a bridge that no virtual machine is plugged into.
    pub(crate) async fn delete_bridge(&self, bridge: &str) -> Result<(), KvmError> {
        match self.check_unplugged(bridge).await? {
            true => self.ip(&["link", "delete", "dev", bridge]).await,
            false => Ok(()),
        }
    }

    /// Refuses a bridge that a virtual machine is plugged into; says whether there is one.
    pub(crate) async fn check_unplugged(&self, bridge: &str) -> Result<bool, KvmError> {
        check_name(bridge)?;
        let links = self.links().await?;
        let Some(link) = links.iter().find(|link| link.name == bridge) else {
            return Ok(false);
        };
        if !link.is("bridge") {
            return Err(KvmError::Refused(format!("{bridge} is no bridge")));
        }
        let mut ports = links.iter().filter(|link| link.is_plugged_into(bridge));
        match ports.find(|link| link.is("tun")) {
            None => Ok(true),
            Some(tap) => {
                let text = format!("a virtual machine is plugged into {bridge}: {}", tap.name);
                Err(KvmError::Refused(text))
            }
        }
    }

    /// Unplugs an interface from a bridge; one that is not plugged into it is a success.
    pub(crate) async fn unplug(&self, bridge: &str, port: &str) -> Result<(), KvmError> {
        check_name(port)?;
        let links = self.links().await?;
        let mut ports = links.iter().filter(|link| link.is_plugged_into(bridge));
        match ports.find(|link| link.name == port) {
            Some(_) => self.ip(&["link", "set", "dev", port, "nomaster"]).await,
            None => Ok(()),
        }
    }

    /// Removes a tap; none there is a success.
    pub(crate) async fn remove_tap(&self, tap: &str) -> Result<(), KvmError> {
        check_name(tap)?;
        match self.links().await?.iter().find(|link| link.name == tap) {
            Some(link) if !link.is("tun") => Err(KvmError::Refused(format!("{tap} is no tap"))),
            Some(_) => self.ip(&["link", "delete", "dev", tap]).await,
            None => Ok(()),
        }
    }

    /// Makes a network interface's tap and plugs it in.
    pub(crate) async fn add_tap(&self, nic: &NicSpec) -> Result<(), KvmError> {
        let (tap, bridge) = (tap_name(nic.nic), nic.bridge.as_str());
        // A bridge takes the lowest address of its ports for its own, and must keep it while
        // virtual machines come and go: a tap's is higher than any that a vendor gives.
        let address = format!("fe{}", nic.mac.get(2..).unwrap_or_default());
        self.ip(&["tuntap", "add", "dev", &tap, "mode", "tap"])
            .await?;
        let plug = [
            "link", "set", "dev", &tap, "address", &address, "master", bridge, "up",
        ];
        self.ip(&plug).await
    }

    /// Removes taps; those that are not there are a success.
    pub(crate) async fn remove_taps(&self, taps: &[String]) -> Result<(), KvmError> {
        if taps.is_empty() {
            return Ok(());
        }
        let links = self.links().await?;
        for link in links.iter().filter(|link| taps.contains(&link.name)) {
            self.ip(&["link", "delete", "dev", &link.name]).await?;
        }
        Ok(())
    }

    /// The taps and the bridges that are there, whoever made them.
    pub(crate) async fn seen(&self) -> Result<(Vec<Tap>, Vec<Bridge>), KvmError> {
        let links = self.links().await?;
        let taps = links
            .iter()
            .filter(|link| link.is("tun") && (is_tap_name(&link.name) || link.master.is_some()));
        let taps = taps.map(|link| Tap {
            name: link.name.clone(),
            bridge: link.master.clone(),
        });
        let bridges = links.iter().filter(|link| link.is("bridge"));
        let bridges = bridges.map(|bridge| {
            let ports = links
                .iter()
                .filter(|link| link.is_plugged_into(&bridge.name));
            let ports = ports.filter(|link| !link.is("tun"));
            let addresses = bridge.addresses.iter();
            let addresses = addresses.filter(|it| it.family.as_deref() == Some("inet"));
            Bridge {
                name: bridge.name.clone(),
                ports: ports.map(|link| link.name.clone()).collect(),
                addresses: addresses.filter_map(|it| it.local.clone()).collect(),
            }
        });
        Ok((taps.collect(), bridges.collect()))
    }

    async fn links(&self) -> Result<Vec<Link>, KvmError> {
        self.programs
            .ask("ip", &["-details", "-json", "address", "show"], SHORT)
            .await
    }

    async fn ip(&self, arguments: &[&str]) -> Result<(), KvmError> {
        self.programs.run("ip", arguments, SHORT).await.map(drop)
    }
}

/// Whether Linux, and `ip`, take this as the name of an interface and as nothing else.
pub(crate) fn check_name(name: &str) -> Result<(), KvmError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let right = (1..=15).contains(&name.len())
        && name.chars().all(plain)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    match right {
        true => Ok(()),
        false => Err(KvmError::Invalid(format!(
            "`{name}` is no name of a network interface: use 1 to 15 letters, digits, `_`, `-` or \
             `.`, the first a letter or digit"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use cairn_types::Uuid;

    use super::*;

    #[test]
    fn linux_takes_the_name_of_a_tap() {
        assert!(check_name(&tap_name(Uuid::now_v7())).is_ok());
    }

    #[test]
    fn names_that_could_be_something_else_are_refused() {
        for name in ["br0", "br_eth0.100", "a-b", "123456789012345"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in [
            "",
            "-br",
            "..",
            "a b",
            "a/b",
            "1234567890123456",
            "bré",
            "a,b",
        ] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn what_ip_writes_is_understood() {
        let text = r#"[{"ifname": "lo", "addr_info": [{"local": "127.0.0.1", "scope": "host"}]},
            {"ifname": "tap1", "master": "br0", "linkinfo": {"info_kind": "tun"}, "mtu": 1500}]"#;
        let links: Vec<Link> = serde_json::from_str(text).unwrap();
        assert!(links[1].is("tun") && !links[0].is("tun"));
        assert_eq!(links[0].addresses[0].scope.as_deref(), Some("host"));
    }
}
