//! Work queues: tasks of one signature run in order, a bounded number at a time.
//!
//! A task takes its place at once, in the order of the calls to [`Queues::enter`]; to wait for its
//! turn is to await the [`Ticket`]. Nothing polls and no thread waits: whoever leaves wakes the
//! next. A queue that nobody is in takes no memory.
//!
//! # A task that ends when it returns
//!
//! ```
//! use cairn_queue::{Entry, Level, QueueError, Queues, Signature};
//! use cairn_types::OperationUuid;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), QueueError> {
//! let queues = Queues::default();
//! let vm = Signature::of("vm-instance", "01890a5d");
//! let entry = Entry::new(vm, Level::SERIAL, OperationUuid::generate());
//!
//! let slot = queues.enter(entry)?.await?;
//! // Here no other task of this VM runs. The slot goes to the next when the future is done.
//! let started = slot.run(async { "started" }).await?;
//! assert_eq!(started, "started");
//! assert!(queues.is_idle());
//! # Ok(())
//! # }
//! ```
//!
//! # A task that ends when it says so
//!
//! What goes on elsewhere keeps its [`Completion`], and with it the queue. One that is dropped
//! without a word ends the task with an error that names it.
//!
//! ```
//! # use cairn_queue::{Completion, Entry, Level, QueueError, Queues, Signature};
//! # use cairn_types::OperationUuid;
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), QueueError> {
//! # let (queues, vm) = (Queues::default(), Signature::of("vm-instance", "01890a5d"));
//! # let entry = || Entry::new(vm.clone(), Level::SERIAL, OperationUuid::generate());
//! let (hand_over, agent) = std::sync::mpsc::channel::<Completion<u32>>();
//! let worker = std::thread::spawn(move || agent.iter().for_each(|task| task.end(42)));
//!
//! let slot = queues.enter(entry())?.await?;
//! let answer = slot.until_said(|task| drop(hand_over.send(task))).await?;
//! assert_eq!(answer, 42);
//!
//! let slot = queues.enter(entry())?.await?;
//! let forgotten = slot.until_said(drop::<Completion<()>>).await;
//! assert!(matches!(forgotten, Err(QueueError::Unsaid { .. })));
//! # drop(hand_over);
//! # assert!(worker.join().is_ok());
//! # Ok(())
//! # }
//! ```
//!
//! # Several at once, and the level changed while they wait
//!
//! The [`Level`] is the queue's: 1 is serial, 0 is without limit, and the last that was said holds
//! for all. Where several run at once, accounts take turns ([`Entry::account`]), so that one with
//! a thousand tasks does not hold up another with one; a serial queue keeps the order of arrival.
//! A [`Priority`] goes before both.
//!
//! ```
//! # use std::num::NonZeroU32;
//! # use cairn_queue::{Entry, Level, Priority, QueueError, Queues, Signature};
//! # use cairn_types::{AccountUuid, OperationUuid};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), QueueError> {
//! # let (queues, host) = (Queues::default(), Signature::of("host", "01890a5d"));
//! let entry = || {
//!     Entry::new(host.clone(), Level::SERIAL, OperationUuid::generate())
//!         .account(AccountUuid::generate())
//!         .priority(Priority::High)
//! };
//! let first = queues.enter(entry())?.await?;
//! let second = queues.enter(entry())?;
//! assert_eq!(second.ahead(), 1);
//!
//! queues.set_level(&host, Level::at_most(NonZeroU32::MIN.saturating_add(1)));
//! let second = second.await?; // beside the first
//! # drop((first, second));
//! # Ok(())
//! # }
//! ```
//!
//! # What does not get its turn
//!
//! A queue may be bounded, a task has a time limit, and an operation may be cancelled.
//!
//! ```
//! # use cairn_queue::{Entry, Level, QueueError, Queues, Signature};
//! # use cairn_types::OperationUuid;
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), QueueError> {
//! # let (queues, vm) = (Queues::default(), Signature::of("vm-instance", "01890a5d"));
//! let operation = OperationUuid::generate();
//! let entry = || Entry::new(vm.clone(), Level::SERIAL, operation).most_waiting(1);
//! let slot = queues.enter(entry())?.await?;
//! let waits = queues.enter(entry())?;
//!
//! let refused = queues.enter(entry()).unwrap_err().to_string();
//! assert!(refused.contains("is full: 1 wait in it, as many as may, behind operation"));
//!
//! let late = waits.before(tokio::time::Instant::now()).await;
//! assert!(matches!(late, Err(QueueError::TimeLimit { .. })));
//!
//! assert_eq!(queues.cancel(operation), 1);
//! let cancelled = slot.run(std::future::pending::<()>()).await;
//! assert_eq!(cancelled, Err(QueueError::Cancelled(operation)));
//! # Ok(())
//! # }
//! ```
//!
//! # Operations that call each other
//!
//! An operation that waits for one that it called says so at the entry of that one
//! ([`Entry::called_by`]). What is called enters the queues that its callers run in without
//! waiting. What would wait for somebody who waits for it is found at once, also over several
//! queues: the youngest of those that wait is refused, and the error names them all.
//!
//! ```
//! # use cairn_queue::{Entry, Level, QueueError, Queues, Signature};
//! # use cairn_types::OperationUuid;
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), QueueError> {
//! # let queues = Queues::default();
//! let (host, vm) = (Signature::of("host", "h"), Signature::of("vm-instance", "v"));
//! let enter = |queue: &Signature, operation| Entry::new(queue.clone(), Level::SERIAL, operation);
//! let (delete, start) = (OperationUuid::generate(), OperationUuid::generate());
//! let deletes = queues.enter(enter(&host, delete))?.await?;
//! let starts = queues.enter(enter(&vm, start))?.await?;
//!
//! // The deletion of the host stops the VM, whose start has to ask the host.
//! let stop = enter(&vm, OperationUuid::generate()).called_by(delete, &["host/h".to_owned()]);
//! let waits = queues.enter(stop)?;
//! let ask = enter(&host, OperationUuid::generate()).called_by(start, &["vm-instance/v".to_owned()]);
//! assert!(matches!(queues.enter(ask), Err(QueueError::Cycle(_))));
//!
//! drop(starts); // it failed, so the stop has its turn
//! waits.await?;
//! # Ok(())
//! # }
//! ```
//!
//! # One run for many
//!
//! [`Flights`] share the run of a key among all who ask for it while it is under way; [`Merge`]
//! gathers different requests that wait in one queue into one call.
//!
//! ```
//! # use cairn_queue::{Entry, Flights, Level, Merge, QueueError, Queues, Signature};
//! # use cairn_types::OperationUuid;
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), QueueError> {
//! let flights = Flights::default();
//! let read = || async { "what the host said".to_owned() };
//! let (one, other) = tokio::join!(flights.run("host", read), flights.run("host", read));
//! assert_eq!(one?, other?);
//!
//! # let (queues, host) = (Queues::default(), Signature::of("host", "h"));
//! let merge = Merge::default();
//! let entry = || Entry::new(host.clone(), Level::SERIAL, OperationUuid::generate());
//! let slot = queues.enter(entry())?.await?;
//! let sum = |asked: Vec<u32>| async move { vec![asked.iter().sum::<u32>(); asked.len()] };
//! let (one, other, ()) = tokio::join!(
//!     merge.ask(&queues, entry(), 1, sum),
//!     merge.ask(&queues, entry(), 2, sum),
//!     async { drop(slot) },
//! );
//! assert_eq!((one?, other?), (3, 3)); // both were in one call
//! # Ok(())
//! # }
//! ```
//!
//! # Caps
//!
//! Where waiting is worse than an answer, [`Caps`] refuse what is too much at once.
//!
//! ```
//! use cairn_queue::Caps;
//!
//! let caps = Caps::new("calls of one account", 1);
//! let call = caps.take("alice")?;
//! assert!(caps.take("bob").is_ok());
//! assert_eq!(
//!     caps.take("alice").unwrap_err().to_string(),
//!     "1 calls of one account are under way, as many as may be at once; try again in 1 s"
//! );
//! drop(call);
//! assert!(caps.take("alice").is_ok());
//! # Ok::<(), cairn_queue::Overloaded>(())
//! ```

mod calls;
mod cap;
mod entry;
mod error;
mod flights;
mod line;
mod merge;
mod queues;
mod signature;
mod sync;
mod ticket;
mod view;

pub use cap::{Caps, Overloaded, Permit};
pub use entry::{Entry, Priority};
pub use error::{Cycle, Link, QueueError};
pub use flights::Flights;
pub use merge::Merge;
pub use queues::Queues;
pub use signature::{Level, Signature};
pub use ticket::{Completion, Slot, Ticket};
pub use view::{QueueView, TaskView};

#[cfg(test)]
mod tests;
