//! What can go wrong with a query.

use cairn_store::StoreError;
use cairn_types::{Coded, ErrorCode};

/// Why a query gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// It is wrong.
    #[error("{}", list(fields))]
    Invalid {
        /// Each part of it that is wrong, as `conditions[0].values`, and what is wrong with what
        /// would be right.
        fields: Vec<(String, String)>,
    },
    /// The database failed.
    #[error("run the query")]
    Store(#[from] StoreError),
}

fn list(fields: &[(String, String)]) -> String {
    let each = fields
        .iter()
        .map(|(field, problem)| format!("{field}: {problem}"));
    each.collect::<Vec<_>>().join("; ")
}

impl Coded for QueryError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Invalid { .. } => ErrorCode::InvalidArgument,
            Self::Store(error) => error.code(),
        }
    }

    fn fields(&self) -> Vec<(String, String)> {
        match self {
            Self::Invalid { fields } => fields.clone(),
            Self::Store(_) => Vec::new(),
        }
    }
}
