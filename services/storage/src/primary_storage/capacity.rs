//! What a storage has on each host, and what of it is not reserved.

use std::time::Duration;

use cairn_agent::{AT_ONCE, Ack, Task, stored_uuid};
use cairn_agent_protocol::{PoolFacts, PoolSpace};
use cairn_proto::{
    fault::Fault,
    meta::Resource,
    storage::v1alpha1::{
        ImageCache, PrimaryStorage, PrimaryStorageAttachment, PrimaryStorageCapacity, Volume,
    },
};
use cairn_resource::now;
use cairn_store::{Row, Tx, Value};
use cairn_types::{ErrorCode, HostUuid, OperationUuid, TaskUuid, Uuid};
use futures::{StreamExt as _, stream};
use tracing::warn;

use crate::Area;

/// The agent makes a directory and asks its file system; more than this is a hanging machine.
const FACTS_LIMIT: Duration = Duration::from_secs(30);

/// What a storage has on a host, as its agent said.
pub(crate) struct Found {
    pub(crate) host: HostUuid,
    pub(crate) space: PoolSpace,
    pub(crate) ack: Ack,
}

impl Area {
    /// Asks hosts what a storage has on them.
    pub(crate) async fn pool_facts(
        &self,
        operation: OperationUuid,
        storage: &PrimaryStorage,
        hosts: &[HostUuid],
    ) -> Result<Vec<Found>, Fault> {
        let resource = stored_uuid(&storage.uuid)?;
        let asked = hosts.iter().map(|&host| async move {
            let step = format!("pool-facts/{}/{host}", storage.uuid);
            let task = Task {
                task: TaskUuid::of_step(operation, &step, "run"),
                operation,
                resource,
                limit: FACTS_LIMIT,
            };
            let path = storage.path.clone();
            let (space, ack) = self.hosts.call(host, task, &PoolFacts { path }).await?;
            Ok(Found { host, space, ack })
        });
        let asked: Vec<_> = asked.collect();
        let answers = stream::iter(asked).buffer_unordered(AT_ONCE);
        let answers: Vec<Result<Found, Fault>> = answers.collect().await;
        answers.into_iter().collect()
    }

    /// Learns what the storages of its cluster have on a host that has just connected.
    pub(crate) async fn prepare_host(
        &self,
        operation: OperationUuid,
        cluster: &str,
        host: HostUuid,
    ) -> Result<(), Fault> {
        let attached = "uuid IN (SELECT primary_storage_uuid FROM primary_storage_attachment \
                        WHERE cluster_uuid = ?) ORDER BY uuid";
        let storages = self.store.list(attached, vec![cluster.into()]).await?;
        for storage in storages {
            let found = self.pool_facts(operation, &storage, &[host]).await?;
            for Found { space, ack, .. } in found {
                let (storage, cluster) = (storage.clone(), cluster.to_owned());
                let learned = self.store.write(move |tx| {
                    let (storage, cluster) = (storage.clone(), cluster.clone());
                    Box::pin(async move {
                        // It may have been detached since it was listed.
                        if attachment(tx, &storage.uuid, &cluster).await?.is_some() {
                            learn(tx, &storage, &cluster, host, space).await?;
                        }
                        Ok::<_, Fault>(())
                    })
                });
                learned.await?;
                ack.committed();
            }
        }
        Ok(())
    }
}

impl Area {
    /// Removes the images that are cached on a host, which is being deleted and has no volumes, and
    /// forgets what storages have there. It may be repeated.
    ///
    /// Here the files go first: nothing is placed on the host any more, and what a failure keeps of it
    /// is still in the tables. No job waits for one that is away: it is none of the cloud's in a
    /// moment, and what it keeps is found by the doctor if it is ever added again.
    ///
    /// # Errors
    /// If the host answers, and fails.
    pub(crate) async fn release_host(
        &self,
        operation: OperationUuid,
        host: &str,
    ) -> Result<(), Fault> {
        match self.hosts.find(host).await? {
            Some((_, true)) => self.clear_host(operation, host).await?,
            _ => warn!(host, "a host that does not answer keeps its images"),
        }
        let uuid = host.to_owned();
        let forgotten = self.store.write(move |tx| {
            let uuid = uuid.clone();
            Box::pin(async move {
                for table in [
                    "image_cache",
                    "primary_storage_capacity",
                    "primary_storage_host",
                ] {
                    let sql = format!("DELETE FROM {table} WHERE host_uuid = ?");
                    tx.execute(&sql, vec![(&uuid).into()]).await?;
                }
                Ok::<_, Fault>(())
            })
        });
        forgotten.await
    }

    /// Removes the images that are cached on a host, each with its row after it.
    async fn clear_host(&self, operation: OperationUuid, host: &str) -> Result<(), Fault> {
        let caches = self.store.list("host_uuid = ?", vec![host.into()]).await?;
        let removals = caches.into_iter().map(|cache: ImageCache| async move {
            self.delete_file(operation, &cache).await?;
            let removed = self.store.write(move |tx| {
                let uuid = cache.uuid.clone();
                Box::pin(async move { tx.delete::<ImageCache>(&uuid).await })
            });
            removed.await?;
            Ok(())
        });
        let removals: Vec<_> = removals.collect();
        let ended = stream::iter(removals).buffer_unordered(AT_ONCE);
        let ended: Vec<Result<(), Fault>> = ended.collect().await;
        ended.into_iter().collect()
    }
}

/// The attachment of a storage to a cluster.
pub(super) async fn attachment(
    tx: &mut Tx,
    storage: &str,
    cluster: &str,
) -> Result<Option<PrimaryStorageAttachment>, Fault> {
    let both = "primary_storage_uuid = ? AND cluster_uuid = ?";
    let found = tx.list(both, vec![storage.into(), cluster.into()]).await?;
    Ok(found.into_iter().next())
}

/// Writes down what a storage has on a host.
pub(crate) async fn learn(
    tx: &mut Tx,
    storage: &PrimaryStorage,
    cluster: &str,
    host: HostUuid,
    space: PoolSpace,
) -> Result<(), Fault> {
    let sql = "INSERT INTO primary_storage_host (primary_storage_uuid, host_uuid, cluster_uuid) \
               VALUES (?, ?, ?) ON CONFLICT DO NOTHING";
    let values = vec![Value::from(&storage.uuid), host.into(), cluster.into()];
    tx.execute(sql, values).await?;
    let both = "primary_storage_uuid = ? AND host_uuid = ?";
    let values = vec![Value::from(&storage.uuid), host.into()];
    let known = tx
        .list::<PrimaryStorageCapacity>(both, values)
        .await?
        .into_iter()
        .next();
    let Some(mut known) = known else {
        let mut capacity = PrimaryStorageCapacity {
            uuid: Uuid::now_v7().to_string(),
            name: storage.name.clone(),
            account_uuid: storage.account_uuid.clone(),
            primary_storage_uuid: storage.uuid.clone(),
            host_uuid: Some(host.to_string()),
            total_bytes: space.total_bytes,
            available_bytes: space.available_bytes.min(space.total_bytes),
            ..PrimaryStorageCapacity::default()
        };
        capacity.stamp(now());
        tx.insert(&capacity).await?;
        let used = capacity.total_bytes - capacity.available_bytes;
        let sql = "UPDATE primary_storage_host SET used_before_bytes = ? \
                   WHERE primary_storage_uuid = ? AND host_uuid = ?";
        let values = vec![signed(used).into(), Value::from(&storage.uuid), host.into()];
        tx.execute(sql, values).await?;
        return Ok(());
    };
    // What is taken stays taken when the file system comes back larger or smaller. What the
    // agent calls free cannot be used: linked clones grow into what they reserved.
    let taken = known.total_bytes.saturating_sub(known.available_bytes);
    known.total_bytes = space.total_bytes;
    known.available_bytes = space.total_bytes.saturating_sub(taken);
    known.stamp(now());
    tx.update(&known).await?;
    Ok(())
}

/// Takes space on a host, on the enabled storage that has most left there. Returns the storage.
pub(crate) async fn reserve(tx: &mut Tx, host: HostUuid, bytes: u64) -> Result<String, Fault> {
    let size = signed(bytes);
    let usable = "FROM primary_storage_capacity c \
                  JOIN primary_storage p ON p.uuid = c.primary_storage_uuid \
                  JOIN primary_storage_host h \
                  ON h.primary_storage_uuid = c.primary_storage_uuid AND h.host_uuid = c.host_uuid \
                  WHERE c.host_uuid = ? AND p.state = 'Enabled' \
                  ORDER BY c.available_bytes DESC, c.uuid LIMIT 1";
    let sql = format!(
        "UPDATE primary_storage_capacity SET available_bytes = available_bytes - ? \
         WHERE uuid = (SELECT c.uuid {usable}) AND available_bytes >= ? \
         RETURNING primary_storage_uuid"
    );
    let values = vec![size.into(), host.into(), size.into()];
    if let Some(taken) = tx.rows(&sql, values).await?.first() {
        return Ok(taken.text(0)?);
    }
    let sql = format!("SELECT c.primary_storage_uuid, c.available_bytes {usable}");
    let most = tx.rows(&sql, vec![host.into()]).await?;
    Err(no_space(host, bytes, most.first())?)
}

fn no_space(host: HostUuid, bytes: u64, most: Option<&Row>) -> Result<Fault, Fault> {
    let message = match most {
        None => format!("host {host} has no enabled primary storage; {bytes} bytes are needed"),
        Some(row) => format!(
            "{bytes} bytes are needed on host {host}; the primary storage with most left, {}, has \
             {} bytes",
            row.text(0)?,
            row.int(1)?
        ),
    };
    Ok(Fault::new(ErrorCode::OutOfCapacity, message))
}

/// Gives the space of a volume back.
pub(crate) async fn give_back(tx: &mut Tx, volume: &Volume) -> Result<(), Fault> {
    let size = signed(volume.size_bytes);
    // Never more than there is: the file system may have shrunk below what was taken.
    let sql = "UPDATE primary_storage_capacity SET available_bytes = \
               CASE WHEN available_bytes + ? > total_bytes THEN total_bytes \
               ELSE available_bytes + ? END \
               WHERE primary_storage_uuid = ? AND host_uuid = ?";
    let values = vec![
        size.into(),
        size.into(),
        Value::from(&volume.primary_storage_uuid),
        volume.host_uuid.clone().into(),
    ];
    tx.execute(sql, values).await?;
    Ok(())
}

/// Sizes that are stored fit; a larger one asks for more than any place has.
pub(crate) fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
