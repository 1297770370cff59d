//! The host's network: bridges, and the taps that virtual machines are plugged into them with.

use serde::Deserialize;

use crate::{
    KvmError,
    programs::{Programs, SHORT},
};
use cairn_agent_protocol::NicSpec;
use cairn_types::Uuid;

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
        check_name(bridge)?;
        let links = self.links().await?;
        let Some(link) = links.iter().find(|link| link.name == bridge) else {
            return Ok(());
        };
        if !link.is("bridge") {
            return Err(KvmError::Refused(format!("{bridge} is no bridge")));
        }
        let mut ports = links.iter().filter(|link| link.is_plugged_into(bridge));
        if let Some(tap) = ports.find(|link| link.is("tun")) {
            let text = format!("a virtual machine is plugged into {bridge}: {}", tap.name);
            return Err(KvmError::Refused(text));
        }
        self.ip(&["link", "delete", "dev", bridge]).await
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

    async fn links(&self) -> Result<Vec<Link>, KvmError> {
        self.programs
            .ask("ip", &["-details", "-json", "address", "show"], SHORT)
            .await
    }

    async fn ip(&self, arguments: &[&str]) -> Result<(), KvmError> {
        self.programs.run("ip", arguments, SHORT).await.map(drop)
    }
}

/// The name of a network interface's tap: of its uuid the last 12 digits, which are random in
/// every version of uuid in use here. Linux allows 15 characters.
pub(crate) fn tap_name(nic: Uuid) -> String {
    let digits = nic.simple().to_string();
    format!("tap{}", &digits[20..])
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
    use super::*;

    #[test]
    fn a_tap_is_named_after_its_interface() {
        let nic: Uuid = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        assert_eq!(tap_name(nic), "tapb302099a8057");
        assert!(check_name(&tap_name(nic)).is_ok());
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
