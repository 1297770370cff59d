//! Steps that are told and timed, and waiting for a state.

use std::time::{Duration, Instant};

use crate::error::XtaskError;

/// The pause between two looks at a state.
const PAUSE: Duration = Duration::from_millis(200);

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Done {
    /// Its result was there.
    There,
    /// It had something to do.
    Made,
}

impl Done {
    /// Whether the step had something to do.
    pub(crate) fn of(made: bool) -> Self {
        match made {
            true => Self::Made,
            false => Self::There,
        }
    }
}

/// The steps of a run so far.
#[derive(Debug)]
pub(crate) struct Steps {
    /// What is said of a step that had nothing to do, and of one that had.
    words: [&'static str; 2],
    done: Vec<(String, Done, Duration)>,
}

impl Steps {
    pub(crate) fn new(words: [&'static str; 2]) -> Self {
        let done = Vec::new();
        Self { words, done }
    }

    /// Does a step, and says so. Whether it had something to do.
    pub(crate) fn run(
        &mut self,
        name: &str,
        step: impl FnOnce() -> Result<Done, XtaskError>,
    ) -> Result<bool, XtaskError> {
        let start = Instant::now();
        let done = step().map_err(|cause| XtaskError::Step {
            step: name.to_owned(),
            cause: Box::new(cause),
        })?;
        let time = start.elapsed();
        let word = self.words[usize::from(done == Done::Made)];
        println!("{name:<32} {word:<6} {:>6.1} s", time.as_secs_f64());
        self.done.push((name.to_owned(), done, time));
        Ok(done == Done::Made)
    }

    /// Whether one of them had something to do.
    pub(crate) fn did_something(&self) -> bool {
        self.done.iter().any(|(_, done, _)| *done == Done::Made)
    }

    /// Sums up.
    pub(crate) fn print(&self) {
        let total: Duration = self.done.iter().map(|(_, _, time)| *time).sum();
        let made = self.done.iter().filter(|(_, done, _)| *done == Done::Made);
        let (made, all) = (made.count(), self.done.len());
        match made {
            0 => println!("\nEverything was there: nothing was to do."),
            _ => println!("\nThe cloud is up: {made} of {all} steps had something to do."),
        }
        println!("It took {:.1} s.", total.as_secs_f64());
    }
}

/// What a look at a state finds.
pub(crate) enum Look<T> {
    /// It is there.
    Is(T),
    /// Not yet, but this.
    Not(String),
}

/// Looks until the state is there.
pub(crate) fn wait_until<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<Look<T>, XtaskError>,
) -> Result<T, XtaskError> {
    let start = Instant::now();
    loop {
        match look()? {
            Look::Is(value) => return Ok(value),
            Look::Not(last) if start.elapsed() > limit => {
                return Err(XtaskError::Late {
                    what: what.to_owned(),
                    limit_secs: limit.as_secs(),
                    last,
                });
            }
            Look::Not(_) => pause(),
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this program has no runtime, and what it waits for is other processes'"
)]
fn pause() {
    std::thread::sleep(PAUSE);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_knows_whether_something_was_to_do() {
        let mut steps = Steps::new(["there", "made"]);
        assert!(!steps.run("a", || Ok(Done::There)).unwrap());
        assert!(!steps.did_something());
        assert!(steps.run("b", || Ok(Done::Made)).unwrap());
        assert!(steps.did_something());
        let failed = steps.run("c", || Err(XtaskError::Refused("no".to_owned())));
        assert_eq!(failed.unwrap_err().to_string(), "step `c`");
    }

    #[test]
    fn a_state_that_does_not_come_is_told_as_it_was_last() {
        let mut looks = 0;
        let look = || {
            looks += 1;
            Ok(match looks {
                2 => Look::Is(looks),
                _ => Look::Not("1".to_owned()),
            })
        };
        assert_eq!(wait_until("it is 2", Duration::MAX, look).unwrap(), 2);
        let never = || Ok(Look::<()>::Not("blue".to_owned()));
        let late = wait_until("it is red", Duration::ZERO, never).unwrap_err();
        let expected = "waited 0 s until it is red; seen last: blue";
        assert_eq!(late.to_string(), expected);
    }
}
