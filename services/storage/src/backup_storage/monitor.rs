//! Watching: in rounds, whether each server is reached, and what is left there.

use cairn_proto::{
    fault::Fault,
    storage::v1alpha1::{BackupStorage, BackupStorageStatus},
};
use futures::{StreamExt as _, stream};
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use crate::Area;

/// Servers that are looked at at once.
const AT_ONCE: usize = 16;

impl Area {
    /// Watches over the backup storages, without end.
    pub(crate) async fn watch(&self) {
        let mut rounds = tokio::time::interval(self.watch);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            self.uploads.tidy();
            self.copies.tidy(|()| false);
            if let Err(fault) = self.round().await {
                warn!(error = fault.message, "look at the backup storages");
            }
        }
    }

    async fn round(&self) -> Result<(), Fault> {
        let storages = self.store.list::<BackupStorage>("", vec![]).await?;
        let looks = storages.iter().map(|storage| async move {
            let found = self.look(storage).await;
            let uuid = &storage.uuid;
            let was = storage.status() == BackupStorageStatus::Connected;
            match &found {
                Ok(_) if !was => info!(backup_storage = uuid, "connected"),
                Err(fault) if was => {
                    warn!(
                        backup_storage = uuid,
                        error = fault.message,
                        "a server is lost"
                    );
                }
                _ => {}
            }
            self.note(storage, found.ok()).await
        });
        let looks: Vec<_> = looks.collect();
        let mut looks = stream::iter(looks).buffer_unordered(AT_ONCE);
        while let Some(noted) = looks.next().await {
            noted?;
        }
        Ok(())
    }
}
