//! Where the database is.

use std::path::PathBuf;

pub use crate::postgres::{PostgresConfig, WrongConfig};

/// Where the database is, and how many may read it at once.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The data directory, made if it is not there. One process at a time holds it.
    pub directory: PathBuf,
    /// Which database.
    pub database: DatabaseConfig,
    /// Connections that read, beside those that write. At least 1.
    pub read_connections: u32,
}

/// Which database there is.
#[derive(Debug, Clone)]
pub enum DatabaseConfig {
    /// A file in the data directory.
    Sqlite,
    /// A server.
    Postgres(PostgresConfig),
}

impl StoreConfig {
    /// A file in `directory`, with everything else as it is by default.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            database: DatabaseConfig::Sqlite,
            read_connections: 4,
        }
    }
}
