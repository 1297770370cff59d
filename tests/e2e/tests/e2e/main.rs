//! Whole nodes and agents, from the outside.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod bad_input;
mod cli;
mod connection;
mod crash;
mod dhcp;
mod failures;
mod hosts;
mod metrics;
mod security;
mod trace;
mod vm;
