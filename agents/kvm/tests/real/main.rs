//! The agent with real QEMU, bridges and files: a host in a network namespace of its own.
//!
//! Guests are emulated, so these tests need no KVM; they need root.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod bed;
mod dhcp;
mod failure;
mod inventory;
mod life;
mod program;
