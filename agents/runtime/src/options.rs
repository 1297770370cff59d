//! How an agent runs.

use std::{path::PathBuf, sync::Arc, time::Duration};

use cairn_agent_protocol::OutcomeReport;
use cairn_tls::Limits;

use crate::Failpoints;

/// Says of a report whether it may leave now. For simulated agents, whose network loses
/// messages: a report that may not leave is kept like one that no node took.
pub type ReportFilter = Arc<dyn Fn(&OutcomeReport) -> bool + Send + Sync>;

/// How an agent runs.
#[derive(Clone)]
pub struct Options {
    /// The state folder; each host has one in it.
    pub dir: PathBuf,
    /// Whether results and tokens are on disk before they count. Without it a restart forgets
    /// both; only for simulated hosts, which lose nothing with them.
    pub durable: bool,
    /// The pause before a report that no node took is sent again; doubled each time.
    pub first_pause: Duration,
    /// The longest such pause.
    pub longest_pause: Duration,
    /// What the listener bears.
    pub limits: Limits,
    /// See [`ReportFilter`].
    pub report_filter: Option<ReportFilter>,
    /// Where a test may hold the agent's tasks.
    pub failpoints: Option<Arc<dyn Failpoints>>,
}

impl Options {
    /// The usual options over a state folder.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            durable: true,
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(10),
            limits: Limits {
                drain: Duration::from_secs(1),
                ..Limits::default()
            },
            report_filter: None,
            failpoints: None,
        }
    }
}
