//! The log of a run: written with the boundaries of its steps, read after a crash.

use std::{
    collections::HashMap,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use cairn_boot::metrics::Counters;
use cairn_operation::{OperationContext, decode_fault, encode_fault};
use cairn_proto::fault::Fault;
use cairn_store::{Store, StoreError, Tx, Value};
use cairn_types::OperationUuid;
use prost::Message as _;

use crate::{Bag, Direction, FlowError};

static RECORDS: Counters<0> = Counters::new(
    "cairn_flow_log_records_total",
    "Records written to the logs of flows.",
    [],
);

/// How many entries one statement writes at most. A boundary has two, and one for each step that is
/// left out.
const ENTRIES_AT_ONCE: usize = 4;

/// What an entry of the log says of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It may have begun to do something outside.
    Intent,
    /// It came to its end; the payload is what it provides.
    Outcome,
    /// It failed.
    Failed,
    /// It is left out.
    Skipped,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Intent => "intent",
            Self::Outcome => "outcome",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let all = [Self::Intent, Self::Outcome, Self::Failed, Self::Skipped];
        all.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// One entry.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// The step's path.
    pub(crate) step: String,
    pub(crate) direction: Direction,
    pub(crate) kind: Kind,
    pub(crate) payload: Option<Bytes>,
    pub(crate) error: Option<String>,
}

impl Entry {
    pub(crate) fn new(step: &str, direction: Direction, kind: Kind) -> Self {
        Self {
            step: step.to_owned(),
            direction,
            kind,
            payload: None,
            error: None,
        }
    }

    pub(crate) fn outcome(step: &str, direction: Direction, provided: &Bag) -> Self {
        Self {
            payload: Some(provided.encode_to_vec().into()),
            ..Self::new(step, direction, Kind::Outcome)
        }
    }

    pub(crate) fn failed(step: &str, direction: Direction, fault: &Fault) -> Self {
        Self {
            error: Some(fault.message.clone()),
            ..Self::new(step, direction, Kind::Failed)
        }
    }
}

/// How a run began.
#[derive(Debug, Clone)]
pub(crate) struct Begin {
    pub(crate) flow: String,
    /// See [`crate::part`].
    pub(crate) steps: String,
    pub(crate) bag: Bytes,
}

/// What one commit adds to the log.
#[derive(Debug, Clone)]
pub(crate) struct Append {
    pub(crate) operation: OperationUuid,
    /// The number of the first entry.
    pub(crate) sequence: i64,
    pub(crate) begin: Option<Begin>,
    pub(crate) entries: Vec<Entry>,
    /// The run turns back because of this fault.
    pub(crate) turn: Option<Fault>,
}

impl Append {
    /// The number of the entry after these.
    pub(crate) fn after(&self) -> i64 {
        self.sequence + self.entries.len() as i64
    }

    pub(crate) async fn write(&self, tx: &mut Tx) -> Result<(), StoreError> {
        if let Some(Begin { flow, steps, bag }) = &self.begin {
            tx.execute(
                "INSERT INTO flow_run (operation_uuid, flow, steps, bag, direction) \
                 VALUES (?, ?, ?, ?, ?)",
                vec![
                    self.operation.into(),
                    flow.into(),
                    steps.into(),
                    bag.clone().into(),
                    Direction::Run.as_str().into(),
                ],
            )
            .await?;
            OperationContext::mark_log(tx, self.operation).await?;
        }
        self.write_entries(tx).await?;
        if let Some(fault) = &self.turn {
            tx.execute(
                "UPDATE flow_run SET direction = ?, fault = ? WHERE operation_uuid = ?",
                vec![
                    Direction::Rollback.as_str().into(),
                    encode_fault(fault).into(),
                    self.operation.into(),
                ],
            )
            .await?;
        }
        Ok(())
    }
}

impl Append {
    async fn write_entries(&self, tx: &mut Tx) -> Result<(), StoreError> {
        let operation = Value::from(self.operation);
        let time = micros_now();
        let mut sequence = self.sequence;
        for entries in self.entries.chunks(ENTRIES_AT_ONCE) {
            let rows = vec!["(?, ?, ?, ?, ?, ?, ?, ?)"; entries.len()].join(", ");
            let sql = format!(
                "INSERT INTO flow_log (operation_uuid, sequence, step, direction, kind, payload, \
                 error, time) VALUES {rows}"
            );
            let mut values = Vec::with_capacity(8 * entries.len());
            for entry in entries {
                values.extend([
                    operation.clone(),
                    sequence.into(),
                    (&entry.step).into(),
                    entry.direction.as_str().into(),
                    entry.kind.as_str().into(),
                    entry.payload.clone().into(),
                    entry.error.clone().into(),
                    time.into(),
                ]);
                sequence += 1;
                RECORDS.add([]);
            }
            tx.execute(&sql, values).await?;
        }
        Ok(())
    }
}

/// A run as it was recorded.
#[derive(Debug)]
pub(crate) struct Recorded {
    pub(crate) flow: String,
    /// What it was resolved to when it began, as it is stored.
    pub(crate) steps: String,
    pub(crate) bag: Bag,
    /// Why it turned back, if it did.
    pub(crate) turned: Option<Fault>,
    /// With the microseconds since 1970 at which each was written.
    pub(crate) entries: Vec<(Entry, i64)>,
}

/// The flow that an operation's run began with, if it has one.
pub(crate) async fn flow_of(
    store: &Store,
    operation: OperationUuid,
) -> Result<Option<String>, StoreError> {
    let sql = "SELECT flow FROM flow_run WHERE operation_uuid = ?";
    let rows = store.find_rows(sql, vec![operation.into()]).await?;
    rows.first().map(|row| row.text(0)).transpose()
}

/// The recorded run of an operation, if it has one.
pub(crate) async fn load(
    store: &Store,
    operation: OperationUuid,
) -> Result<Option<Recorded>, Fault> {
    let problem = |problem: &str| FlowError::Log {
        operation: operation.to_string(),
        problem: problem.to_owned(),
    };
    let of_operation: Vec<Value> = vec![operation.into()];
    let runs = store
        .find_rows(
            "SELECT flow, steps, bag, fault FROM flow_run WHERE operation_uuid = ?",
            of_operation.clone(),
        )
        .await?;
    let Some(run) = runs.first() else {
        return Ok(None);
    };
    let rows = store
        .find_rows(
            "SELECT step, direction, kind, payload, error, time FROM flow_log \
             WHERE operation_uuid = ? ORDER BY sequence",
            of_operation,
        )
        .await?;
    let mut entries = Vec::with_capacity(rows.len());
    for row in rows {
        let direction = match row.text(1)?.as_str() {
            "run" => Direction::Run,
            "rollback" => Direction::Rollback,
            _ => return Err(problem("a direction that is none").into()),
        };
        let kind = Kind::parse(&row.text(2)?).ok_or_else(|| problem("an entry of no kind"))?;
        let entry = Entry {
            step: row.text(0)?,
            direction,
            kind,
            payload: row.opt_bytes(3)?,
            error: row.opt_text(4)?,
        };
        entries.push((entry, row.int(5)?));
    }
    let turned = run.opt_bytes(3)?.map(|bytes| decode_fault(&bytes));
    Ok(Some(Recorded {
        flow: run.text(0)?,
        steps: run.text(1)?,
        bag: Bag::decode(run.bytes(2)?).map_err(|_| problem("its inputs cannot be decoded"))?,
        turned: turned
            .transpose()
            .map_err(|_| problem("its fault cannot be decoded"))?,
        entries,
    }))
}

/// What the recorded entries leave of each step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Place {
    /// It did nothing.
    #[default]
    Untouched,
    /// It may have done something.
    Begun,
    /// It is done.
    Done,
    /// It is left out.
    Skipped,
    /// It is undone.
    Undone,
}

impl Recorded {
    /// Where each step is.
    pub(crate) fn places(&self) -> HashMap<&str, Place> {
        let mut places = HashMap::new();
        for (entry, _) in &self.entries {
            let place = match (entry.direction, entry.kind) {
                (_, Kind::Skipped) => Place::Skipped,
                (Direction::Run, Kind::Intent | Kind::Failed) => Place::Begun,
                (Direction::Run, Kind::Outcome) => Place::Done,
                (Direction::Rollback, Kind::Outcome) => Place::Undone,
                (Direction::Rollback, Kind::Intent | Kind::Failed) => continue,
            };
            places.insert(entry.step.as_str(), place);
        }
        places
    }
}

pub(crate) fn micros_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(i64::MAX)
}
