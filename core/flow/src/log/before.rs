//! Logs of before there were records: a row for the run, and one for each entry. Runs that they are
//! of go on with records.

use cairn_proto::fault::Fault;
use cairn_store::{Store, Value};
use cairn_types::OperationUuid;

use super::{Begin, Entry, Kind, Record};
use crate::{Direction, FlowError};

/// What was written of a run then, as records; none if nothing was.
pub(super) async fn records(store: &Store, operation: OperationUuid) -> Result<Vec<Record>, Fault> {
    let of_operation: Vec<Value> = vec![operation.into()];
    let run = "SELECT flow, steps, bag, fault FROM flow_run WHERE operation_uuid = ?";
    let runs = store.find_rows(run, of_operation.clone()).await?;
    let Some(run) = runs.first() else {
        return Ok(Vec::new());
    };
    let mut records = vec![Record {
        begin: Some(Begin {
            flow: run.text(0)?,
            steps: run.text(1)?,
            bag: run.bytes(2)?,
        }),
        turn: run.opt_bytes(3)?,
        ..Record::default()
    }];
    let entries = "SELECT step, direction, kind, payload, error, time FROM flow_log \
                   WHERE operation_uuid = ? ORDER BY sequence";
    for row in store.find_rows(entries, of_operation).await? {
        let direction = match row.text(1)?.as_str() {
            "rollback" => Direction::Rollback,
            _ => Direction::Run,
        };
        let kind = match row.text(2)?.as_str() {
            "intent" => Kind::Intent,
            "outcome" => Kind::Outcome,
            "failed" => Kind::Failed,
            "skipped" => Kind::Skipped,
            other => {
                return Err(FlowError::Log {
                    operation: operation.to_string(),
                    problem: format!("`{other}` is no kind of entry"),
                }
                .into());
            }
        };
        let entry = Entry {
            payload: row.opt_bytes(3)?,
            error: row.opt_text(4)?,
            ..Entry::new(&row.text(0)?, direction, kind)
        };
        records.push(Record {
            entries: vec![entry],
            time: row.int(5)?,
            ..Record::default()
        });
    }
    Ok(records)
}
