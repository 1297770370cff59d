//! Merging: requests that wait in one queue are answered by one call for all of them.

use std::{
    collections::HashMap,
    fmt,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared, WeakShared},
};
use tokio::sync::oneshot;

use crate::{
    Entry, QueueError, Queues, Signature, Ticket,
    flights::words,
    sync::{Mutex, lock},
};

type Run = BoxFuture<'static, ()>;
type Reply<A> = oneshot::Sender<Result<A, QueueError>>;

/// Requests `Q` that are answered by `A`, those of one queue together; clones share them. Those
/// that come while a call runs wait for the next one, which takes them all.
pub struct Merge<Q, A>(Arc<Inner<Q, A>>);

struct Inner<Q, A> {
    open: Mutex<Open<Q, A>>,
    number: AtomicU64,
}

/// Requests that wait for the same call.
struct Batch<Q, A> {
    number: u64,
    asked: Vec<(Q, Reply<A>)>,
    run: WeakShared<Run>,
}

impl<Q: Send + 'static, A: Send + 'static> Merge<Q, A> {
    /// Asks in the queue of `entry`: with those who wait there already, or as the first, whose
    /// place in the queue is that of all. `call` gets their requests in the order in which they
    /// came, and answers each, in the same order. It goes on as long as one of them waits.
    ///
    /// # Errors
    /// Those of [`Queues::enter`] and of its ticket, for all of them alike;
    /// [`QueueError::Panicked`] if the call did; [`QueueError::Unanswered`] if there are fewer
    /// answers than requests.
    pub async fn ask<F>(
        &self,
        queues: &Queues,
        entry: Entry,
        request: Q,
        call: impl FnOnce(Vec<Q>) -> F + Send + 'static,
    ) -> Result<A, QueueError>
    where
        F: Future<Output = Vec<A>> + Send + 'static,
    {
        let signature = entry.signature.clone();
        let (reply, answer) = oneshot::channel();
        self.join(queues, entry, (request, reply), call)?.await;
        answer
            .await
            .unwrap_or_else(|_| Err(QueueError::Unanswered(signature)))
    }

    /// Puts a request into the batch that is open, or opens one.
    fn join<F>(
        &self,
        queues: &Queues,
        entry: Entry,
        asked: (Q, Reply<A>),
        call: impl FnOnce(Vec<Q>) -> F + Send + 'static,
    ) -> Result<Shared<Run>, QueueError>
    where
        F: Future<Output = Vec<A>> + Send + 'static,
    {
        let signature = entry.signature.clone();
        let asked = match lock(&self.0.open).add(&signature, asked) {
            Ok(run) => return Ok(run),
            Err(asked) => asked,
        };
        // Not under our own lock, for it wakes others.
        let ticket = queues.enter(entry)?;
        let closing = Closing {
            merge: Arc::clone(&self.0),
            signature: signature.clone(),
            number: self.0.number.fetch_add(1, Ordering::Relaxed),
        };
        let number = closing.number;
        let run: Run = Box::pin(answer_all(ticket, closing, call));
        let run = run.shared();
        // Another one may have opened a batch meanwhile; then this one leaves the queue.
        let mut open = lock(&self.0.open);
        let asked = match open.add(&signature, asked) {
            Ok(other) => {
                drop(open);
                return Ok(other);
            }
            Err(asked) => asked,
        };
        if let Some(weak) = run.downgrade() {
            let batch = Batch {
                number,
                asked: vec![asked],
                run: weak,
            };
            open.0.insert(signature, batch);
        }
        drop(open);
        Ok(run)
    }
}

/// The batches that wait for their turns.
struct Open<Q, A>(HashMap<Signature, Batch<Q, A>>);

impl<Q, A> Open<Q, A> {
    /// Puts a request into the batch of that queue; gives it back if there is none.
    fn add(
        &mut self,
        signature: &Signature,
        asked: (Q, Reply<A>),
    ) -> Result<Shared<Run>, (Q, Reply<A>)> {
        let batch = self.0.get_mut(signature);
        match batch.and_then(|batch| Some((batch.run.upgrade()?, batch))) {
            Some((run, batch)) => {
                batch.asked.push(asked);
                Ok(run)
            }
            None => Err(asked),
        }
    }

    /// Takes the batch of that number out.
    fn close(&mut self, signature: &Signature, number: u64) -> Vec<(Q, Reply<A>)> {
        let batch = self.0.get(signature);
        if batch.is_none_or(|batch| batch.number != number) {
            return Vec::new();
        }
        let closed = self.0.remove(signature);
        let (length, capacity) = (self.0.len(), self.0.capacity());
        if length < capacity / 8 {
            self.0.shrink_to(length * 2);
        }
        closed.map_or_else(Vec::new, |batch| batch.asked)
    }
}

/// Waits for the turn, closes the batch, and answers it.
async fn answer_all<Q, A, F>(ticket: Ticket, closing: Closing<Q, A>, call: impl FnOnce(Vec<Q>) -> F)
where
    F: Future<Output = Vec<A>>,
{
    let slot = ticket.await;
    let asked = closing.close().into_iter();
    // Who has left is not asked for.
    let (requests, replies): (Vec<Q>, Vec<Reply<A>>) =
        asked.filter(|(_, reply)| !reply.is_closed()).unzip();
    let answers = async {
        let call = AssertUnwindSafe(call(requests)).catch_unwind();
        let answers = slot?.run(call).await?;
        answers.map_err(|panic| QueueError::Panicked(words(&*panic)))
    };
    match answers.await {
        Ok(answers) => {
            for (reply, answer) in replies.into_iter().zip(answers) {
                // It may have left by now.
                let _ = reply.send(Ok(answer));
            }
        }
        Err(error) => {
            for reply in replies {
                let _ = reply.send(Err(error.clone()));
            }
        }
    }
}

/// Closes a batch, at the latest when nobody waits for it any more.
struct Closing<Q, A> {
    merge: Arc<Inner<Q, A>>,
    signature: Signature,
    number: u64,
}

impl<Q, A> Closing<Q, A> {
    fn close(&self) -> Vec<(Q, Reply<A>)> {
        lock(&self.merge.open).close(&self.signature, self.number)
    }
}

impl<Q, A> Drop for Closing<Q, A> {
    fn drop(&mut self) {
        // What the requests are dropped with may want the lock, which is free again here.
        drop(self.close());
    }
}

impl<Q, A> Default for Merge<Q, A> {
    fn default() -> Self {
        Self(Arc::new(Inner {
            open: Mutex::new(Open(HashMap::new())),
            number: AtomicU64::new(0),
        }))
    }
}

impl<Q, A> Clone for Merge<Q, A> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<Q, A> fmt::Debug for Merge<Q, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Merge")
            .field(&lock(&self.0.open).0.len())
            .finish()
    }
}
