//! What every agent is: the listener that takes commands, the book of tasks, fencing, and the
//! reports to the nodes. What a command does is the [`Agent`](cairn_agent_protocol::Agent)'s
//! business.
//!
//! One process may serve several hosts on one listener (the simulator serves thousands): the
//! name that a node asks for chooses the host. All of them belong to one cloud.
//!
//! A task is known from its arrival until a node acknowledged its outcome, across restarts. A
//! task that was running when the process ended is gone; the hello of the next process tells
//! the nodes, which send it again.

mod book;
mod door;
mod enrollment;
mod error;
mod failpoint;
mod folder;
mod host;
mod options;
mod report;
mod server;

pub use enrollment::{install, request};
pub use error::RuntimeError;
pub use failpoint::{Failpoints, Point};
pub use options::{Options, ReportFilter};
pub use server::AgentServer;
