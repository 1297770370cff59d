//! Whole clouds with real hosts: a node and agents in processes of their own, and guests that QEMU
//! emulates, in network namespaces. Root on Debian, as `cargo xtask test` prepares it.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod cloud;
mod guest;
mod host;
mod killed;
mod namespace;
mod story;
