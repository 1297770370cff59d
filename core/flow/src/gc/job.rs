//! The row of a job: made when an operation ends, moved on when an attempt fails.

use std::time::{Duration, SystemTime};

use cairn_proto::{
    fault::Fault,
    meta::Resource,
    operation::v1alpha1::{GcJob, Operation},
};
use cairn_store::{Store, Tx, Value};
use cairn_types::{ErrorCode, OperationUuid, Uuid};
use prost_types::Timestamp;

use super::{FIRST_PAUSE, LONGEST_PAUSE};
use crate::{Direction, log::micros_now};

/// What a flow leaves.
#[derive(Debug)]
pub(crate) struct Leaving {
    pub(crate) operation: OperationUuid,
    pub(crate) flow: String,
    /// The steps that are left, in the order in which they come.
    pub(crate) steps: String,
    pub(crate) direction: Direction,
    /// Why the first of them failed.
    pub(crate) reason: Fault,
}

impl Leaving {
    /// Makes the job, in the transaction that ends the operation.
    pub(crate) async fn write(&self, tx: &mut Tx) -> Result<(), Fault> {
        let uuid = self.operation.to_string();
        let operation = tx.get::<Operation>(&uuid).await?;
        let operation = operation.ok_or_else(|| Fault::not_found(Operation::NOUN, &uuid))?;
        let now = now();
        let mut job = GcJob {
            uuid,
            name: operation.name,
            account_uuid: operation.account_uuid,
            create_time: Some(now),
            last_operation_time: Some(now),
            flow: self.flow.clone(),
            resource_uuid: operation.resource_uuid,
            steps: self.steps.clone(),
            rolls_back: self.direction == Direction::Rollback,
            ..GcJob::default()
        };
        schedule(&mut job, &self.reason);
        tx.insert(&job).await?;
        Ok(())
    }
}

/// Says what a job that failed waits for, and when it is tried again in any case.
fn schedule(job: &mut GcJob, reason: &Fault) {
    job.last_error = reason.message.clone();
    let gone = match reason.code {
        ErrorCode::AgentUnreachable | ErrorCode::Unavailable => reason.resource.clone(),
        _ => None,
    };
    (job.waits_for_type, job.waits_for_uuid) = gone.unzip();
    job.due_time = Some(after(pause(job.attempts)));
}

/// The pause after so many attempts: up to a fifth more or less, so that what failed together does
/// not come back together.
fn pause(attempts: u32) -> Duration {
    let doubled = 1_u32.checked_shl(attempts).unwrap_or(u32::MAX);
    let pause = FIRST_PAUSE.saturating_mul(doubled).min(LONGEST_PAUSE);
    let share = Uuid::new_v4().as_u128() % 401;
    let per_mille = 800 + u32::try_from(share).unwrap_or_default();
    pause / 1_000 * per_mille
}

/// Moves a job on whose attempt failed. Nothing, if it was given up meanwhile.
pub(super) async fn failed(store: &Store, tried: &GcJob, fault: &Fault) -> Result<(), Fault> {
    let (uuid, fault) = (tried.uuid.clone(), fault.clone());
    let failed = store.write(move |tx| {
        let (uuid, fault) = (uuid.clone(), fault.clone());
        Box::pin(async move {
            let Some(mut job) = tx.get::<GcJob>(&uuid).await? else {
                return Ok(());
            };
            job.attempts += 1;
            job.last_operation_time = Some(now());
            schedule(&mut job, &fault);
            tx.update(&job).await?;
            Ok::<_, Fault>(())
        })
    });
    failed.await
}

/// Says that something is back: jobs that wait for it are due now.
///
/// # Errors
/// What the database says.
pub async fn wake(tx: &mut Tx, noun: &str, uuid: &str) -> Result<(), Fault> {
    let sql = "UPDATE gc_job SET due_time = ? WHERE waits_for_type = ? AND waits_for_uuid = ?";
    let values = vec![Value::Int(micros_now()), noun.into(), uuid.into()];
    tx.execute(sql, values).await?;
    Ok(())
}

/// The job that is left of one of these flows about a resource, if there is one: somebody goes on
/// with what another operation would begin anew.
///
/// # Errors
/// What the database says.
pub async fn left_of(tx: &mut Tx, resource: &str, flows: &[&str]) -> Result<Option<String>, Fault> {
    let about = "resource_uuid = ? ORDER BY create_time, uuid";
    let jobs = tx.list::<GcJob>(about, vec![resource.into()]).await?;
    let mut left = jobs.into_iter().filter(|job| flows.contains(&&*job.flow));
    Ok(left.next().map(|job| job.uuid))
}

/// Jobs that are due, those first that have waited longest; at most so many.
pub(super) async fn due(store: &Store, most: usize) -> Result<Vec<GcJob>, Fault> {
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let values = vec![Value::Int(micros_now()), Value::Int(most)];
    let due = "due_time <= ? ORDER BY due_time, uuid LIMIT ?";
    Ok(store.list::<GcJob>(due, values).await?)
}

/// How many jobs there are.
pub(super) struct Counted {
    pub(super) count: i64,
    /// When the oldest was made.
    pub(super) oldest: Option<SystemTime>,
}

pub(super) async fn counted(store: &Store) -> Result<Counted, Fault> {
    let sql = "SELECT COUNT(*), MIN(create_time) FROM gc_job";
    let rows = store.rows(sql, vec![]).await?;
    let Some(row) = rows.first() else {
        return Ok(Counted {
            count: 0,
            oldest: None,
        });
    };
    let oldest = row
        .opt_int(1)?
        .and_then(|micros| u64::try_from(micros).ok());
    Ok(Counted {
        count: row.int(0)?,
        oldest: oldest.map(|micros| SystemTime::UNIX_EPOCH + Duration::from_micros(micros)),
    })
}

fn now() -> Timestamp {
    after(Duration::ZERO)
}

/// To the microsecond, as it is stored.
fn after(pause: Duration) -> Timestamp {
    let mut time = Timestamp::from(SystemTime::now() + pause);
    time.nanos -= time.nanos % 1_000;
    time
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_vary_by_a_fifth() {
        for (attempts, seconds) in [(0, 10), (1, 20), (3, 80), (9, 3_600), (40, 3_600)] {
            let around = Duration::from_secs(seconds);
            for _ in 0..200 {
                let pause = pause(attempts);
                let fits = pause >= around * 4 / 5 && pause <= around * 6 / 5;
                assert!(fits, "{pause:?} after {attempts} attempts");
            }
        }
    }
}
