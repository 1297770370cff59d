//! Programs that stay at a place, to be killed there: they tell the place and go no further.

use std::{
    io::BufRead as _,
    sync::{Arc, Mutex},
    thread,
};

use async_trait::async_trait;
use cairn_agent_runtime::Point;
use cairn_operation::{At, Failpoints, Then};

/// The place where a program is held, if it is told one, in its own words; see [`HoldAt::node`],
/// [`HoldAt::agent`].
#[derive(Debug, Default)]
pub struct HoldAt(Mutex<Option<String>>);

impl HoldAt {
    /// It is held at this place.
    #[must_use]
    pub fn place(place: String) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Some(place))))
    }

    /// It is held at the place that the last line on standard input says. It tells when it knows.
    #[must_use]
    pub fn as_told() -> Arc<Self> {
        let this = Arc::new(Self::default());
        let told = Arc::clone(&this);
        // A read of standard input cannot be interrupted: it does not keep the program.
        thread::spawn(move || {
            for place in std::io::stdin().lock().lines().map_while(Result::ok) {
                *told.0.lock().unwrap() = Some(place.clone());
                println!("{}", serde_json::json!({ "holding": place }));
            }
        });
        this
    }

    /// Where a node is held: `AfterEffect create-vm-instance allocate-nic run`.
    #[must_use]
    pub fn node(at: At<'_>) -> String {
        format!("{:?} {} {} {}", at.point, at.flow, at.step, at.direction)
    }

    /// Where an agent is held: `AfterKept start-vm`.
    #[must_use]
    pub fn agent(point: Point, command: &str) -> String {
        format!("{point:?} {command}")
    }

    async fn hold(&self, place: String) {
        let is_held = self.0.lock().unwrap().as_deref() == Some(&*place);
        if is_held {
            println!("{}", serde_json::json!({ "held": place }));
            std::future::pending::<()>().await;
        }
    }
}

#[async_trait]
impl Failpoints for HoldAt {
    async fn at(&self, at: At<'_>) -> Then {
        self.hold(Self::node(at)).await;
        Then::GoOn
    }
}

#[async_trait]
impl cairn_agent_runtime::Failpoints for HoldAt {
    async fn at(&self, point: Point, command: &'static str) {
        self.hold(Self::agent(point, command)).await;
    }
}
