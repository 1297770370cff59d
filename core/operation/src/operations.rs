//! The handle: accept, watch, cancel, recover, purge, stop.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use cairn_proto::{
    call::{Context, Method, key_encoded},
    event::{Event, OperationResponse},
    fault::Fault,
    operation::v1alpha1::{
        Operation, OperationEvent, OperationState, operation_event::Event as Happened,
    },
};
use cairn_queue::{QueueView, Queues};
use cairn_store::Store;
use cairn_types::{ErrorCode, OperationUuid};
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use prost::Message;
use ring::digest;
use tokio::sync::{mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Response, Status};

use crate::{
    Failpoints, Handler, OperationError,
    acceptor::{self, Accepted, Pending},
    handler::{Plan, Registered, Registration},
    live::{Hub, Live, Told, told_of_ended},
    row::{self, NewOperation},
    time,
};

/// How long an operation is kept after its end, and with it its idempotency key.
pub const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// How many operations one transaction of the housekeeping deletes at most.
const PURGED_AT_ONCE: u32 = 200;

/// How many calls may wait to be written; those after them wait before that.
const WAITING_CALLS: usize = 1024;

/// The events of an operation.
pub type Events = BoxStream<'static, Result<OperationEvent, Fault>>;

/// The operations of a process; clones share them.
#[derive(Clone)]
pub struct Operations(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) queues: Queues,
    pub(crate) handlers: HashMap<&'static str, Box<dyn Registered>>,
    pub(crate) hub: Hub,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
    pub(crate) failpoints: Option<Arc<dyn Failpoints>>,
    pub(crate) logs: Vec<&'static str>,
    pub(crate) leftovers: Option<&'static str>,
    accept: mpsc::Sender<Pending>,
}

/// Gathers the handlers.
pub struct Builder {
    store: Store,
    queues: Queues,
    handlers: HashMap<&'static str, Box<dyn Registered>>,
    failpoints: Option<Arc<dyn Failpoints>>,
    logs: Vec<&'static str>,
    leftovers: Option<&'static str>,
}

impl Builder {
    /// Adds the handler of one rpc.
    #[must_use]
    pub fn register<H: Handler>(mut self, handler: H) -> Self {
        let registration = Registration(Arc::new(handler));
        self.handlers.insert(H::METHOD.path, Box::new(registration));
        self
    }

    /// Adds tables of logs, whose rows belong to operations by a column `operation_uuid`: they are
    /// deleted with them, and one that has a row there had begun when the process ended.
    #[must_use]
    pub fn logs(mut self, tables: &[&'static str]) -> Self {
        self.logs.extend(tables);
        self
    }

    /// Names the table that has a row, by its `uuid`, for each operation that has ended with
    /// something left. Such an operation is kept, with its logs, as long as the row is there.
    #[must_use]
    pub fn leftovers(mut self, table: &'static str) -> Self {
        self.leftovers = Some(table);
        self
    }

    /// Lets a test hold the runs of flows.
    #[must_use]
    pub fn failpoints(mut self, failpoints: Arc<dyn Failpoints>) -> Self {
        self.failpoints = Some(failpoints);
        self
    }

    /// Starts to accept. Panics, like all spawning, outside of a tokio runtime.
    #[must_use]
    pub fn build(self) -> Operations {
        let (accept, pending) = mpsc::channel(WAITING_CALLS);
        let inner = Arc::new(Inner {
            store: self.store,
            queues: self.queues,
            handlers: self.handlers,
            hub: Hub::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            failpoints: self.failpoints,
            logs: self.logs,
            leftovers: self.leftovers,
            accept,
        });
        let (stop, weak) = (inner.stop.clone(), Arc::downgrade(&inner));
        inner.tasks.spawn(async move {
            stop.run_until_cancelled(acceptor::accept(weak, pending))
                .await;
        });
        Operations(inner)
    }
}

impl Operations {
    /// Operations in this database, in these queues.
    #[must_use]
    pub fn builder(store: Store, queues: Queues) -> Builder {
        Builder {
            store,
            queues,
            handlers: HashMap::new(),
            failpoints: None,
            logs: Vec::new(),
            leftovers: None,
        }
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.0
    }

    /// Makes the call an operation, and answers with its events. A caller that drops the future
    /// before the row is being written leaves no trace; after that the operation runs and ends,
    /// whoever reads the stream.
    ///
    /// # Errors
    /// The status of what is wrong with the request; `IDEMPOTENCY_KEY_REUSED` if the key belongs
    /// to another request; `Overloaded` if its queue is full, `WaitCycle` if it would wait for what
    /// waits for it; `Unavailable` if the node stops. Nothing was written then.
    pub async fn accept<H: Handler>(
        &self,
        request: tonic::Request<H::Request>,
    ) -> Result<Response<BoxStream<'static, Result<H::Response, Status>>>, Status> {
        let events = self.operate(H::METHOD, &request.into_inner()).await?;
        Ok(Response::new(events))
    }

    /// [`Operations::accept`] for whoever knows the rpc but not its handler. `M` is the rpc's
    /// response.
    ///
    /// # Errors
    /// As [`Operations::accept`].
    pub async fn operate<Q: Message, M: OperationResponse>(
        &self,
        method: &'static Method,
        request: &Q,
    ) -> Result<BoxStream<'static, Result<M, Status>>, Status> {
        let events = self
            .accepted(method, request.encode_to_vec().into())
            .await?;
        Ok(events.map(respond::<M>).boxed())
    }

    async fn accepted(
        &self,
        method: &'static Method,
        request: Bytes,
    ) -> Result<BoxStream<'static, Result<Told, Fault>>, Fault> {
        let registered = self.0.handlers.get(method.path);
        let registered = registered.ok_or(OperationError::NoHandler(method.path))?;
        let plan = registered.plan(&request).ok_or_else(|| {
            let message = format!("the request of {} cannot be decoded", method.path);
            Fault::new(ErrorCode::InvalidArgument, message)
        })??;
        let context = Context::current();
        let new = new_operation(&plan, request, &context)?;
        let (reply, accepted) = oneshot::channel();
        let pending = Pending {
            new,
            plan,
            context,
            reply,
        };
        if self.0.stop.is_cancelled() || self.0.accept.send(pending).await.is_err() {
            return Err(OperationError::Stopping.into());
        }
        match accepted.await.map_err(|_| OperationError::Stopping)?? {
            Accepted::New(events) => Ok(events),
            Accepted::Repeat(operation) => self.follow(operation, 0).await,
        }
    }

    /// The events of an operation numbered above `after`, and in any case its end.
    ///
    /// # Errors
    /// `NotFound` if there is no such operation.
    pub async fn watch(&self, uuid: OperationUuid, after: u64) -> Result<Events, Fault> {
        let events = self.follow(uuid, after).await?;
        Ok(events.map(|told| told.map(event)).boxed())
    }

    async fn follow(
        &self,
        uuid: OperationUuid,
        after: u64,
    ) -> Result<BoxStream<'static, Result<Told, Fault>>, Fault> {
        if let Some(live) = self.0.hub.get(uuid) {
            return Ok(live.follow(after).boxed());
        }
        if let Some(ended) = self.0.ended(uuid, after).await? {
            return Ok(ended);
        }
        if self.0.stop.is_cancelled() {
            return Err(OperationError::Stopping.into());
        }
        let live = self.0.hub.join(Live::new(&self.0.row(uuid).await?)?);
        // It may have ended since the first look, and then nobody would tell.
        if let Some(ended) = self.0.ended(uuid, after).await? {
            self.0.hub.remove(uuid);
            return Ok(ended);
        }
        Ok(live.follow(after).boxed())
    }

    /// Asks an operation to end: one that waits in its queue ends at once, one that runs between
    /// two steps; one that comes to its end first has won. Returns the operation as it is then.
    ///
    /// # Errors
    /// `NotFound` if there is no such operation.
    pub async fn cancel(&self, uuid: OperationUuid) -> Result<Operation, Fault> {
        let operation = self
            .0
            .store
            .write(move |tx| {
                Box::pin(async move { Ok::<_, Fault>(row::request_cancel(tx, uuid).await?) })
            })
            .await?
            .ok_or_else(|| Fault::not_found("operation", &uuid.to_string()))?;
        if let Some(live) = self.0.hub.get(uuid) {
            live.cancel.cancel();
        }
        Ok(operation)
    }

    /// The queues that operations are in, as each is at the moment of the look.
    #[must_use]
    pub fn queues(&self) -> Vec<QueueView> {
        self.0.queues.list()
    }

    /// The rpc of an operation of this process that has not ended, without its package.
    #[must_use]
    pub fn name(&self, uuid: OperationUuid) -> Option<String> {
        self.0.hub.get(uuid).map(|live| live.name.clone())
    }

    /// After a start, before the first call is accepted: puts every operation that had not ended
    /// into its queue again, in the order of acceptance. One whose method has no handler here
    /// stays as it is. Returns how many go on.
    ///
    /// # Errors
    /// What the database says.
    pub async fn recover(&self) -> Result<usize, Fault> {
        self.0.recover().await
    }

    /// Deletes the operations that ended longer than `kept` ago, [`KEPT`] as a rule, in
    /// transactions of bounded size. Returns how many.
    ///
    /// # Errors
    /// What the database says.
    pub async fn purge(&self, kept: Duration) -> Result<usize, Fault> {
        let before = time::now().saturating_sub(time::micros(kept));
        let mut purged = 0;
        loop {
            let (logs, leftovers) = (self.0.logs.clone(), self.0.leftovers);
            let count = self
                .0
                .store
                .write(move |tx| {
                    let logs = logs.clone();
                    Box::pin(async move {
                        Ok::<_, Fault>(
                            row::purge(tx, before, PURGED_AT_ONCE, &logs, leftovers).await?,
                        )
                    })
                })
                .await?;
            purged += count;
            if count < PURGED_AT_ONCE as usize {
                return Ok(purged);
            }
        }
    }

    /// Stops: accepts nothing more, and drops every run at its next await. What was accepted and
    /// has not ended goes on after the next start.
    pub async fn shutdown(&self) {
        self.0.stop.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
        self.0.hub.clear();
    }
}

impl fmt::Debug for Operations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut methods: Vec<_> = self.0.handlers.keys().collect();
        methods.sort_unstable();
        f.debug_tuple("Operations").field(&methods).finish()
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Builder")
            .field(&self.handlers.len())
            .finish()
    }
}

impl Inner {
    pub(crate) async fn row(&self, uuid: OperationUuid) -> Result<Operation, Fault> {
        let uuid = uuid.to_string();
        let operation = self.store.get::<Operation>(&uuid).await?;
        operation.ok_or_else(|| Fault::not_found("operation", &uuid))
    }

    async fn ended(
        &self,
        uuid: OperationUuid,
        after: u64,
    ) -> Result<Option<BoxStream<'static, Result<Told, Fault>>>, Fault> {
        let operation = self.row(uuid).await?;
        if operation.state() == OperationState::Accepted {
            return Ok(None);
        }
        let ending = row::ending(&self.store, operation).await?;
        let told = told_of_ended(ending, after).into_iter().map(Ok);
        Ok(Some(stream::iter(told).boxed()))
    }
}

fn new_operation(
    plan: &Plan,
    request: bytes::Bytes,
    context: &Context,
) -> Result<NewOperation, Fault> {
    let method = plan.method;
    let key = method
        .key
        .map(|field| key_encoded(&request, field.number))
        .transpose()
        .map_err(|error| Fault::field("request", error.to_string()))?;
    let created = time::now();
    let mut operation = Operation {
        uuid: OperationUuid::generate().to_string(),
        name: method.name.to_owned(),
        account_uuid: context.account.to_string(),
        create_time: Some(time::timestamp(created)),
        last_operation_time: Some(time::timestamp(created)),
        method: method.path.to_owned(),
        resource_uuid: key.flatten().unwrap_or_default(),
        deadline: Some(time::timestamp(
            created.saturating_add(time::micros(plan.time_limit)),
        )),
        parent_uuid: context.operation.map(|parent| parent.to_string()),
        ..Operation::default()
    };
    operation.set_state(OperationState::Accepted);
    let key = context.idempotency_key.as_ref();
    Ok(NewOperation {
        operation,
        digest: digest_of(method.path, &request),
        key: key.map(|key| (context.account, key.to_string())),
        traceparent: context.traceparent.clone(),
        request,
    })
}

/// The same for the same call only. SHA-256 in hexadecimal.
fn digest_of(path: &str, request: &[u8]) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(path.as_bytes());
    // No path has a zero byte, so path and request cannot run into each other.
    context.update(&[0]);
    context.update(request);
    let bytes = context.finish();
    bytes.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

fn respond<M: OperationResponse>(told: Result<Told, Fault>) -> Result<M, Status> {
    Ok(M::from_event(match told? {
        Told::Accepted(_, accepted) => Event::Accepted(accepted),
        Told::Progress(_, progress) => Event::Progress(progress),
        Told::Ended(_, ending) => Event::Result(ending.result::<M::Result>()?),
    }))
}

fn event(told: Told) -> OperationEvent {
    let (number, event) = match told {
        Told::Accepted(number, accepted) => (number, Happened::Accepted(accepted)),
        Told::Progress(number, progress) => (number, Happened::Progress(progress)),
        Told::Ended(number, ending) => (number, Happened::Ended(ending.operation.clone())),
    };
    OperationEvent {
        number,
        event: Some(event),
    }
}
