//! Places where a test may hold a task of an agent. Without a test there is nothing there.

use async_trait::async_trait;

/// Where in the life of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Point {
    /// The command has its turn, and has done nothing yet.
    BeforeEffect,
    /// The command did what it does, or failed; nobody knows yet.
    AfterEffect,
    /// The outcome is on disk, if the agent keeps outcomes; no node knows yet.
    AfterKept,
}

/// Called at each place; the task goes on when the future ends. The time limit of a command counts
/// on meanwhile, but for [`Point::AfterKept`].
#[async_trait]
pub trait Failpoints: Send + Sync + 'static {
    /// A task that runs `command` has come to `point`.
    async fn at(&self, point: Point, command: &'static str);
}
