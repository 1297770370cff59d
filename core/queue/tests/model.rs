//! The queues against a model that is as simple as possible, action by action.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod model {
    pub(crate) mod flights;
    pub(crate) mod merge;
    pub(crate) mod queue;
}

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
};

/// Polls once, with a waker that wakes nobody.
fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}
