//! A million queues came and went: what they took is given back. In a process of its own, for
//! it is the process that is measured.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by failing")]

use cairn_queue::{Entry, Level, Queues, Signature};
use cairn_types::OperationUuid;

const QUEUES: usize = 1_000_000;
const BACK_WITHIN: usize = 5 << 20;

/// The memory that is resident, in bytes: the second figure is pages, of 4 KiB or more.
fn resident() -> usize {
    // The allocator keeps small pieces apart until a larger one is asked for.
    drop(std::hint::black_box(vec![1_u8; 100_000]));
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

fn come_and_go(queues: &Queues, count: usize, at_once: usize) {
    let operation = OperationUuid::generate();
    let mut tickets = Vec::with_capacity(at_once);
    for queue in 0..count {
        let signature = Signature::of("vm-instance", &queue.to_string());
        tickets.push(
            queues
                .enter(Entry::new(signature, Level::SERIAL, operation))
                .unwrap(),
        );
        if tickets.len() == at_once {
            tickets.clear();
        }
    }
}

#[test]
fn a_million_queues_one_after_the_other_leave_nothing() {
    let queues = Queues::default();
    come_and_go(&queues, 1_000, 1);
    let before = resident();
    come_and_go(&queues, QUEUES, 100);
    assert!(queues.is_idle());
    assert!(resident() < before + BACK_WITHIN);
    assert!(queues.capacity() < 10_000);
}

#[test]
fn a_million_queues_at_once_leave_nothing() {
    let queues = Queues::default();
    come_and_go(&queues, 1_000, 1);
    let before = resident();
    come_and_go(&queues, QUEUES, QUEUES);
    assert!(queues.is_idle());
    assert!(queues.capacity() < 10_000, "{} are kept", queues.capacity());
    let now = resident();
    assert!(
        now < before + BACK_WITHIN,
        "{before} bytes before, {now} after"
    );
}
