//! The log of a run: written with the boundaries of its steps, read after a crash.
//!
//! It is append-only: a record for each commit, a row for each record. The first one says how the
//! run began, so the records of an operation are all that there is of its run.

mod before;

use std::{
    collections::HashMap,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use cairn_boot::metrics::Counters;
use cairn_operation::{decode_fault, encode_fault};
use cairn_proto::fault::Fault;
use cairn_store::{Store, StoreError, Tx};
use cairn_types::OperationUuid;
use prost::{Enumeration, Message};

use crate::{Bag, Direction, FlowError};

static RECORDS: Counters<0> = Counters::new(
    "cairn_flow_log_records_total",
    "Records written to the logs of flows; one a commit.",
    [],
);

/// What an entry of the log says of a step. The numbers are in logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub(crate) enum Kind {
    /// It may have begun to do something outside.
    Intent = 1,
    /// It came to its end; the payload is what it provides.
    Outcome = 2,
    /// It failed.
    Failed = 3,
    /// It is left out.
    Skipped = 4,
}

/// One entry.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Entry {
    /// The step's path.
    #[prost(string, tag = "1")]
    pub(crate) step: String,
    /// It is about undoing it.
    #[prost(bool, tag = "2")]
    back: bool,
    #[prost(enumeration = "Kind", tag = "3")]
    kind: i32,
    /// A [`Bag`], encoded.
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub(crate) payload: Option<Bytes>,
    #[prost(string, optional, tag = "5")]
    pub(crate) error: Option<String>,
}

impl Entry {
    pub(crate) fn new(step: &str, direction: Direction, kind: Kind) -> Self {
        Self {
            step: step.to_owned(),
            back: direction == Direction::Rollback,
            kind: kind.into(),
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

    pub(crate) fn direction(&self) -> Direction {
        match self.back {
            true => Direction::Rollback,
            false => Direction::Run,
        }
    }
}

/// How a run began.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Begin {
    #[prost(string, tag = "1")]
    pub(crate) flow: String,
    /// See [`crate::part`].
    #[prost(string, tag = "2")]
    pub(crate) steps: String,
    /// The inputs: a [`Bag`], encoded.
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) bag: Bytes,
}

/// What one commit adds to the log.
#[derive(Clone, PartialEq, Message)]
struct Record {
    /// Of the first one.
    #[prost(message, optional, tag = "1")]
    begin: Option<Begin>,
    #[prost(message, repeated, tag = "2")]
    entries: Vec<Entry>,
    /// The run turns back because of this fault, encoded.
    #[prost(bytes = "bytes", optional, tag = "3")]
    turn: Option<Bytes>,
    /// When it was written, in microseconds since 1970.
    #[prost(int64, tag = "4")]
    time: i64,
}

/// A record that is to be written.
#[derive(Debug, Clone)]
pub(crate) struct Append {
    pub(crate) operation: OperationUuid,
    /// The number of the record.
    pub(crate) sequence: i64,
    pub(crate) begin: Option<Begin>,
    pub(crate) entries: Vec<Entry>,
    /// The run turns back because of this fault.
    pub(crate) turn: Option<Fault>,
}

impl Append {
    /// Writes it, unless nothing is in it. Returns the number of the next record.
    pub(crate) async fn write(self, tx: &mut Tx) -> Result<i64, StoreError> {
        if self.begin.is_none() && self.entries.is_empty() && self.turn.is_none() {
            return Ok(self.sequence);
        }
        let record = Record {
            begin: self.begin,
            entries: self.entries,
            turn: self.turn.map(|fault| encode_fault(&fault).into()),
            time: micros_now(),
        };
        let sql = "INSERT INTO flow_record (operation_uuid, sequence, record) VALUES (?, ?, ?)";
        let values = vec![
            self.operation.into(),
            self.sequence.into(),
            record.encode_to_vec().into(),
        ];
        tx.execute(sql, values).await?;
        RECORDS.add([]);
        Ok(self.sequence + 1)
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
    /// The number of the next record.
    pub(crate) sequence: i64,
}

/// The recorded run of an operation, if it has one.
pub(crate) async fn load(
    store: &Store,
    operation: OperationUuid,
) -> Result<Option<Recorded>, Fault> {
    let unreadable = |what: &str| FlowError::Log {
        operation: operation.to_string(),
        problem: format!("{what} cannot be decoded"),
    };
    let rows = store
        .find_rows(
            "SELECT record FROM flow_record WHERE operation_uuid = ? ORDER BY sequence",
            vec![operation.into()],
        )
        .await?;
    let mut records = Vec::with_capacity(rows.len());
    for row in rows {
        let record = Record::decode(row.bytes(0)?).map_err(|_| unreadable("a record"))?;
        if record.entries.iter().any(|it| !Kind::is_valid(it.kind)) {
            return Err(unreadable("an entry").into());
        }
        records.push(record);
    }
    let sequence = records.len() as i64;
    if records.first().is_none_or(|first| first.begin.is_none()) {
        records.splice(0..0, before::records(store, operation).await?);
    }
    let Some(begin) = records.first().and_then(|first| first.begin.clone()) else {
        return Ok(None);
    };
    let turn = records.iter().find_map(|record| record.turn.as_ref());
    let turned = turn.map(|fault| decode_fault(fault));
    let of_record = |Record { entries, time, .. }| entries.into_iter().map(move |it| (it, time));
    Ok(Some(Recorded {
        flow: begin.flow,
        steps: begin.steps,
        bag: Bag::decode(begin.bag).map_err(|_| unreadable("its input"))?,
        turned: turned.transpose().map_err(|_| unreadable("its fault"))?,
        entries: records.into_iter().flat_map(of_record).collect(),
        sequence,
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
            let place = match (entry.direction(), entry.kind()) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let record = Record {
            begin: Some(Begin {
                flow: "f".to_owned(),
                steps: "s".to_owned(),
                bag: Bytes::from_static(b"b"),
            }),
            entries: vec![
                Entry {
                    payload: Some(Bytes::from_static(b"p")),
                    ..Entry::new("a", Direction::Rollback, Kind::Outcome)
                },
                Entry {
                    error: Some("e".to_owned()),
                    ..Entry::new("b", Direction::Run, Kind::Failed)
                },
            ],
            turn: Some(Bytes::from_static(b"t")),
            time: 300,
        };
        let written = b"\x0a\x09\x0a\x01f\x12\x01s\x1a\x01b\
            \x12\x0a\x0a\x01a\x10\x01\x18\x02\x22\x01p\
            \x12\x08\x0a\x01b\x18\x03\x2a\x01e\
            \x1a\x01t\x20\xac\x02";
        assert_eq!(record.encode_to_vec(), written);
        assert_eq!(Record::decode(&written[..]).unwrap(), record);
        let kinds = [Kind::Intent, Kind::Outcome, Kind::Failed, Kind::Skipped];
        assert_eq!(kinds.map(i32::from), [1, 2, 3, 4]);
    }
}
