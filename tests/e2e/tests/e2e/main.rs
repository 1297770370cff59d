//! Whole nodes and agents, from the outside.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod backup_storages;
mod bad_input;
mod cli;
mod crash;
mod dhcp;
mod failures;
mod hosts;
mod image_crash;
mod images;
mod metrics;
mod openssh;
mod security;
mod trace;
mod uploads;
mod vm;
