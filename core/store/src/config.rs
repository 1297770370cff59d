//! Where the database is.

use std::path::PathBuf;

use serde::Deserialize;

/// Where the database is, and how many may read it at once.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    /// The data directory, made if it is not there. One process at a time holds it.
    pub directory: PathBuf,
    /// Connections that read, beside the one that writes. At least 1.
    #[serde(default = "default_read_connections")]
    pub read_connections: u32,
}

impl StoreConfig {
    /// The database in `directory`, with everything else as it is by default.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            read_connections: default_read_connections(),
        }
    }
}

fn default_read_connections() -> u32 {
    4
}
