//! One queue: who runs in it and who waits, in order. Pure state under the lock of its shard.

mod holders;
mod shares;
mod waitlist;

use std::{task::Waker, time::SystemTime};

use cairn_types::{AccountUuid, OperationUuid};

use crate::{Entry, Level, Priority, QueueError};
use holders::Holders;
use shares::Shares;
use waitlist::Waitlist;

/// Those who were resumed, and the three priorities.
const CLASSES: usize = 4;
const RESUMED: u8 = 0;

#[derive(Debug)]
pub(crate) struct Line {
    next: u64,
    level: Level,
    holding: Holders,
    waiting: Waitlist,
    /// Those who waited, until they hear that they were refused.
    refused: Vec<(u64, QueueError)>,
    /// By class; none while accounts share nothing.
    shares: Option<Box<[Shares; CLASSES]>>,
}

/// A place in the order of those who wait: the least goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Turn {
    class: u8,
    tag: u64,
    number: u64,
}

impl Turn {
    pub(crate) fn is_resumed(self) -> bool {
        self.class == RESUMED
    }
}

/// What is known of a task.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) operation: OperationUuid,
    pub(crate) account: AccountUuid,
    pub(crate) priority: Priority,
    /// When it came, and from its start on when that was.
    pub(crate) since: SystemTime,
}

#[derive(Debug)]
struct Waiting {
    task: Task,
    /// None until its ticket is polled.
    waker: Option<Waker>,
}

#[derive(Debug)]
struct Holder {
    task: Task,
    cancel: Cancel,
}

#[derive(Debug)]
enum Cancel {
    Not(Option<Waker>),
    Asked,
}

/// What an entry came to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entered {
    pub(crate) turn: Turn,
    pub(crate) waits: bool,
}

/// Whom to wake once no lock is held: a waker may run code of its own, which may want it.
#[derive(Debug, Default)]
pub(crate) struct Wakers {
    /// One as a rule, which needs no memory.
    first: Option<Waker>,
    more: Vec<Waker>,
}

impl Wakers {
    pub(crate) fn wake(self) {
        self.first
            .into_iter()
            .chain(self.more)
            .for_each(Waker::wake);
    }

    fn add(&mut self, waker: Option<Waker>) {
        match (&self.first, waker) {
            (_, None) => {}
            (None, waker) => self.first = waker,
            (Some(_), Some(waker)) => self.more.push(waker),
        }
    }
}

impl Line {
    pub(crate) fn new(level: Level) -> Self {
        Self {
            next: 0,
            level,
            holding: Holders::None,
            waiting: Waitlist::default(),
            refused: Vec::new(),
            shares: None,
        }
    }

    /// Takes the place that the entry asks for: at once if it may run, else among those who wait.
    ///
    /// # Errors
    /// `Full`; nothing is changed then.
    pub(crate) fn enter(
        &mut self,
        entry: &Entry,
        wakers: &mut Wakers,
    ) -> Result<Entered, QueueError> {
        // Those who wait go first, as far as the level that this one brings lets them.
        let free = entry.level.free(self.holding.len());
        let waits = !entry.held && self.waiting.len() >= free;
        if let Some(most) = entry.most_waiting.filter(|_| waits) {
            let waiting = self.waiting.len() - free;
            if waiting >= most {
                return Err(QueueError::Full {
                    signature: entry.signature.clone(),
                    running: self.holders(),
                    waiting,
                });
            }
        }
        self.set_level(entry.level, wakers);
        let task = Task {
            operation: entry.operation,
            account: entry.account,
            priority: entry.priority,
            since: SystemTime::now(),
        };
        let turn = self.turn(entry);
        if waits {
            self.waiting.insert(turn, Waiting { task, waker: None });
        } else {
            self.start(turn, task);
        }
        Ok(Entered { turn, waits })
    }

    /// How many may run from now on. Those who wait keep their order.
    pub(crate) fn set_level(&mut self, level: Level, wakers: &mut Wakers) {
        if level != self.level {
            self.level = level;
            self.admit(wakers);
        }
    }

    /// Whether that one waits still; then `waker` is woken when it no longer does.
    ///
    /// # Errors
    /// Why it never will run.
    pub(crate) fn waits(&mut self, turn: Turn, waker: &Waker) -> Result<bool, QueueError> {
        if let Some(waiting) = self.waiting.get_mut(turn) {
            keep(&mut waiting.waker, waker);
            return Ok(true);
        }
        let refused = self.refused.iter();
        match refused.clone().find(|(number, _)| *number == turn.number) {
            Some((_, error)) => Err(error.clone()),
            None => Ok(false),
        }
    }

    /// Whether a cancel was asked for of that one, which runs; else `waker` is woken when it is.
    pub(crate) fn is_cancelled(&mut self, turn: Turn, waker: &Waker) -> bool {
        let holder = self.holding.get_mut(turn.number);
        match holder.map(|holder| &mut holder.cancel) {
            Some(Cancel::Not(known)) => {
                keep(known, waker);
                false
            }
            Some(Cancel::Asked) => true,
            None => false,
        }
    }

    /// Takes that one out, and lets those in who may start now.
    pub(crate) fn leave(&mut self, turn: Turn, wakers: &mut Wakers) {
        if self.holding.remove(turn.number) {
            self.admit(wakers);
        } else if self.waiting.remove(turn).is_none() {
            self.refused.retain(|(number, _)| *number != turn.number);
        }
    }

    /// Tells that one, if it waits, that it will not run.
    pub(crate) fn refuse(&mut self, turn: Turn, error: QueueError, wakers: &mut Wakers) {
        if let Some(waiting) = self.waiting.remove(turn) {
            self.refused.push((turn.number, error));
            wakers.add(waiting.waker);
        }
    }

    /// Ends the tasks of an operation: one that waits is refused, one that runs is told. Returns
    /// how many.
    pub(crate) fn cancel(&mut self, operation: OperationUuid, wakers: &mut Wakers) -> usize {
        let mut cancelled = 0;
        let running = self.holding.iter_mut();
        for holder in running.filter(|holder| holder.task.operation == operation) {
            if let Cancel::Not(waker) = std::mem::replace(&mut holder.cancel, Cancel::Asked) {
                wakers.add(waker);
                cancelled += 1;
            }
        }
        let waiting = self.waiting.iter();
        let its = waiting.filter(|(_, waiting)| waiting.task.operation == operation);
        for turn in its.map(|(turn, _)| turn).collect::<Vec<_>>() {
            self.refuse(turn, QueueError::Cancelled(operation), wakers);
            cancelled += 1;
        }
        cancelled
    }

    /// How many run, or wait before that one; 0 if it does not wait.
    pub(crate) fn ahead(&mut self, turn: Turn) -> usize {
        let before = self.waiting.before(turn);
        before.map_or(0, |before| self.holding.len() + before)
    }

    /// The operations that run, if that one waits for them.
    pub(crate) fn blockers(&mut self, turn: Turn) -> Option<(Level, Vec<OperationUuid>)> {
        self.waiting.get_mut(turn)?;
        Some((self.level, self.holders()))
    }

    pub(crate) fn level(&self) -> Level {
        self.level
    }

    pub(crate) fn running(&self) -> impl Iterator<Item = &Task> {
        self.holding.iter().map(|holder| &holder.task)
    }

    /// In the order in which they will run.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &Task> {
        self.waiting.iter().map(|(_, waiting)| &waiting.task)
    }

    pub(crate) fn holders(&self) -> Vec<OperationUuid> {
        self.running().map(|task| task.operation).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.holding.len() == 0 && self.waiting.is_empty() && self.refused.is_empty()
    }

    fn turn(&mut self, entry: &Entry) -> Turn {
        self.next += 1;
        let class = match entry.priority {
            _ if entry.resumed => RESUMED,
            Priority::High => 1,
            Priority::Normal => 2,
            Priority::Low => 3,
        };
        let is_shared = self.level.is_shared();
        let shares = match &mut self.shares {
            None if !is_shared => None,
            shares => Some(&mut shares.get_or_insert_default()[usize::from(class)]),
        };
        let tag = match shares {
            None => 0,
            Some(shares) if is_shared => shares.tag(entry.account),
            Some(shares) => shares.behind(),
        };
        Turn {
            class,
            tag,
            number: self.next,
        }
    }

    fn admit(&mut self, wakers: &mut Wakers) {
        while self.level.free(self.holding.len()) > 0
            && let Some((turn, Waiting { mut task, waker })) = self.waiting.pop()
        {
            task.since = SystemTime::now();
            self.start(turn, task);
            wakers.add(waker);
        }
    }

    fn start(&mut self, turn: Turn, task: Task) {
        if let Some(shares) = &mut self.shares {
            shares[usize::from(turn.class)].starts(turn.tag);
        }
        let cancel = Cancel::Not(None);
        self.holding.push(turn.number, Holder { task, cancel });
    }
}

fn keep(slot: &mut Option<Waker>, waker: &Waker) {
    if !slot.as_ref().is_some_and(|known| known.will_wake(waker)) {
        *slot = Some(waker.clone());
    }
}
