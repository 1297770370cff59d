//! The node's side of talking to agents: commands out, callbacks in.
//!
//! [`Agents::call`] posts a command and waits for the agent's callback; nothing polls. The
//! caller commits what the outcome means and then says so ([`Ack::committed`]); only then does
//! the agent hear that it may forget the outcome. A caller that dies in between gets the outcome
//! again, because its task is sent again under the same uuid. A caller that committed a failure and
//! calls again gets another run.
//!
//! [`Hosts`] is what services use: it finds hosts through the mesh and calls their agents.

mod agents;
mod call;
mod door;
mod error;
mod hosts;
mod pending;
mod seen;

pub use agents::{Agents, Options};
pub use call::{Delivered, Head};
pub use door::{HostRegistry, callback_router};
pub use error::AgentError;
pub use hosts::{AT_ONCE, Hosts, Task, stored_uuid};
pub use pending::Ack;
