//! What a host really has, whatever anybody's books say: for those who compare the two.

use serde::{Deserialize, Serialize};

use crate::DhcpLease;
use cairn_types::Uuid;

/// Looks at everything on the host that Cairn may have made there. It changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakeInventory {
    /// The folders of storage pools to look into; one that is not there has no files.
    pub pools: Vec<String>,
}

/// What a host has. What is not Cairn's, such as another program's bridge, may be among it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostInventory {
    /// The processes that run virtual machines. Two may run the same one, which nobody wants.
    pub vm_processes: Vec<VmProcess>,
    /// The virtual machines that the host keeps something of, running or not.
    pub vm_folders: Vec<Uuid>,
    /// Taps that have the name of one of Cairn's, or are plugged into a bridge.
    pub taps: Vec<Tap>,
    /// All bridges.
    pub bridges: Vec<Bridge>,
    /// Servers that run, of those that Cairn started.
    pub dhcp_servers: Vec<DhcpServer>,
    /// The files of volumes and images in the pools, half made ones among them.
    pub files: Vec<PoolFile>,
}

/// A process that runs a virtual machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmProcess {
    /// The virtual machine.
    pub vm: Uuid,
    /// The process's number.
    pub pid: u32,
}

/// A tap: the host's end of a virtual machine's network interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tap {
    /// Its name; see [`tap_name`].
    pub name: String,
    /// The bridge that it is plugged into.
    pub bridge: Option<String>,
}

/// A bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bridge {
    /// Its name.
    pub name: String,
    /// What is plugged into it, taps apart.
    pub ports: Vec<String>,
    /// Its IPv4 addresses.
    pub addresses: Vec<String>,
}

/// A DHCP server that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DhcpServer {
    /// The bridge that it serves.
    pub bridge: String,
    /// Who gets which address.
    pub entries: Vec<DhcpLease>,
}

/// A file in the folder of volumes or of images of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolFile {
    /// The file.
    pub path: String,
    /// Its size.
    pub size_bytes: u64,
}

/// The name of a network interface's tap: of its uuid the last 12 digits, which are random in
/// every version of uuid in use here. Linux allows 15 characters.
#[must_use]
pub fn tap_name(nic: Uuid) -> String {
    let digits = nic.simple().to_string();
    format!("tap{}", &digits[20..])
}

/// Whether a tap of that name is Cairn's.
#[must_use]
pub fn is_tap_name(name: &str) -> bool {
    let digit = |c: char| matches!(c, '0'..='9' | 'a'..='f');
    name.strip_prefix("tap")
        .is_some_and(|digits| digits.len() == 12 && digits.chars().all(digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tap_is_named_after_its_interface() {
        let nic: Uuid = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        // Golden: hosts have taps of these names.
        assert_eq!(tap_name(nic), "tapb302099a8057");
        assert!(is_tap_name(&tap_name(nic)));
        for other in [
            "tap0",
            "tapb302099a805",
            "tapB302099A8057",
            "tun302099a8057",
        ] {
            assert!(!is_tap_name(other), "{other}");
        }
    }
}
