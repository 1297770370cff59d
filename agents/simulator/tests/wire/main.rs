//! A node's side and simulated hosts over the real wire: what is delivered once, what is
//! repeated, and who is refused.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cloud;
mod delivery;
mod late;
mod network;
mod process;
mod restart;
mod trust;
