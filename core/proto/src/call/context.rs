//! For whom a call is made, until when, and on behalf of which operation. It follows the code
//! that runs for the call, so that no call site has to pass it on.

use std::{future::Future, sync::Arc, time::Instant};

use cairn_types::{AccountUuid, OperationUuid, Uuid};

/// What travels with a call beside its request.
#[derive(Debug, Clone)]
pub struct Context {
    /// The account that the public door verified; services call on behalf of the same one.
    pub account: AccountUuid,
    /// When the caller stops waiting. Past acceptance it ends the wait, not the operation.
    pub deadline: Option<Instant>,
    /// The same key and request make the same operation, however often they come.
    pub idempotency_key: Option<Arc<str>>,
    /// W3C trace context of the caller.
    pub traceparent: Option<Arc<str>>,
    /// The operation that makes the call.
    pub operation: Option<OperationUuid>,
    /// The queues that this operation, and those it runs for, hold: entered without waiting.
    pub held: Arc<[String]>,
}

impl Context {
    /// A call by `account`, with nothing else.
    #[must_use]
    pub fn of(account: AccountUuid) -> Self {
        Self {
            account,
            deadline: None,
            idempotency_key: None,
            traceparent: None,
            operation: None,
            held: Arc::new([]),
        }
    }

    /// The context of the running code. Outside of any call it is the system's own: the
    /// administrator's account without a deadline.
    #[must_use]
    pub fn current() -> Self {
        CURRENT
            .try_with(Clone::clone)
            .unwrap_or_else(|_| Self::of(AccountUuid::ADMIN))
    }

    /// Runs `future` in this context.
    pub async fn scope<F: Future>(self, future: F) -> F::Output {
        CURRENT.scope(self, future).await
    }

    /// The key of a resource that the call creates. With an idempotency key it follows from
    /// that, so that a repeat finds the owner, and the operation, of the first call.
    #[must_use]
    pub fn new_key(&self) -> String {
        match &self.idempotency_key {
            Some(key) => Uuid::new_v5(&self.account.0, key.as_bytes()),
            None => Uuid::now_v7(),
        }
        .to_string()
    }
}

tokio::task_local! {
    static CURRENT: Context;
}
