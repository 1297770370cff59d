//! Four steps and a hook over a fake world outside, which fail as they are told to.

use super::*;

/// The steps: two that take rows, two that take something outside.
pub(super) const STEPS: [&str; 4] = ["allocate", "prepare", "attach", "record"];

/// What is outside of the database and outlives the process, and what the steps are told to do.
#[derive(Default)]
pub(crate) struct Outside {
    /// What the steps took and did not give back.
    pub(super) live: Mutex<BTreeSet<&'static str>>,
    /// Each effect that took place, by the id that it carried.
    pub(super) effects: Mutex<HashMap<TaskUuid, (&'static str, Direction)>>,
    /// How often a step fails, after its effect.
    pub(super) fails: Mutex<HashMap<(&'static str, Direction), u32>>,
    /// Why steps fail: `AgentFailed`, or that this host cannot be reached.
    pub(super) unreachable: Mutex<Option<&'static str>>,
    pub(super) panics: Mutex<Option<&'static str>>,
    pub(super) skips: Mutex<HashSet<&'static str>>,
    /// The step that goes on only when the operation should give up.
    pub(super) waits: Mutex<Option<&'static str>>,
    pub(super) finish_fails: Mutex<bool>,
    /// The steps that found, when they were rolled back, what the first one provides.
    pub(super) found: Mutex<HashSet<&'static str>>,
    /// The idempotency keys that the steps' calls would carry.
    pub(super) keys: Mutex<Vec<String>>,
}

impl Outside {
    pub(super) fn fail(&self, step: &'static str, direction: Direction, times: u32) {
        self.fails.lock().unwrap().insert((step, direction), times);
    }

    /// Counts down what was asked for by [`Outside::fail`].
    fn is_to_fail(&self, name: &'static str, direction: Direction) -> bool {
        match self.fails.lock().unwrap().get_mut(&(name, direction)) {
            Some(times @ 1..) => {
                *times -= 1;
                true
            }
            _ => false,
        }
    }

    /// Takes place once for each id, as an agent sees to it.
    fn effect(&self, task: TaskUuid, step: &'static str, direction: Direction) {
        if self
            .effects
            .lock()
            .unwrap()
            .insert(task, (step, direction))
            .is_none()
        {
            let mut live = self.live.lock().unwrap();
            match direction {
                Direction::Run => assert!(live.insert(step), "{step} took what it has"),
                Direction::Rollback => drop(live.remove(step)),
            }
        }
    }
}

pub(super) struct Toy {
    pub(super) name: &'static str,
    pub(super) outside: Arc<Outside>,
}

impl Toy {
    fn is_outside(&self) -> bool {
        ["prepare", "attach"].contains(&self.name)
    }

    async fn go(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let key = Context::current().idempotency_key;
        self.outside
            .keys
            .lock()
            .unwrap()
            .push(key.unwrap().to_string());
        if cx.direction() == Direction::Run && self.name != "allocate" {
            assert_eq!(cx.get::<Zone>()?.name, "east", "the bag is whole");
        }
        if cx.direction() == Direction::Rollback && cx.find::<Zone>().is_some() {
            self.outside.found.lock().unwrap().insert(self.name);
        }
        if self.is_outside() {
            self.outside.effect(cx.task(), self.name, cx.direction());
        }
        if *self.outside.waits.lock().unwrap() == Some(self.name) {
            cx.operation().cancelled().await;
        }
        let panics = *self.outside.panics.lock().unwrap();
        assert_ne!(panics, Some(self.name));
        if self.outside.is_to_fail(self.name, cx.direction()) {
            let text = format!("{} fails in {}", self.name, cx.direction().as_str());
            return Err(match *self.outside.unreachable.lock().unwrap() {
                None => Fault::new(ErrorCode::AgentFailed, text),
                Some(host) => Fault::new(ErrorCode::AgentUnreachable, text).on("host", host),
            });
        }
        Ok(if self.is_outside() {
            Outcome::none()
        } else {
            self.rows(cx)
        })
    }

    fn rows(&self, cx: &StepContext<'_>) -> Outcome {
        let (step, operation, direction) = (self.name, cx.operation().uuid(), cx.direction());
        Outcome::rows(move |tx| {
            Box::pin(async move {
                let sql = match direction {
                    Direction::Run => "INSERT INTO taken (operation, step) VALUES (?, ?)",
                    Direction::Rollback => "DELETE FROM taken WHERE operation = ? AND step = ?",
                };
                tx.execute(sql, vec![operation.into(), step.into()]).await?;
                Ok(match (step, direction) {
                    ("allocate", Direction::Run) => Bag::of(&Zone {
                        name: "east".to_owned(),
                        ..Zone::default()
                    }),
                    _ => Bag::new(),
                })
            })
        })
    }
}

#[async_trait]
impl Step for Toy {
    fn name(&self) -> &'static str {
        self.name
    }

    fn needs(&self) -> &'static [&'static str] {
        if self.name == "allocate" {
            &[REQUEST]
        } else {
            &[ZONE]
        }
    }

    fn provides(&self) -> &'static [&'static str] {
        if self.name == "allocate" {
            &[ZONE]
        } else {
            &[]
        }
    }

    fn outside(&self) -> bool {
        self.is_outside()
    }

    fn skip(&self, bag: &Bag) -> bool {
        assert!(self.name == "allocate" || bag.holds(ZONE));
        self.outside.skips.lock().unwrap().contains(self.name)
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        self.go(cx).await
    }

    async fn rollback(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        self.go(cx).await
    }
}

/// A hook that writes a row, which it can write only once.
pub(super) struct Noted {
    pub(super) name: &'static str,
    pub(super) outside: Arc<Outside>,
}

#[async_trait]
impl Hook for Noted {
    async fn write(&self, tx: &mut Tx, end: &End<'_>) -> Result<(), Fault> {
        if self.outside.is_to_fail(self.name, Direction::Run) {
            return Err(Fault::new(ErrorCode::Internal, "the hook fails"));
        }
        let sql = "INSERT INTO taken (operation, step) VALUES (?, ?)";
        let values = vec![end.operation.into(), self.name.into()];
        tx.execute(sql, values).await?;
        Ok(())
    }
}
