//! What nodes and agents say to each other: commands, replies, headers, callbacks. No IO.
//!
//! A node posts a command to `/v1/commands/<name>` and gets 202 at once; when the command has
//! ended, the agent posts an [`OutcomeReport`] to one of the callback addresses that came with
//! it, and keeps the outcome until that is acknowledged. Every command may be sent again: the
//! task's uuid tells a repeat, and each command's effect is idempotent. One that arrives too late
//! to be a repeat does nothing: see [`Moment`].

mod bridge;
mod command;
mod console;
mod dhcp;
mod head;
mod inventory;
mod message;
mod moment;
pub mod path;
mod pool;
mod secret;
mod stray;
mod vm;

pub use bridge::{DeleteBridge, EnsureBridge};
pub use command::{
    Agent, AgentCommand, Command, CommandParseError, Connect, HostFacts, TaskContext,
};
pub use console::{ConsolePart, ReadConsole};
pub use dhcp::{ApplyDhcp, Behind, DhcpLease, DhcpSubnet};
pub use head::{CommandHead, HeadError, header};
pub use inventory::{
    Bridge, DhcpServer, HostInventory, PoolFile, TakeInventory, Tap, VmProcess, is_tap_name,
    tap_name,
};
pub use message::{
    Changed, CommandError, CommandErrorCode, Enrollment, Hello, HostStatus, Outcome, OutcomeReport,
    Pong,
};
pub use moment::{InvalidMoment, Moment};
pub use pool::{CacheImage, DeleteImage, ImageFacts, PoolFacts, PoolSpace, SftpFile};
pub use secret::Secret;
pub use stray::{RemoveStray, Stray};
pub use vm::{
    CreateVolume, DeleteVolume, DestroyVm, NicSpec, RebootVm, StartVm, StopVm, VmFacts, VolumeFacts,
};
