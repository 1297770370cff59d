//! The agent of a host that runs virtual machines: QEMU, Linux bridges and taps, qcow2 files.
//!
//! What it does is in the commands of [`Agent`](cairn_agent_protocol::Agent), which
//! [`KvmAgent`] implements with the programs that every distribution has (`ip`, `qemu-img`,
//! QEMU); how commands arrive and outcomes leave is cairn-agent-runtime's. It keeps no database:
//! what exists on the host is what it finds in its folder, in `/proc` and in the network.
//!
//! A virtual machine does not end with the agent. Whoever supervises the agent must leave its
//! descendants alone (systemd: `KillMode=process`).

mod accelerator;
mod agent;
mod config;
mod dhcp;
mod error;
mod facts;
mod inventory;
mod machine;
mod monitor;
mod network;
mod process;
mod programs;
mod serve;
mod storage;
mod vms;

pub use accelerator::Accelerator;
pub use agent::KvmAgent;
pub use config::{AcceleratorChoice, KvmConfig};
pub use error::KvmError;
pub use serve::{serve, serve_with};
