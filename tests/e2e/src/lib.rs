//! What the suites share: a whole cloud in a test. A node over a data directory of its own,
//! simulated hosts behind the agent's real wire, and clients that call through the public door.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says what it expects by failing"
)]

mod cascade;
mod cloud;
mod doctor;
pub mod flows;
mod hold;
mod process;
mod ready;
mod remote;

pub use cascade::{cascade, execute_plan, execute_plan_in, plan, plan_for};
pub use cloud::{Cloud, GONE_HOST, Site, create_host, enroll_host, host_in};
pub use doctor::{assert_sound, examine};
pub use hold::HoldAt;
pub use process::{Held, HeldHost, HeldNode, HeldProgram, own_addresses};
pub use ready::{IMAGES, Ready, Recipe, VM_MEMORY, backup_storage, backup_storage_request, qcow2};
pub use remote::{Access, remote};
