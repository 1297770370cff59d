//! The command that removes what nobody says should be there, as an inventory told of it.

use std::fmt;

use serde::{Deserialize, Serialize};

use cairn_types::Uuid;

/// Removes a thing that an inventory told of, and nothing else. One that is not there is a
/// success, so a repeat is too. One that something runs with is a failure, wherever an agent can
/// see that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveStray {
    /// The thing.
    pub stray: Stray,
}

/// A thing that may be on a host without a reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stray {
    /// A process that runs a virtual machine, with its taps: it is killed. Another process of the
    /// same virtual machine is left alone.
    VmProcess {
        /// The virtual machine.
        vm: Uuid,
        /// The process's number.
        pid: u32,
        /// What the host keeps of the virtual machine goes too.
        with_folder: bool,
    },
    /// What a host keeps of a virtual machine that does not run there.
    VmFolder {
        /// The virtual machine.
        vm: Uuid,
    },
    /// A tap of Cairn's that nothing runs with.
    Tap {
        /// Its name.
        name: String,
    },
    /// A bridge that no virtual machine is plugged into, with what is served on it. The interface
    /// below it stays.
    Bridge {
        /// Its name.
        name: String,
    },
    /// An interface that is plugged into a bridge: it is unplugged, and stays.
    BridgePort {
        /// The bridge.
        bridge: String,
        /// The interface.
        port: String,
    },
    /// All that is served on a bridge by DHCP: every server, the addresses of the bridge, and what
    /// the agent remembers of it, so that the next revision is the first.
    Dhcp {
        /// The bridge.
        bridge: String,
    },
    /// A file in the folder of volumes or of images of a pool.
    File {
        /// The file.
        path: String,
    },
}

impl fmt::Display for Stray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::VmProcess { vm, pid, .. } => write!(f, "process {pid} of virtual machine {vm}"),
            Self::VmFolder { vm } => write!(f, "the folder of virtual machine {vm}"),
            Self::Tap { name } => write!(f, "tap {name}"),
            Self::Bridge { name } => write!(f, "bridge {name}"),
            Self::BridgePort { bridge, port } => write!(f, "{port} in bridge {bridge}"),
            Self::Dhcp { bridge } => write!(f, "what is served on bridge {bridge}"),
            Self::File { path } => write!(f, "file {path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_is_written_as_a_newer_agent_reads_it() {
        let vm = Uuid::from_u128(7);
        let process = Stray::VmProcess {
            vm,
            pid: 42,
            with_folder: true,
        };
        let text = serde_json::to_string(&RemoveStray { stray: process }).unwrap();
        // Golden: nodes and agents of other versions write it.
        let expected =
            format!(r#"{{"stray":{{"vm-process":{{"vm":"{vm}","pid":42,"with_folder":true}}}}}}"#);
        assert_eq!(text, expected);
    }
}
