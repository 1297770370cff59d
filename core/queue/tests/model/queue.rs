//! One queue beside another: levels that change, priorities, accounts, bounds, cancels.

use std::{collections::HashMap, num::NonZeroU32, pin::pin, task::Poll};

use cairn_queue::{Entry, Level, Priority, QueueError, Queues, Signature, Slot, Ticket};
use cairn_types::{AccountUuid, OperationUuid, Uuid};
use proptest::prelude::*;

use crate::poll;

#[derive(Debug, Clone)]
enum Action {
    Enter {
        queue: usize,
        level: u32,
        account: u8,
        priority: Priority,
        most: Option<usize>,
    },
    EnterHeld {
        queue: usize,
    },
    SetLevel {
        queue: usize,
        level: u32,
    },
    Leave {
        which: usize,
    },
    Cancel {
        which: usize,
    },
}

fn priority() -> impl Strategy<Value = Priority> {
    prop_oneof![
        1 => Just(Priority::Low),
        4 => Just(Priority::Normal),
        1 => Just(Priority::High),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    let enter = (
        0..2_usize,
        // A queue has one level as a rule.
        prop_oneof![4 => Just(2), 4 => Just(1), 1 => 0..4_u32],
        0..4_u8,
        priority(),
        prop::option::weighted(0.3, 0..4_usize),
    );
    prop_oneof![
        10 => enter.prop_map(|(queue, level, account, priority, most)| Action::Enter {
            queue,
            level,
            account,
            priority,
            most,
        }),
        1 => (0..2_usize).prop_map(|queue| Action::EnterHeld { queue }),
        2 => (0..2_usize, 0..4_u32).prop_map(|(queue, level)| Action::SetLevel { queue, level }),
        8 => any::<usize>().prop_map(|which| Action::Leave { which }),
        1 => any::<usize>().prop_map(|which| Action::Cancel { which }),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waits,
    Runs,
    /// It runs, and should end.
    Told,
    Refused,
}

#[derive(Debug, Clone)]
struct Task {
    operation: OperationUuid,
    /// Less goes first: how urgent, its account's turn, when it came.
    order: (u8, u64, u64),
    state: State,
}

/// What a queue should do, said as simply as possible.
#[derive(Debug, Clone, Default)]
struct Model {
    level: u32,
    tasks: Vec<Task>,
    came: u64,
    /// By urgency: the turn of the last that started, and the last turn that was given.
    clock: [u64; 4],
    last: [u64; 4],
    next: HashMap<(u8, u8), u64>,
}

impl Model {
    fn of(&self, state: State) -> usize {
        self.tasks.iter().filter(|task| task.state == state).count()
    }

    fn running(&self) -> usize {
        self.of(State::Runs) + self.of(State::Told)
    }

    fn has_room(&self) -> bool {
        self.level == 0 || self.running() < self.level as usize
    }

    fn start(&mut self, index: usize) {
        let task = &mut self.tasks[index];
        task.state = State::Runs;
        let (class, turn, _) = task.order;
        let clock = &mut self.clock[usize::from(class)];
        *clock = (*clock).max(turn);
    }

    fn admit(&mut self) {
        while self.has_room() {
            let waiting = (0..self.tasks.len()).filter(|i| self.tasks[*i].state == State::Waits);
            let Some(first) = waiting.min_by_key(|i| self.tasks[*i].order) else {
                break;
            };
            self.start(first);
        }
    }

    /// How many wait, if that is too many.
    fn enter(
        &mut self,
        operation: OperationUuid,
        (level, account, priority, most, held): (u32, u8, Priority, Option<usize>, bool),
    ) -> Result<(), usize> {
        let before = self.clone();
        self.level = level;
        self.admit();
        let waits = !held && (self.of(State::Waits) > 0 || !self.has_room());
        if waits && most.is_some_and(|most| self.of(State::Waits) >= most) {
            let waiting = self.of(State::Waits);
            *self = before;
            return Err(waiting);
        }
        let class = match priority {
            Priority::High => 1,
            Priority::Normal => 2,
            Priority::Low => 3,
        };
        let at = usize::from(class);
        let turn = if self.level > 1 {
            let next = self.next.get(&(class, account)).copied().unwrap_or(0);
            let turn = next.max(self.clock[at]);
            self.next.insert((class, account), turn + 1);
            self.last[at] = self.last[at].max(turn);
            turn
        } else {
            self.last[at].max(self.clock[at])
        };
        self.came += 1;
        self.tasks.push(Task {
            operation,
            order: (class, turn, self.came),
            state: State::Waits,
        });
        if !waits {
            self.start(self.tasks.len() - 1);
        }
        Ok(())
    }

    fn leave(&mut self, operation: OperationUuid) {
        self.tasks.retain(|task| task.operation != operation);
        self.admit();
        if self.tasks.is_empty() {
            *self = Self::default();
        }
    }

    fn task(&mut self, operation: OperationUuid) -> &mut Task {
        let mut tasks = self.tasks.iter_mut();
        tasks.find(|task| task.operation == operation).unwrap()
    }

    fn ahead(&mut self, operation: OperationUuid) -> usize {
        let task = self.task(operation).clone();
        if task.state != State::Waits {
            return 0;
        }
        let waiting = self
            .tasks
            .iter()
            .filter(|other| other.state == State::Waits);
        self.running() + waiting.filter(|other| other.order < task.order).count()
    }
}

enum Held {
    Waiting(Ticket),
    Running(Slot),
}

fn level(number: u32) -> Level {
    NonZeroU32::new(number).map_or(Level::UNLIMITED, Level::at_most)
}

fn account(number: u8) -> AccountUuid {
    AccountUuid(Uuid::from_u128(u128::from(number)))
}

proptest! {
    #[test]
    fn it_does_what_the_model_does(actions in prop::collection::vec(action(), 1..120)) {
        let queues = Queues::default();
        let names = [Signature::of("vm", "a"), Signature::of("vm", "b")];
        let mut models = [Model::default(), Model::default()];
        let mut held: Vec<(usize, OperationUuid, Held)> = Vec::new();
        for action in actions {
            match action {
                Action::Enter { queue, level: number, account: of, priority, most } => {
                    let operation = OperationUuid::generate();
                    let entry = Entry::new(names[queue].clone(), level(number), operation)
                        .account(account(of))
                        .priority(priority);
                    let entry = match most {
                        Some(most) => entry.most_waiting(most),
                        None => entry,
                    };
                    let expected = models[queue].enter(operation, (number, of, priority, most, false));
                    match (queues.enter(entry), expected) {
                        (Ok(ticket), Ok(())) => held.push((queue, operation, Held::Waiting(ticket))),
                        (Err(QueueError::Full { waiting, running, .. }), Err(expected)) => {
                            prop_assert_eq!(waiting, expected);
                            prop_assert_eq!(running.len(), models[queue].running());
                        }
                        (entered, expected) => prop_assert!(false, "{entered:?}, not {expected:?}"),
                    }
                }
                Action::EnterHeld { queue } => {
                    let operation = OperationUuid::generate();
                    let entry = Entry::new(names[queue].clone(), Level::SERIAL, operation)
                        .called_by(OperationUuid::generate(), &[names[queue].to_string()]);
                    held.push((queue, operation, Held::Waiting(queues.enter(entry).unwrap())));
                    // Its account is that of the system, which the others are not.
                    let how = (1, u8::MAX, Priority::Normal, None, true);
                    models[queue].enter(operation, how).unwrap();
                }
                Action::SetLevel { queue, level: number } => {
                    queues.set_level(&names[queue], level(number));
                    if !models[queue].tasks.is_empty() {
                        models[queue].level = number;
                        models[queue].admit();
                    }
                }
                Action::Leave { which } if !held.is_empty() => {
                    let (queue, operation, _) = held.remove(which % held.len());
                    models[queue].leave(operation);
                }
                Action::Cancel { which } if !held.is_empty() => {
                    let (queue, operation, _) = held[which % held.len()];
                    let task = models[queue].task(operation);
                    let (new, cancelled) = match task.state {
                        State::Waits => (State::Refused, 1),
                        State::Runs => (State::Told, 1),
                        state => (state, 0),
                    };
                    task.state = new;
                    prop_assert_eq!(queues.cancel(operation), cancelled);
                }
                Action::Leave { .. } | Action::Cancel { .. } => {}
            }
            let mut refused = Vec::new();
            for (queue, operation, place) in &mut held {
                let model = &mut models[*queue];
                let state = model.task(*operation).state;
                if let Held::Waiting(ticket) = place {
                    prop_assert_eq!(ticket.ahead(), model.ahead(*operation));
                    match poll(ticket) {
                        Poll::Ready(Ok(slot)) => *place = Held::Running(slot),
                        Poll::Ready(Err(error)) => {
                            prop_assert_eq!(state, State::Refused);
                            prop_assert_eq!(error, QueueError::Cancelled(*operation));
                            refused.push(*operation);
                            continue;
                        }
                        Poll::Pending => {}
                    }
                }
                match place {
                    Held::Waiting(_) => prop_assert_eq!(state, State::Waits),
                    Held::Running(slot) => {
                        let told = poll(&mut pin!(slot.cancelled())).is_ready();
                        prop_assert_eq!(state, if told { State::Told } else { State::Runs });
                    }
                }
            }
            for operation in refused {
                let at = held.iter().position(|(_, it, _)| *it == operation).unwrap();
                let (queue, ..) = held.remove(at);
                models[queue].leave(operation);
            }
            // What is listed is what the model has, in its order.
            let list = queues.list();
            for (name, model) in names.iter().zip(&models) {
                let view = list.iter().find(|view| view.signature == *name);
                prop_assert_eq!(view.is_some(), !model.tasks.is_empty());
                let Some(view) = view else { continue };
                let mut waiting: Vec<_> = model.tasks.iter().collect();
                waiting.retain(|task| task.state == State::Waits);
                waiting.sort_by_key(|task| task.order);
                let expected: Vec<_> = waiting.iter().map(|task| task.operation).collect();
                let listed: Vec<_> = view.waiting.iter().map(|task| task.operation).collect();
                prop_assert_eq!(listed, expected);
                prop_assert_eq!(view.running.len(), model.running());
                prop_assert_eq!(view.level.get(), model.level);
            }
        }
        held.clear();
        prop_assert!(queues.is_idle(), "idle queues hold memory");
    }

    /// However long the backlogs are that accounts have, they are served alike while they last.
    #[test]
    fn accounts_take_turns(backlogs in prop::collection::vec(1..30_usize, 2..5), level in 2..5_u32) {
        let queues = Queues::default();
        let name = Signature::of("host", "h");
        let mut tickets = Vec::new();
        let mut slots = Vec::new();
        let enter = |of: u8| {
            let entry = Entry::new(name.clone(), self::level(level), OperationUuid::generate());
            queues.enter(entry.account(account(of))).unwrap()
        };
        // Somebody else has the queue at first, so that all wait.
        for _ in 0..level {
            let Poll::Ready(Ok(slot)) = poll(&mut enter(u8::MAX)) else { panic!("it waits") };
            slots.push(slot);
        }
        for (of, backlog) in backlogs.iter().enumerate() {
            tickets.extend((0..*backlog).map(|_| (of, enter(of as u8))));
        }
        let mut served = vec![0_usize; backlogs.len()];
        while !slots.is_empty() {
            drop(slots.remove(0));
            for (of, mut ticket) in std::mem::take(&mut tickets) {
                match poll(&mut ticket) {
                    Poll::Ready(slot) => {
                        served[of] += 1;
                        slots.push(slot.unwrap());
                    }
                    Poll::Pending => tickets.push((of, ticket)),
                }
            }
            let still: Vec<_> = (0..served.len()).filter(|of| served[*of] < backlogs[*of]).collect();
            for (one, other) in still.iter().flat_map(|one| still.iter().map(move |o| (one, o))) {
                prop_assert!(served[*one].abs_diff(served[*other]) <= 1, "{served:?} of {backlogs:?}");
            }
        }
        prop_assert_eq!(served, backlogs);
    }
}
