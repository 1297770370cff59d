//! Places where a test may hold a run or let it crash. Without a test there is nothing there.

use async_trait::async_trait;
use cairn_proto::fault::Fault;

/// Where in the life of a step of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Point {
    /// Before the commit with the intent to begin the step.
    BeforeIntent,
    /// After that commit, before the step does anything.
    AfterIntent,
    /// After the step did what it does outside of the database, before its outcome is committed.
    AfterEffect,
    /// After the outcome is committed.
    AfterOutcome,
}

/// A place that a run has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct At<'a> {
    /// Where in the step.
    pub point: Point,
    /// The flow's name.
    pub flow: &'a str,
    /// The step's name.
    pub step: &'a str,
    /// `run` or `rollback`.
    pub direction: &'static str,
}

/// What a run does at a place.
#[derive(Debug, Clone, Default)]
pub enum Then {
    /// It goes on.
    #[default]
    GoOn,
    /// The step fails: [`Point::AfterIntent`] before it did anything, [`Point::AfterEffect`] after
    /// that. Elsewhere it goes on.
    Fail(Fault),
    /// At [`Point::AfterEffect`] the step does the same once more, under the same ids, as it would
    /// after a crash. Elsewhere it goes on.
    Again,
}

/// Called at each place; the run goes on when the future ends.
#[async_trait]
pub trait Failpoints: Send + Sync + 'static {
    /// A run has come to `at`.
    async fn at(&self, at: At<'_>) -> Then;
}
