//! Simulated hosts behind the agent's real wire: the same listener, certificates, task book and
//! callbacks as every agent's, over virtual machines that are entries in a table.
//!
//! A test holds the [`Simulator`]: it says which commands fail, wait or lose their report, sees
//! every command that ran, and what is left on the hosts.

mod agent;
mod control;
mod dhcp;
mod fault;
mod inventory;
mod pool;
mod record;
mod simulator;
mod state;
mod stray;

pub use control::Control;
pub use dhcp::DhcpState;
pub use fault::{Fault, FaultEffect};
pub use inventory::Strays;
pub use pool::ImageState;
pub use record::{Record, RecordOutcome};
pub use simulator::Simulator;
pub use state::{HostSize, HostState, StateError, VmState};
