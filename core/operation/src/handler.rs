//! What a service declares for each mutating rpc.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use cairn_proto::{call::Method, event::OperationResponse, fault::Fault};
use cairn_queue::{Level, Priority, Signature};
use futures::future::BoxFuture;
use prost::Message;

use crate::{Ended, Ending, OperationContext};

/// What the operations of a handler end with.
pub type ResultOf<H> = <<H as Handler>::Response as OperationResponse>::Result;

/// How many operations may wait in one queue, unless its handler says something else.
const MOST_WAITING: usize = 10_000;

/// How long an operation may take, unless its handler says something else.
pub(crate) const TIME_LIMIT: Duration = Duration::from_secs(30 * 60);

/// The queue that an operation enters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// Its name.
    pub signature: Signature,
    /// How many run in it at once.
    pub level: Level,
    /// Before or after others.
    pub priority: Priority,
    /// A call is refused rather than accepted if so many wait already.
    pub most_waiting: usize,
}

impl Queue {
    /// The queue of one resource, in which one operation runs at a time.
    #[must_use]
    pub fn serial(noun: &str, key: &str) -> Self {
        Self::of(noun, key, Level::SERIAL)
    }

    /// The queue of one resource, in which so many run at once; accounts take turns in it.
    #[must_use]
    pub fn of(noun: &str, key: &str, level: Level) -> Self {
        Self {
            signature: Signature::of(noun, key),
            level,
            priority: Priority::Normal,
            most_waiting: MOST_WAITING,
        }
    }

    /// The same queue, entered with this priority.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// The same queue, in which at most so many wait.
    #[must_use]
    pub fn most_waiting(mut self, operations: usize) -> Self {
        self.most_waiting = operations;
        self
    }
}

/// One mutating rpc.
///
/// A run may be repeated: after a crash the handler runs again with the same request. So what it
/// changes, it changes in [`OperationContext::finish`], in the transaction that ends the
/// operation, or in the steps of a flow.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// The rpc's request.
    type Request: Message + Default + Clone + 'static;
    /// The rpc's response: an event of the operation.
    type Response: OperationResponse;
    /// The request, checked.
    type Spec: Send + Sync + 'static;
    /// The rpc.
    const METHOD: &'static Method;

    /// The request as a checked value. It does no IO, and reports all wrong fields at once.
    ///
    /// # Errors
    /// A fault that the caller gets; nothing was written.
    fn check(&self, request: &Self::Request) -> Result<Self::Spec, Fault>;

    /// The queue that the operation enters.
    fn queue(&self, spec: &Self::Spec) -> Queue;

    /// How long an operation may take, waiting included. Past it the operation fails: at once if
    /// it waits or has no flow, between two steps if it has one.
    fn time_limit(&self) -> Duration {
        TIME_LIMIT
    }

    /// Does the work, when the queue lets it.
    ///
    /// # Errors
    /// The fault that the operation ends with.
    async fn run(
        &self,
        cx: &OperationContext,
        spec: Arc<Self::Spec>,
    ) -> Result<Ended<ResultOf<Self>>, Fault>;
}

/// The method of that name, found when the constant that holds it is compiled:
/// `const METHOD: &'static Method = method(ZoneClient::METHODS, "CreateZone");`
///
/// # Panics
/// If there is none; in a constant that is an error of the compiler.
#[must_use]
pub const fn method(methods: &'static [Method], name: &str) -> &'static Method {
    let mut i = 0;
    while i < methods.len() {
        if same(methods[i].name.as_bytes(), name.as_bytes()) {
            return &methods[i];
        }
        i += 1;
    }
    #[expect(clippy::panic, reason = "found by the compiler, never at run time")]
    {
        panic!("no method of that name");
    }
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    let mut i = 0;
    while i < a.len() && i < b.len() && a[i] == b[i] {
        i += 1;
    }
    i == a.len() && i == b.len()
}

/// A call that was checked: what runs once the queue lets it.
pub(crate) struct Plan {
    pub(crate) method: &'static Method,
    pub(crate) queue: Queue,
    pub(crate) time_limit: Duration,
    pub(crate) job: Box<dyn Job>,
}

/// The run of one operation, whatever its handler; it may be run again.
pub(crate) trait Job: Send + Sync {
    fn run<'a>(&'a self, cx: &'a OperationContext) -> BoxFuture<'a, Result<Arc<Ending>, Fault>>;
}

struct Task<H: Handler> {
    handler: Arc<H>,
    spec: Arc<H::Spec>,
}

impl<H: Handler> Job for Task<H> {
    fn run<'a>(&'a self, cx: &'a OperationContext) -> BoxFuture<'a, Result<Arc<Ending>, Fault>> {
        let run = self.handler.run(cx, self.spec.clone());
        Box::pin(async move { Ok(run.await?.into_ending()) })
    }
}

pub(crate) fn plan<H: Handler>(handler: &Arc<H>, request: &H::Request) -> Result<Plan, Fault> {
    let spec = Arc::new(handler.check(request)?);
    Ok(Plan {
        method: H::METHOD,
        queue: handler.queue(&spec),
        time_limit: handler.time_limit(),
        job: Box::new(Task {
            handler: handler.clone(),
            spec,
        }),
    })
}

/// A handler found by its method.
pub(crate) trait Registered: Send + Sync {
    /// The plan of a stored request; `None` if it cannot be decoded.
    fn plan(&self, request: &[u8]) -> Option<Result<Plan, Fault>>;
}

pub(crate) struct Registration<H>(pub(crate) Arc<H>);

impl<H: Handler> Registered for Registration<H> {
    fn plan(&self, request: &[u8]) -> Option<Result<Plan, Fault>> {
        let request = H::Request::decode(request).ok()?;
        Some(plan(&self.0, &request))
    }
}
