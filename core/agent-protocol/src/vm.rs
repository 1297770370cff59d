//! Commands for virtual machines and their volumes. Each is idempotent: what is there already,
//! or gone already, is a success.

use serde::{Deserialize, Serialize};

use cairn_types::Uuid;

/// Makes a volume, empty or as a linked clone: `<pool_path>/volumes/<volume>.qcow2`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateVolume {
    /// The volume.
    pub volume: Uuid,
    /// The folder of the storage pool on the host.
    pub pool_path: String,
    /// Size that the guest sees.
    pub size_bytes: u64,
    /// The file of the cached image that it is a linked clone of.
    pub template: Option<String>,
}

/// A volume on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeFacts {
    /// Where it is on the host.
    pub path: String,
    /// Size that the guest sees.
    pub size_bytes: u64,
}

/// Removes a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteVolume {
    /// The volume.
    pub volume: Uuid,
    /// The folder of the storage pool on the host.
    pub pool_path: String,
}

/// Starts a virtual machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartVm {
    /// The virtual machine.
    pub vm: Uuid,
    /// Its name, for people who look at the host.
    pub name: String,
    /// Virtual CPUs.
    pub cpu_count: u32,
    /// Memory.
    pub memory_bytes: u64,
    /// Its root volume, as [`VolumeFacts::path`] gave it.
    pub root_volume_path: String,
    /// Its network interfaces, in the guest's order.
    pub nics: Vec<NicSpec>,
}

/// A network interface of a virtual machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NicSpec {
    /// The interface.
    pub nic: Uuid,
    /// Its hardware address.
    pub mac: String,
    /// The host's bridge that it is attached to.
    pub bridge: String,
    /// Its address, where the network gives one.
    pub ip: Option<String>,
}

/// A running virtual machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmFacts {
    /// Its process on the host, where it is one.
    pub pid: Option<u32>,
}

/// Stops a virtual machine: asks the guest, then takes its power.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopVm {
    /// The virtual machine.
    pub vm: Uuid,
    /// Time for the guest to shut down; 0 takes its power at once.
    pub grace_secs: u32,
}

/// Restarts a running virtual machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RebootVm {
    /// The virtual machine.
    pub vm: Uuid,
}

/// Removes a virtual machine from the host, running or not. Its volumes stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestroyVm {
    /// The virtual machine.
    pub vm: Uuid,
}
