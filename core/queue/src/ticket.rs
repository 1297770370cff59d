//! A place in a queue, before and after its turn comes.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll},
};

use cairn_types::OperationUuid;
use tokio::{
    select,
    sync::oneshot,
    time::{Instant, sleep_until},
};

use crate::{QueueError, Queues, Signature, line::Turn};

/// A place in a queue. Await it to get the [`Slot`]; drop it to leave. Like most futures it panics
/// when it is polled again after it was ready.
#[derive(Debug)]
#[must_use = "a ticket that is dropped leaves the queue"]
pub struct Ticket {
    /// None once it was given on.
    place: Option<Place>,
    waits: bool,
}

impl Ticket {
    pub(crate) fn new(place: Place, waits: bool) -> Self {
        Self {
            place: Some(place),
            waits,
        }
    }

    /// How many run in the queue or wait in it before this one; 0 when it may start.
    #[must_use]
    pub fn ahead(&self) -> usize {
        let Some(place) = self.place.as_ref().filter(|_| self.waits) else {
            return 0;
        };
        place.look(|line| line.ahead(place.turn)).unwrap_or(0)
    }

    /// Waits for its turn, but not past `deadline`: what comes too late is not started.
    ///
    /// # Errors
    /// [`QueueError::TimeLimit`], and those of the ticket itself.
    pub async fn before(self, deadline: Instant) -> Result<Slot, QueueError> {
        let place = self.place.as_ref();
        let late = place.map(|place| QueueError::TimeLimit {
            signature: place.signature.clone(),
            operation: place.operation,
        });
        select! {
            biased;
            Some(late) = async { until(deadline).await; late } => Err(late),
            slot = self => slot,
        }
    }
}

impl Future for Ticket {
    type Output = Result<Slot, QueueError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(place) = self.place.as_ref().filter(|_| self.waits) {
            match place.look(|line| line.waits(place.turn, cx.waker())) {
                Some(Ok(true)) => return Poll::Pending,
                Some(Err(refused)) => return Poll::Ready(Err(refused)),
                Some(Ok(false)) | None => {}
            }
        }
        let place = self.place.take();
        Poll::Ready(Ok(Slot(place.expect("polled after it was ready"))))
    }
}

/// The right to run; dropping it gives it to the next.
#[derive(Debug)]
#[must_use = "a slot that is dropped is given to the next"]
pub struct Slot(Place);

impl Slot {
    /// Runs a task that ends when it returns, and gives the slot on then. If the task is
    /// cancelled, the future is dropped where it is.
    ///
    /// # Errors
    /// [`QueueError::Cancelled`].
    pub async fn run<F: Future>(self, task: F) -> Result<F::Output, QueueError> {
        let task = pin!(task);
        select! {
            biased;
            () = self.cancelled() => Err(QueueError::Cancelled(self.0.operation)),
            output = task => Ok(output),
        }
    }

    /// Runs a task that ends when it says so: `start` is given the handle for that, which keeps
    /// the queue until then, whatever becomes of the one who waits here. A cancel is for the
    /// task to see ([`Completion::cancelled`]).
    ///
    /// # Errors
    /// [`QueueError::Unsaid`] if the handle is dropped.
    pub async fn until_said<T>(self, start: impl FnOnce(Completion<T>)) -> Result<T, QueueError> {
        let unsaid = QueueError::Unsaid {
            signature: self.0.signature.clone(),
            operation: self.0.operation,
        };
        let (say, said) = oneshot::channel();
        start(Completion { slot: self, say });
        said.await.map_err(|_| unsaid)
    }

    /// Ends when [`Queues::cancel`] asks for the end of this task.
    pub async fn cancelled(&self) {
        let Slot(place) = self;
        poll_fn(
            |cx| match place.look(|line| line.is_cancelled(place.turn, cx.waker())) {
                Some(true) => Poll::Ready(()),
                _ => Poll::Pending,
            },
        )
        .await;
    }
}

/// The right to run of a task that says itself when it ends. Dropped without a word, it ends the
/// task with an error that says so.
#[derive(Debug)]
#[must_use = "a task whose handle is dropped ends with an error"]
pub struct Completion<T> {
    slot: Slot,
    say: oneshot::Sender<T>,
}

impl<T> Completion<T> {
    /// The task has ended, in this. The next one may start.
    pub fn end(self, result: T) {
        let Self { slot, say } = self;
        drop(slot);
        // Nobody may wait for it any more.
        let _ = say.send(result);
    }

    /// Ends when the task should: see [`Queues::cancel`].
    pub async fn cancelled(&self) {
        self.slot.cancelled().await;
    }
}

/// One turn in one queue, waiting or running; it leaves when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) queues: Queues,
    pub(crate) signature: Signature,
    pub(crate) operation: OperationUuid,
    pub(crate) caller: Option<OperationUuid>,
    pub(crate) turn: Turn,
}

impl Place {
    fn look<R>(&self, look: impl FnOnce(&mut crate::line::Line) -> R) -> Option<R> {
        self.queues.with(&self.signature, look)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.queues.leave(self);
    }
}

async fn until(deadline: Instant) {
    // A timer fires a little late; what is over already needs none.
    if Instant::now() < deadline {
        sleep_until(deadline).await;
    }
}
