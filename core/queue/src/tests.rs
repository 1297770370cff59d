//! The schedules: who goes on is decided by shuttle at each lock, so that what two threads can do
//! to each other is tried out, and not left to chance.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use cairn_types::OperationUuid;
use shuttle::{future::block_on, thread};

use crate::{Entry, Level, QueueError, Queues, Signature};

const SCHEDULES: usize = 500;

fn lane(name: &str) -> Signature {
    Signature::of("lane", name)
}

/// Each of some threads runs `task`, which gets its number; afterwards nobody is in a queue.
fn check(threads: usize, task: fn(&Queues, usize, &AtomicUsize)) {
    shuttle::check_random(
        move || {
            let queues = Queues::default();
            let counter = Arc::new(AtomicUsize::new(0));
            let all: Vec<_> = (0..threads)
                .map(|number| {
                    let (queues, counter) = (queues.clone(), counter.clone());
                    thread::spawn(move || task(&queues, number, &counter))
                })
                .collect();
            for thread in all {
                thread.join().unwrap();
            }
            assert!(queues.is_idle());
        },
        SCHEDULES,
    );
}

#[test]
fn no_two_are_in_a_serial_queue_and_nobody_is_forgotten() {
    check(3, |queues, _, inside| {
        for _ in 0..2 {
            let entry = Entry::new(lane("a"), Level::SERIAL, OperationUuid::generate());
            let slot = block_on(queues.enter(entry).unwrap()).unwrap();
            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
            thread::yield_now();
            inside.fetch_sub(1, Ordering::SeqCst);
            drop(slot);
        }
    });
}

#[test]
fn who_leaves_early_wakes_the_next() {
    check(4, |queues, number, _| {
        let entry = Entry::new(lane("a"), Level::SERIAL, OperationUuid::generate());
        let ticket = queues.enter(entry).unwrap();
        if number % 2 == 0 {
            drop(ticket);
        } else {
            drop(block_on(ticket).unwrap());
        }
    });
}

#[test]
fn a_cancel_and_a_turn_that_meet_end_in_one_of_them() {
    check(3, |queues, number, _| {
        // The first two share an operation, which the third one cancels.
        let operation = OperationUuid(cairn_types::Uuid::from_u128(7));
        if number == 2 {
            queues.cancel(operation);
            return;
        }
        let ticket = queues
            .enter(Entry::new(lane("a"), Level::SERIAL, operation))
            .unwrap();
        match block_on(ticket) {
            Ok(slot) => drop(slot),
            Err(error) => assert_eq!(error, QueueError::Cancelled(operation)),
        }
    });
}

#[test]
fn a_level_that_rises_wakes_those_whom_it_lets_in() {
    check(3, |queues, number, _| {
        if number == 2 {
            queues.set_level(&lane("a"), Level::UNLIMITED);
            return;
        }
        let entry = Entry::new(lane("a"), Level::SERIAL, OperationUuid::generate());
        drop(block_on(queues.enter(entry).unwrap()).unwrap());
    });
}

/// Each has a queue and calls into that of the next: however they meet, one at most is refused,
/// and all end.
#[test]
fn a_circle_that_closes_from_all_sides_is_found() {
    check(3, |queues, number, refused| {
        let names = ["a", "b", "c"];
        let (own, next) = (lane(names[number]), lane(names[(number + 1) % 3]));
        let caller = OperationUuid::generate();
        let slot = block_on(
            queues
                .enter(Entry::new(own.clone(), Level::SERIAL, caller))
                .unwrap(),
        );
        let slot = slot.unwrap();
        let called = Entry::new(next, Level::SERIAL, OperationUuid::generate());
        let called = called.called_by(caller, &[own.to_string()]);
        let outcome = match queues.enter(called) {
            Ok(ticket) => block_on(ticket).map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            assert!(matches!(error, QueueError::Cycle(_)), "{error}");
            assert_eq!(refused.fetch_add(1, Ordering::SeqCst), 0);
        }
        drop(slot);
    });
}
