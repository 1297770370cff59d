//! The run of one operation: it waits in its queue, works, and ends.

use std::{
    any::Any,
    panic::AssertUnwindSafe,
    sync::{Arc, OnceLock, atomic::AtomicBool},
    time::Duration,
};

use cairn_boot::propagation;
use cairn_proto::{call::Context, fault::Fault, operation::v1alpha1::Progress};
use cairn_queue::{Slot, Ticket};
use futures::FutureExt as _;
use tracing::{Instrument as _, debug, error, info_span, warn};

use crate::{
    Ending, OperationContext, OperationError, handler::Plan, live::Live, metrics, operations::Inner,
};

/// How often one that waits tells its place. Progress only: to start, it is woken.
const TELL_PLACE: Duration = Duration::from_secs(2);

/// The pauses before what must not be given up is tried again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// An operation with its place in the queue.
pub(crate) struct Run {
    inner: Arc<Inner>,
    live: Arc<Live>,
    plan: Plan,
    ticket: Ticket,
    context: Context,
    cx: OperationContext,
}

impl Inner {
    /// Puts an accepted operation into its queue, at once, and starts it, unless that was done.
    /// `context` is that of the call; `has_log` that an earlier run began a log. Returns the
    /// queues that the run holds.
    pub(crate) fn start(
        self: &Arc<Self>,
        live: Arc<Live>,
        plan: Plan,
        mut context: Context,
        has_log: bool,
    ) -> Arc<[String]> {
        if !live.begin() {
            return context.held;
        }
        let uuid = live.uuid;
        let signature = &plan.queue.signature;
        let held = context.held.iter().any(|held| held == signature.as_str());
        let ticket = if held {
            self.queues.enter_held(signature, uuid)
        } else {
            let own = [signature.as_str().to_owned()];
            context.held = context.held.iter().cloned().chain(own).collect();
            self.queues.enter(signature, plan.queue.level, uuid)
        };
        context.operation = Some(uuid);
        context.deadline = None;
        context.idempotency_key = None;
        let held = context.held.clone();
        let cx = self.context(live.clone(), &context, has_log);
        let span = info_span!("operation", %uuid, method = plan.method.path);
        propagation::hand_on(&span, &mut context.traceparent);
        let run = Run {
            inner: self.clone(),
            live,
            plan,
            ticket,
            context,
            cx,
        };
        let stop = self.stop.clone();
        self.tasks.spawn(
            async move {
                // To stop is to drop the run where it is: it goes on after the next start.
                stop.run_until_cancelled(run.finish()).await;
            }
            .instrument(span),
        );
        held
    }

    pub(crate) fn context(
        &self,
        live: Arc<Live>,
        context: &Context,
        has_log: bool,
    ) -> OperationContext {
        OperationContext {
            store: self.store.clone(),
            live,
            account: context.account,
            failpoints: self.failpoints.clone(),
            has_log: AtomicBool::new(has_log),
            ended: OnceLock::new(),
            leftover: None,
        }
    }
}

impl Run {
    async fn finish(mut self) {
        let queue = info_span!("queue", signature = %self.plan.queue.signature);
        let (slot, ending) = match self.wait().instrument(queue).await {
            Ok(slot) => {
                let _running = metrics::running();
                (Some(slot), self.work().await)
            }
            Err(interrupted) => (None, self.fail(interrupted.into()).await),
        };
        self.inner.hub.remove(self.live.uuid);
        metrics::ended(&ending.operation);
        match &ending.outcome {
            Ok(_) => debug!("operation succeeded"),
            Err(fault) => debug!(code = %fault.code, error = fault.message, "operation ended"),
        }
        self.live.end(ending);
        drop(slot);
    }

    /// Waits for its turn. One that has a log was running before: only its run may end it.
    async fn wait(&mut self) -> Result<Slot, OperationError> {
        let mut tell = tokio::time::interval(TELL_PLACE);
        let mut told = 0;
        let may_end = !self.cx.keeps_log();
        let _waiting = metrics::waiting();
        loop {
            tokio::select! {
                biased;
                interrupted = self.live.interrupted(), if may_end => return Err(interrupted),
                slot = &mut self.ticket => return Ok(slot),
                _ = tell.tick() => {
                    let ahead = self.ticket.ahead();
                    if ahead != told {
                        told = ahead;
                        self.live.progress(Progress {
                            percent: 0,
                            message: format!(
                                "waits in queue {}: {ahead} ahead",
                                self.plan.queue.signature
                            ),
                        });
                    }
                }
            }
        }
    }

    async fn work(&self) -> Arc<Ending> {
        let mut pause = FIRST_PAUSE;
        loop {
            let outcome = self.attempt().await;
            if let Some(ending) = self.cx.ended.get() {
                return ending.clone();
            }
            let fault = match outcome {
                Ok(ending) => return ending,
                Err(fault) => fault,
            };
            if !self.cx.keeps_log() {
                return self.fail(fault).await;
            }
            // What the log names is not undone yet, and only the flow can do that.
            warn!(
                error = fault.message,
                "a logged run broke off; it is taken up again"
            );
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn attempt(&self) -> Result<Arc<Ending>, Fault> {
        let run = self.context.clone().scope(self.plan.job.run(&self.cx));
        let time_limit = async {
            self.live.time_limit().await;
            if self.cx.keeps_log() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            // After a panic nothing of the run is used again but the context, which is atomic.
            outcome = AssertUnwindSafe(run).catch_unwind() => outcome.unwrap_or_else(|panic| {
                let panic = panic_text(&*panic).to_owned();
                error!(panic, "handler panicked");
                Err(OperationError::Panicked(panic).into())
            }),
            () = time_limit => Err(OperationError::TimeLimit.into()),
        }
    }

    /// Ends the operation with a fault; it does not give up, for nobody else would end it.
    async fn fail(&self, fault: Fault) -> Arc<Ending> {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.cx.fail(fault.clone()).await {
                Ok(ending) => return ending,
                Err(failed) => error!(error = failed.message, "end of an operation not stored"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without words")
}
