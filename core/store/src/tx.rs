//! A transaction, as the closure of a write sees it.

use std::{ops::ControlFlow, sync::Arc};

use bytes::Bytes;
use cairn_proto::meta::{Catalog, Resource, ResourceType};
use prost::Message as _;
use prost_reflect::{DynamicMessage, ReflectMessage as _};

use crate::{
    Row, StoreError, Value,
    database::Answer,
    postgres, sqlite,
    tables::{Table, Tables},
    wire,
};

/// What [`Store::write`](crate::Store::write) hands to its closure: the database as it will be
/// when the write is committed.
///
/// A statement that fails, for instance since there is such a row already, changes nothing, and the
/// closure may go on. An error that ends the transaction fails the write, whatever the closure makes
/// of it.
///
/// On SQLite several writes share one transaction, and an error undoes the write that it is of. On
/// PostgreSQL a write has a transaction for itself.
#[derive(Debug)]
pub struct Tx {
    pub(crate) writing: Writing,
    pub(crate) tables: Arc<Tables>,
}

/// What writes.
#[derive(Debug)]
pub(crate) enum Writing {
    Sqlite(sqlite::Session),
    Postgres(postgres::Session),
}

impl Tx {
    pub(crate) fn new(writing: Writing, tables: Arc<Tables>) -> Self {
        Self { writing, tables }
    }

    /// The resources that are known.
    #[must_use]
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.tables.catalog
    }

    /// Whether the resource of that noun has a table here.
    #[must_use]
    pub fn has_table(&self, noun: &str) -> bool {
        self.tables.get(noun).is_ok()
    }

    /// Stores a new resource.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`] if there is one with that uuid, [`StoreError::Going`] if it
    /// refers to one that is being deleted.
    pub async fn insert<R: Resource>(&mut self, resource: &R) -> Result<(), StoreError> {
        self.insert_encoded(R::NOUN, &resource.encode_to_vec())
            .await
    }

    /// Replaces the whole row of a resource. False if there is none with that uuid.
    ///
    /// # Errors
    /// If a field cannot be stored or the database fails.
    pub async fn update<R: Resource>(&mut self, resource: &R) -> Result<bool, StoreError> {
        self.update_encoded(R::NOUN, &resource.encode_to_vec())
            .await
    }

    /// Deletes a resource. False if there was none with that uuid.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn delete<R: Resource>(&mut self, uuid: &str) -> Result<bool, StoreError> {
        self.delete_noun(R::NOUN, uuid).await
    }

    /// The resource with that uuid.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn get<R: Resource>(&mut self, uuid: &str) -> Result<Option<R>, StoreError> {
        let encoded = self.get_encoded(R::NOUN, uuid).await?;
        let found = decode_all(&encoded)?;
        Ok(found.into_iter().next())
    }

    /// The resources that fulfil a condition: what stands behind WHERE, which may go on with
    /// ORDER BY and LIMIT; empty for all.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn list<R: Resource>(
        &mut self,
        sql_where: &str,
        values: Vec<Value>,
    ) -> Result<Vec<R>, StoreError> {
        let encoded = self.list_encoded(R::NOUN, sql_where, values).await?;
        decode_all(&encoded)
    }

    /// Stores a new resource that is known by its descriptor only.
    ///
    /// # Errors
    /// As [`insert`](Self::insert).
    pub async fn insert_dynamic(
        &mut self,
        resource: &ResourceType,
        message: &DynamicMessage,
    ) -> Result<(), StoreError> {
        let encoded = encode_dynamic(resource, message)?;
        self.insert_encoded(&resource.name, &encoded).await
    }

    /// Replaces the whole row of a resource that is known by its descriptor only.
    ///
    /// # Errors
    /// As [`update`](Self::update).
    pub async fn update_dynamic(
        &mut self,
        resource: &ResourceType,
        message: &DynamicMessage,
    ) -> Result<bool, StoreError> {
        let encoded = encode_dynamic(resource, message)?;
        self.update_encoded(&resource.name, &encoded).await
    }

    /// Deletes a resource that is known by its descriptor only.
    ///
    /// # Errors
    /// As [`delete`](Self::delete).
    pub async fn delete_dynamic(
        &mut self,
        resource: &ResourceType,
        uuid: &str,
    ) -> Result<bool, StoreError> {
        self.delete_noun(&resource.name, uuid).await
    }

    /// The resource with that uuid, known by its descriptor only.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn get_dynamic(
        &mut self,
        resource: &ResourceType,
        uuid: &str,
    ) -> Result<Option<DynamicMessage>, StoreError> {
        let encoded = self.get_encoded(&resource.name, uuid).await?;
        decode_dynamic(resource, encoded)
    }

    /// The rows of a SELECT, or of a change with RETURNING. Values take the places of `?`.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn rows(&mut self, sql: &str, values: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        self.run(sql, values).await.map(|answer| answer.rows)
    }

    /// As [`rows`](Self::rows), for many of which few are kept: lends each to `visit`, until that
    /// returns an error. What is left in a row may be used again for the next one; `mem::take` keeps
    /// it.
    ///
    /// # Errors
    /// What `visit` returns, and if the database fails.
    pub async fn each(
        &mut self,
        sql: &str,
        values: Vec<Value>,
        mut visit: impl FnMut(&mut Row) -> Result<(), StoreError> + Send,
    ) -> Result<(), StoreError> {
        let session = match &mut self.writing {
            Writing::Sqlite(session) => session,
            Writing::Postgres(session) => {
                let mut rows = session.run(sql, values).await?.rows;
                return rows.iter_mut().try_for_each(visit);
            }
        };
        let mut visited = Ok(());
        session.each(sql, values, &mut |row| {
            visited = visit(row);
            match visited {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        })?;
        visited
    }

    /// Makes a change, and returns how many rows it changed. Values take the places of `?`.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn execute(&mut self, sql: &str, values: Vec<Value>) -> Result<u64, StoreError> {
        self.run(sql, values).await.map(|answer| answer.affected)
    }

    /// How many resources of which nouns refer to this one; none with a count of zero. If it is
    /// going, those that go with it do not count, nor references that are cleared with it.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn referrers(
        &mut self,
        noun: &str,
        uuid: &str,
    ) -> Result<Vec<(String, u64)>, StoreError> {
        let Some((sql, times)) = self.tables.count_referrers(noun) else {
            return Ok(Vec::new());
        };
        let mut referrers = Vec::new();
        for row in self.rows(&sql, vec![uuid.into(); times]).await? {
            let count = u64::try_from(row.int(1)?).unwrap_or_default();
            if count > 0 {
                referrers.push((row.text(0)?, count));
            }
        }
        Ok(referrers)
    }

    async fn insert_encoded(&mut self, noun: &str, message: &[u8]) -> Result<(), StoreError> {
        let tables = Arc::clone(&self.tables);
        let table = tables.get(noun)?;
        let values = wire::values(&table.resource, message)?;
        let uuid = uuid_of(&values);
        let what = || format!("{noun} {uuid}");
        match self.insert_unless_going(table, values, &uuid).await {
            Ok(None) => Ok(()),
            Ok(Some(refers_to)) => Err(StoreError::Going {
                what: what(),
                refers_to,
            }),
            Err(StoreError::AlreadyExists { constraint, .. }) => Err(StoreError::AlreadyExists {
                what: what(),
                constraint,
            }),
            Err(error) => Err(error),
        }
    }

    /// Inserts a row, unless it refers to one that is going: returns that one. SQLite makes a table of
    /// its own for what a change returns, and a server is worth a statement less.
    async fn insert_unless_going(
        &mut self,
        table: &Table,
        mut values: Vec<Value>,
        uuid: &str,
    ) -> Result<Option<String>, StoreError> {
        if table.references.is_empty() {
            return self.run(&table.insert, values).await.map(|_| None);
        }
        let references = table.references.iter();
        let references: Vec<_> = references.map(|place| values[*place].clone()).collect();
        if let Writing::Sqlite(_) = &self.writing {
            if let Some(row) = self.rows(&table.going, references).await?.first() {
                return row.text(0).map(Some);
            }
            return self.run(&table.insert, values).await.map(|_| None);
        }
        values.extend(references);
        let rows = self.rows(&table.insert_looking, values).await?;
        let going = rows.first().map(|row| row.opt_text(0)).transpose()?;
        let going = going.flatten();
        if going.is_some() {
            self.run(&table.delete, vec![uuid.into()]).await?;
        }
        Ok(going)
    }

    async fn update_encoded(&mut self, noun: &str, message: &[u8]) -> Result<bool, StoreError> {
        let tables = Arc::clone(&self.tables);
        let table = tables.get(noun)?;
        let mut values = wire::values(&table.resource, message)?;
        values.push(uuid_of(&values).into());
        let answer = self.run(&table.update, values).await?;
        Ok(answer.affected > 0)
    }

    async fn delete_noun(&mut self, noun: &str, uuid: &str) -> Result<bool, StoreError> {
        let tables = Arc::clone(&self.tables);
        let table = tables.get(noun)?;
        self.clear_references(noun, uuid).await?;
        let answer = self.run(&table.delete, vec![uuid.into()]).await?;
        Ok(answer.affected > 0)
    }

    async fn get_encoded(&mut self, noun: &str, uuid: &str) -> Result<Vec<Bytes>, StoreError> {
        let tables = Arc::clone(&self.tables);
        let table = tables.get(noun)?;
        let rows = self.rows(&table.get, vec![uuid.into()]).await?;
        encode_all(&table.resource, &rows)
    }

    async fn list_encoded(
        &mut self,
        noun: &str,
        sql_where: &str,
        values: Vec<Value>,
    ) -> Result<Vec<Bytes>, StoreError> {
        let tables = Arc::clone(&self.tables);
        let table = tables.get(noun)?;
        let rows = self.rows(&table.select_where(sql_where), values).await?;
        encode_all(&table.resource, &rows)
    }

    async fn run(&mut self, sql: &str, values: Vec<Value>) -> Result<Answer, StoreError> {
        match &mut self.writing {
            Writing::Sqlite(session) => session.run(sql, values),
            Writing::Postgres(session) => session.run(sql, values).await,
        }
    }
}

/// The first field is the uuid; the catalog sees to that.
fn uuid_of(values: &[Value]) -> String {
    match values.first() {
        Some(Value::Text(uuid)) => uuid.clone(),
        _ => String::new(),
    }
}

pub(crate) fn encode_all(resource: &ResourceType, rows: &[Row]) -> Result<Vec<Bytes>, StoreError> {
    let encoded = rows.iter();
    encoded
        .map(|row| wire::encode_row(resource, &resource.fields, row))
        .collect()
}

pub(crate) fn decode_all<R: Resource>(encoded: &[Bytes]) -> Result<Vec<R>, StoreError> {
    let decoded = encoded.iter().map(|message| {
        R::decode(message.clone()).map_err(|cause| StoreError::Decode {
            resource: R::NOUN.to_owned(),
            cause,
        })
    });
    decoded.collect()
}

pub(crate) fn decode_dynamic(
    resource: &ResourceType,
    encoded: Vec<Bytes>,
) -> Result<Option<DynamicMessage>, StoreError> {
    let Some(message) = encoded.into_iter().next() else {
        return Ok(None);
    };
    let decoded = DynamicMessage::decode(resource.message.clone(), message);
    decoded.map(Some).map_err(|cause| StoreError::Decode {
        resource: resource.name.clone(),
        cause,
    })
}

fn encode_dynamic(
    resource: &ResourceType,
    message: &DynamicMessage,
) -> Result<Vec<u8>, StoreError> {
    let found = message.descriptor();
    if found.full_name() != resource.message.full_name() {
        return Err(StoreError::OtherMessage {
            resource: resource.name.clone(),
            found: found.full_name().to_owned(),
        });
    }
    Ok(message.encode_to_vec())
}
