//! What every call passes on its way, a file each.

pub(crate) mod deadline;
pub(crate) mod route;
pub(crate) mod trace;
