//! The two tables: the resource that everybody sees, and what only its run and repeat need.

use std::sync::Arc;

use bytes::Bytes;
use cairn_proto::{
    fault::Fault,
    meta::Resource,
    operation::v1alpha1::{Operation, OperationState},
};
use cairn_store::{Row, Store, StoreError, Tx, Value};
use cairn_types::{AccountUuid, OperationUuid};

use crate::{Ending, OperationError, decode_fault, encode_fault};

/// A checked call that is not written yet.
#[derive(Debug)]
pub(crate) struct NewOperation {
    pub(crate) operation: Operation,
    pub(crate) request: Bytes,
    pub(crate) digest: String,
    pub(crate) key: Option<(AccountUuid, String)>,
    /// The call's trace, which its runs belong to.
    pub(crate) traceparent: Option<Arc<str>>,
}

/// What became of it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Written {
    /// A row of its own.
    New,
    /// The same call was accepted before, as this operation.
    Repeat(OperationUuid),
    /// Another call used the key, as this operation.
    KeyReused(OperationUuid),
}

/// Writes new operations in their order.
pub(crate) async fn insert(tx: &mut Tx, new: &[NewOperation]) -> Result<Vec<Written>, Fault> {
    let last = "SELECT COALESCE(MAX(sequence), 0) FROM operation_request";
    let mut sequence = first(tx.rows(last, vec![]).await?, |row| row.int(0))?.unwrap_or(0);
    let mut written = Vec::with_capacity(new.len());
    for new in new {
        if let Some(before) = repeated(tx, new).await? {
            written.push(before);
            continue;
        }
        sequence += 1;
        tx.insert(&new.operation).await?;
        let (account, key) = new.key.clone().unzip();
        tx.execute(
            "INSERT INTO operation_request (operation_uuid, sequence, request, request_digest, \
             idempotency_account, idempotency_key, has_log, traceparent) \
             VALUES (?, ?, ?, ?, ?, ?, 0, ?)",
            vec![
                (&new.operation.uuid).into(),
                sequence.into(),
                new.request.clone().into(),
                (&new.digest).into(),
                account.into(),
                key.into(),
                new.traceparent.as_deref().into(),
            ],
        )
        .await?;
        written.push(Written::New);
    }
    Ok(written)
}

/// What was accepted before under the key of a call, if something was.
pub(crate) async fn find_repeated(
    store: &Store,
    new: &NewOperation,
) -> Result<Option<Written>, Fault> {
    let Some((account, key)) = &new.key else {
        return Ok(None);
    };
    let values = vec![(*account).into(), key.into()];
    before(store.rows(BY_KEY, values).await?, new)
}

async fn repeated(tx: &mut Tx, new: &NewOperation) -> Result<Option<Written>, Fault> {
    let Some((account, key)) = &new.key else {
        return Ok(None);
    };
    let values = vec![(*account).into(), key.into()];
    before(tx.rows(BY_KEY, values).await?, new)
}

const BY_KEY: &str = "SELECT operation_uuid, request_digest FROM operation_request \
                      WHERE idempotency_account = ? AND idempotency_key = ?";

fn before(rows: Vec<Row>, new: &NewOperation) -> Result<Option<Written>, Fault> {
    let Some((uuid, digest)) = first(rows, |row| Ok((row.text(0)?, row.text(1)?)))? else {
        return Ok(None);
    };
    let operation = parse(&uuid)?;
    Ok(Some(if digest == new.digest {
        Written::Repeat(operation)
    } else {
        Written::KeyReused(operation)
    }))
}

/// Whether an operation has not ended: all that most of its commits need to know.
pub(crate) async fn is_accepted(tx: &mut Tx, uuid: &str) -> Result<bool, Fault> {
    let sql = "SELECT state FROM operation WHERE uuid = ?";
    let state = first(tx.rows(sql, vec![uuid.into()]).await?, |row| row.text(0))?;
    let state = state.ok_or_else(|| Fault::not_found(Operation::NOUN, uuid))?;
    Ok(state == ACCEPTED)
}

/// The row of an operation.
pub(crate) async fn operation(tx: &mut Tx, uuid: &str) -> Result<Operation, Fault> {
    let operation = tx.get::<Operation>(uuid).await?;
    operation.ok_or_else(|| Fault::not_found(Operation::NOUN, uuid))
}

/// Writes an end.
pub(crate) async fn end(tx: &mut Tx, ending: &Ending) -> Result<(), StoreError> {
    tx.update(&ending.operation).await?;
    let (result, status) = match &ending.outcome {
        Ok(result) => (Value::Bytes(result.clone()), Value::Null),
        Err(fault) => (Value::Null, encode_fault(fault).into()),
    };
    tx.execute(
        "UPDATE operation_request SET result = ?, status = ? WHERE operation_uuid = ?",
        vec![result, status, (&ending.operation.uuid).into()],
    )
    .await?;
    Ok(())
}

const ENDING: &str = "SELECT result, status FROM operation_request WHERE operation_uuid = ?";

/// The end of an operation that has ended, in a transaction.
pub(crate) async fn ending_in(tx: &mut Tx, operation: Operation) -> Result<Ending, Fault> {
    let rows = tx.rows(ENDING, vec![(&operation.uuid).into()]).await?;
    ending_of(operation, rows)
}

/// The end of an operation that has ended.
pub(crate) async fn ending(store: &Store, operation: Operation) -> Result<Ending, Fault> {
    let rows = store.rows(ENDING, vec![(&operation.uuid).into()]).await?;
    ending_of(operation, rows)
}

fn ending_of(operation: Operation, rows: Vec<Row>) -> Result<Ending, Fault> {
    let stored = first(rows, |row| Ok((row.opt_bytes(0)?, row.opt_bytes(1)?)))?;
    let outcome = match stored {
        Some((Some(result), _)) => Ok(result),
        Some((None, Some(status))) => {
            Err(decode_fault(&status).map_err(|_| unreadable(&operation.uuid, "status"))?)
        }
        _ => return Err(unreadable(&operation.uuid, "end")),
    };
    Ok(Ending { operation, outcome })
}

/// Notes that the run of the operation has begun what it must bring to an end.
pub(crate) async fn mark_log(tx: &mut Tx, operation: OperationUuid) -> Result<(), StoreError> {
    let sql = "UPDATE operation_request SET has_log = 1 WHERE operation_uuid = ?";
    tx.execute(sql, vec![operation.into()]).await.map(|_| ())
}

/// An accepted operation that has not ended.
pub(crate) struct Unended {
    pub(crate) operation: Operation,
    pub(crate) request: Bytes,
    pub(crate) has_log: bool,
    pub(crate) traceparent: Option<Arc<str>>,
}

/// All operations that have not ended, in the order in which they were accepted. Those with a row
/// in one of the `logs` have a log.
pub(crate) async fn unended(store: &Store, logs: &[&str]) -> Result<Vec<Unended>, StoreError> {
    let logged: String = logs
        .iter()
        .map(|log| {
            format!(" OR EXISTS (SELECT 1 FROM {log} l WHERE l.operation_uuid = r.operation_uuid)")
        })
        .collect();
    let sql = format!(
        "SELECT r.operation_uuid, r.request, \
         CASE WHEN r.has_log <> 0{logged} THEN 1 ELSE 0 END, r.traceparent \
         FROM operation_request r JOIN operation o ON o.uuid = r.operation_uuid \
         WHERE o.state = ? \
         ORDER BY r.sequence, r.operation_uuid"
    );
    let rows = store.rows(&sql, vec![ACCEPTED.into()]).await?;
    let operations = store
        .list::<Operation>("state = ?", vec![ACCEPTED.into()])
        .await?;
    let mut operations: std::collections::HashMap<String, Operation> = operations
        .into_iter()
        .map(|operation| (operation.uuid.clone(), operation))
        .collect();
    let mut unended = Vec::with_capacity(rows.len());
    for row in rows {
        // One that ended between the two reads needs nothing.
        if let Some(operation) = operations.remove(&row.text(0)?) {
            unended.push(Unended {
                operation,
                request: row.bytes(1)?,
                has_log: row.bool(2)?,
                traceparent: row.opt_text(3)?.map(Into::into),
            });
        }
    }
    Ok(unended)
}

/// Asks an operation to end, unless it has: the row as it is then.
pub(crate) async fn request_cancel(
    tx: &mut Tx,
    uuid: OperationUuid,
) -> Result<Option<Operation>, StoreError> {
    let Some(mut operation) = tx.get::<Operation>(&uuid.to_string()).await? else {
        return Ok(None);
    };
    if operation.state() == OperationState::Accepted && !operation.cancel_requested {
        operation.cancel_requested = true;
        operation.stamp(crate::time::timestamp(crate::time::now()));
        tx.update(&operation).await?;
    }
    Ok(Some(operation))
}

/// The stored request of an operation.
pub(crate) async fn request(store: &Store, operation: &str) -> Result<Bytes, Fault> {
    let sql = "SELECT request FROM operation_request WHERE operation_uuid = ?";
    let rows = store.rows(sql, vec![operation.into()]).await?;
    first(rows, |row| row.bytes(0))?.ok_or_else(|| unreadable(operation, "request"))
}

/// Deletes at most `limit` operations that ended before `before`, with their rows in `logs`; not
/// those that have a row in `leftovers`. Returns how many.
pub(crate) async fn purge(
    tx: &mut Tx,
    before: i64,
    limit: u32,
    logs: &[&str],
    leftovers: Option<&str>,
) -> Result<usize, StoreError> {
    let kept = leftovers.map_or(String::new(), |table| {
        format!("AND NOT EXISTS (SELECT 1 FROM {table} WHERE {table}.uuid = operation.uuid) ")
    });
    let rows = tx
        .rows(
            &format!(
                "SELECT uuid FROM operation WHERE state <> ? AND end_time < ? {kept}\
                 ORDER BY end_time LIMIT ?"
            ),
            vec![ACCEPTED.into(), before.into(), limit.into()],
        )
        .await?;
    if rows.is_empty() {
        return Ok(0);
    }
    let uuids = rows
        .iter()
        .map(|row| Ok(Value::Text(row.text(0)?)))
        .collect::<Result<Vec<_>, StoreError>>()?;
    let places = vec!["?"; uuids.len()].join(", ");
    for table in logs.iter().chain(&["operation_request"]) {
        let sql = format!("DELETE FROM {table} WHERE operation_uuid IN ({places})");
        tx.execute(&sql, uuids.clone()).await?;
    }
    let sql = format!("DELETE FROM operation WHERE uuid IN ({places})");
    let count = uuids.len();
    tx.execute(&sql, uuids).await?;
    Ok(count)
}

/// The short name of the state, as its column holds it.
const ACCEPTED: &str = "Accepted";

fn first<T>(
    rows: Vec<Row>,
    read: impl FnOnce(&Row) -> Result<T, StoreError>,
) -> Result<Option<T>, StoreError> {
    rows.first().map(read).transpose()
}

pub(crate) fn parse(uuid: &str) -> Result<OperationUuid, Fault> {
    uuid.parse().map_err(|_| unreadable(uuid, "uuid"))
}

pub(crate) fn unreadable(operation: &str, what: &'static str) -> Fault {
    OperationError::Unreadable {
        operation: operation.to_owned(),
        what,
    }
    .into()
}
