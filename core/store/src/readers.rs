//! The connections that read, of either database.

use crate::{Row, StoreError, Value, database::Kind, postgres, sqlite};

#[derive(Debug)]
pub(crate) enum Readers {
    Sqlite(sqlite::Readers),
    Postgres(postgres::Readers),
}

impl Readers {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Sqlite(_) => Kind::Sqlite,
            Self::Postgres(_) => Kind::Postgres,
        }
    }

    /// A read that finds a few rows by an index.
    pub(crate) async fn brief(
        &self,
        sql: &str,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, StoreError> {
        match self {
            Self::Sqlite(readers) => readers.brief(sql, values).await,
            Self::Postgres(readers) => readers.rows(sql, values).await,
        }
    }

    /// Any read.
    pub(crate) async fn rows(&self, sql: &str, values: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        match self {
            Self::Sqlite(readers) => readers.rows(sql, values).await,
            Self::Postgres(readers) => readers.rows(sql, values).await,
        }
    }

    /// Waits for those that read now.
    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite(readers) => readers.close().await,
            Self::Postgres(readers) => readers.close().await,
        }
    }
}
