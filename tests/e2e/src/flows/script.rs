//! What goes wrong in the runs of flows, and where they came by.

use std::{fmt, sync::Mutex};

use async_trait::async_trait;
use cairn_operation::{At, Failpoints, Point, Then};
use cairn_proto::fault::Fault;
use cairn_types::ErrorCode;
use tokio::sync::watch;

/// A place that a run came to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Visit {
    /// The flow.
    pub flow: String,
    /// The step.
    pub step: String,
    /// `run` or `rollback`.
    pub direction: &'static str,
    /// Where in it.
    pub point: Point,
}

/// What is done to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// It stays there, until it is dropped or let go.
    Hold,
    /// The step fails.
    Fail,
    /// The step does the same once more.
    Again,
}

/// What is done to the next run that comes to a place, once.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The place.
    pub at: Visit,
    /// What is done there.
    pub deed: Deed,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Visit {
            step,
            direction,
            point,
            ..
        } = &self.at;
        write!(f, "{:?} {point:?} {step} {direction}", self.deed)
    }
}

/// A script that a test writes anew for each run.
#[derive(Debug, Default)]
pub struct Script {
    rules: Mutex<Vec<Rule>>,
    visits: Mutex<Vec<Visit>>,
    held: watch::Sender<bool>,
    let_go: watch::Sender<bool>,
}

impl Script {
    /// Begins anew.
    pub fn write(&self, rules: Vec<Rule>) {
        *self.rules.lock().unwrap() = rules;
        self.visits.lock().unwrap().clear();
        self.held.send_replace(false);
        self.let_go.send_replace(false);
    }

    /// Where runs came by since the script was written.
    #[must_use]
    pub fn visits(&self) -> Vec<Visit> {
        self.visits.lock().unwrap().clone()
    }

    /// The rules that did not come true.
    #[must_use]
    pub fn open(&self) -> Vec<Rule> {
        self.rules.lock().unwrap().clone()
    }

    /// Waits until a run is held.
    pub async fn held(&self) {
        self.held.subscribe().wait_for(|held| *held).await.unwrap();
    }

    /// Has a run that is held go on.
    pub fn let_go(&self) {
        self.let_go.send_replace(true);
    }
}

#[async_trait]
impl Failpoints for Script {
    async fn at(&self, at: At<'_>) -> Then {
        let visit = Visit {
            flow: at.flow.to_owned(),
            step: at.step.to_owned(),
            direction: at.direction,
            point: at.point,
        };
        let deed = {
            let mut rules = self.rules.lock().unwrap();
            let found = rules.iter().position(|rule| rule.at == visit);
            found.map(|index| rules.remove(index).deed)
        };
        self.visits.lock().unwrap().push(visit);
        match deed {
            None => Then::GoOn,
            Some(Deed::Hold) => {
                self.held.send_replace(true);
                let mut let_go = self.let_go.subscribe();
                // The sender is in `self`.
                let _ = let_go.wait_for(|let_go| *let_go).await;
                Then::GoOn
            }
            Some(Deed::Fail) => Then::Fail(Fault::new(ErrorCode::AgentFailed, "on purpose")),
            Some(Deed::Again) => Then::Again,
        }
    }
}
