//! What is counted of operations:
//!
//! - `cairn_operations_accepted_total{method}`: calls that became an operation; a repeat did not.
//! - `cairn_operations_ended_total{method, state}`: `Succeeded`, `Failed`, `Cancelled`.
//! - `cairn_operations_refused_total{reason}`: calls that did not become one, and operations that
//!   did not start, by the code of what stood against it: a full queue, a circle, a cap.
//! - `cairn_operations_waiting`: those in their queues that may not start yet.
//! - `cairn_operations_running`: those that run.

use cairn_boot::metrics::{Counted, Counters, Gauge};
use cairn_proto::{
    call::Method,
    operation::v1alpha1::{Operation, OperationState},
};
use cairn_types::Coded;

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
static REFUSED: Counters<1> = Counters::new(
    "cairn_operations_refused_total",
    "Calls and operations that were refused for what else is under way.",
    ["reason"],
);
static WAITING: Gauge = Gauge::new(
    "cairn_operations_waiting",
    "Operations that wait in their queues.",
);
static RUNNING: Gauge = Gauge::new("cairn_operations_running", "Operations that run.");

pub(crate) fn accepted(method: &Method) {
    ACCEPTED.add([method.path]);
}

pub(crate) fn refused(reason: &dyn Coded) {
    REFUSED.add([reason.code().as_str()]);
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
