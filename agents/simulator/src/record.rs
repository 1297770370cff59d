//! Every command that ran, for those who check that none ran twice, overlapped or came late.

use std::collections::HashMap;

use serde::Serialize;
use tokio::sync::watch;

use cairn_agent_protocol::{CommandError, TaskContext};
use cairn_types::{HostUuid, OperationUuid, TaskUuid, Uuid};

/// A command that an agent ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Record {
    /// The host.
    pub host: HostUuid,
    /// The command's name.
    pub command: &'static str,
    /// The task.
    pub task: TaskUuid,
    /// Its operation.
    pub operation: OperationUuid,
    /// The resource.
    pub resource: Uuid,
    /// The fencing token.
    pub token: u64,
    /// Its place among all starts and ends.
    pub started: u64,
    /// The place of its end among all starts and ends.
    pub ended: Option<u64>,
    /// How it ended.
    pub outcome: Option<RecordOutcome>,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordOutcome {
    /// It took place.
    Ok,
    /// It failed.
    Failed(CommandError),
    /// It was dropped: its time limit passed, it panicked, or the agent stopped.
    Dropped,
}

/// All records of a simulator.
#[derive(Debug)]
pub(crate) struct Records {
    /// Whoever waits for a command to begin or end watches this.
    pub(crate) all: watch::Sender<Vec<Record>>,
    log: std::sync::Mutex<Log>,
}

#[derive(Debug, Default)]
struct Log {
    last_place: u64,
    by_task: HashMap<(HostUuid, TaskUuid), usize>,
}

impl Default for Records {
    fn default() -> Self {
        Self {
            all: watch::Sender::new(Vec::new()),
            log: std::sync::Mutex::default(),
        }
    }
}

impl Records {
    /// Notes that a command begins. Its end is noted when the guard goes.
    pub(crate) fn start(&self, command: &'static str, cx: &TaskContext) -> Running<'_> {
        let mut index = 0;
        self.all.send_modify(|all| {
            let mut log = crate::simulator::lock(&self.log);
            log.last_place += 1;
            index = all.len();
            log.by_task.insert((cx.host, cx.task), index);
            all.push(Record {
                host: cx.host,
                command,
                task: cx.task,
                operation: cx.operation,
                resource: cx.resource,
                token: cx.token,
                started: log.last_place,
                ended: None,
                outcome: None,
            });
        });
        Running {
            records: self,
            index,
            outcome: RecordOutcome::Dropped,
        }
    }

    /// The command and resource of a task that ran.
    pub(crate) fn of_task(&self, host: HostUuid, task: TaskUuid) -> Option<(&'static str, Uuid)> {
        let index = *crate::simulator::lock(&self.log)
            .by_task
            .get(&(host, task))?;
        self.all
            .borrow()
            .get(index)
            .map(|record| (record.command, record.resource))
    }
}

/// A command that runs.
pub(crate) struct Running<'a> {
    records: &'a Records,
    index: usize,
    pub(crate) outcome: RecordOutcome,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let outcome = std::mem::replace(&mut self.outcome, RecordOutcome::Dropped);
        self.records.all.send_modify(|all| {
            let mut log = crate::simulator::lock(&self.records.log);
            log.last_place += 1;
            if let Some(record) = all.get_mut(self.index) {
                record.ended = Some(log.last_place);
                record.outcome = Some(outcome);
            }
        });
    }
}
