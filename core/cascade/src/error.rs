//! Why a cascade cannot be found or executed.

use cairn_store::StoreError;
use cairn_types::{Coded, ErrorCode};

/// Why a cascade cannot be found or executed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CascadeError {
    /// There is no such type of resource.
    #[error("there is no resource type `{0}`")]
    NoType(String),
    /// There is no such resource.
    #[error("there is no {noun} {uuid}")]
    NoResource {
        /// Its noun.
        noun: String,
        /// Its uuid.
        uuid: String,
    },
    /// It is of a type whose resources are not deleted by themselves.
    #[error("{noun} {uuid} is not deleted by itself; delete what it is a part of")]
    Undeletable {
        /// Its noun.
        noun: String,
        /// Its uuid.
        uuid: String,
    },
    /// Its service cannot be asked to do something to a resource.
    #[error("`{method}` cannot be done to {noun} {uuid}: {problem}")]
    NoRequest {
        /// Its noun.
        noun: String,
        /// Its uuid.
        uuid: String,
        /// The rpc.
        method: String,
        /// What is in the way.
        problem: String,
    },
    /// What its proto says of those that need it leads nowhere.
    #[error("{noun} has dependents by the path `{path}`: {problem}")]
    Dependents {
        /// The noun of what is needed.
        noun: String,
        /// The path.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The database failed.
    #[error("look for what goes with a resource")]
    Store(#[from] StoreError),
}

impl Coded for CascadeError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NoType(_) => ErrorCode::InvalidArgument,
            Self::NoResource { .. } => ErrorCode::NotFound,
            Self::Undeletable { .. } => ErrorCode::WrongState,
            Self::NoRequest { .. } | Self::Dependents { .. } => ErrorCode::Internal,
            Self::Store(cause) => cause.code(),
        }
    }
}
