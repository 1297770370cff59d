//! What is counted of operations:
//!
//! - `cairn_operations_accepted_total{method}`: calls that became an operation; a repeat did not.
//! - `cairn_operations_ended_total{method, state}`: `Succeeded`, `Failed`, `Cancelled`.
//! - `cairn_operations_waiting`: those in their queues that may not start yet.
//! - `cairn_operations_running`: those that run.

use cairn_boot::metrics::{Counted, Counters, Gauge};
use cairn_proto::{
    call::Method,
    operation::v1alpha1::{Operation, OperationState},
};

static ACCEPTED: Counters<1> = Counters::new(
    "cairn_operations_accepted_total",
    "Calls that became an operation.",
    ["method"],
);
static ENDED: Counters<2> = Counters::new(
    "cairn_operations_ended_total",
    "Operations that have ended.",
    ["method", "state"],
);
static WAITING: Gauge = Gauge::new(
    "cairn_operations_waiting",
    "Operations that wait in their queues.",
);
static RUNNING: Gauge = Gauge::new("cairn_operations_running", "Operations that run.");

pub(crate) fn accepted(method: &Method) {
    ACCEPTED.add([method.path]);
}

pub(crate) fn ended(operation: &Operation) {
    let state = match operation.state() {
        OperationState::Succeeded => "Succeeded",
        OperationState::Cancelled => "Cancelled",
        _ => "Failed",
    };
    ENDED.add([&operation.method, state]);
}

pub(crate) fn waiting() -> Counted {
    WAITING.count()
}

pub(crate) fn running() -> Counted {
    RUNNING.count()
}
