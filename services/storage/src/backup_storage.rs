//! Backup storages: a folder on an SFTP server, with the files of images. The server is connected
//! to before the row says that it is there.

mod connect;
mod monitor;
mod select;

use std::sync::Arc;

use async_trait::async_trait;
use cairn_flow::gc;
use cairn_operation::{Builder, Ended, KeyedHandler, OperationContext};
use cairn_proto::{
    compute::v1alpha1::ResourceState,
    crud::{Check, Create as _, Keyed as _, Update as _},
    fault::Fault,
    meta::Resource,
    storage::v1alpha1::{
        BackupStorage, CreateBackupStorageRequest, DeleteBackupStorageRequest,
        ReconnectBackupStorageRequest, UpdateBackupStorageRequest,
    },
};
use cairn_resource::{Deleting, check_references, now};
use cairn_sftp::{HostKey, InvalidHostKey, address_problem};
use cairn_store::Tx;

use crate::{Area, path::path_problem};

pub(crate) use connect::{PROBE, images, on};

/// The longest name of a user, as Linux has it.
const USERNAME_MAX: usize = 32;

pub(crate) fn register(operations: Builder, area: &Arc<Area>) -> Builder {
    operations
        .register(Create(Arc::clone(area)))
        .register(Update(Arc::clone(area)))
        .register(Reconnect(Arc::clone(area)))
        .register(Deleting::<DeleteBackupStorageRequest>::plain())
}

impl Area {
    pub(crate) async fn backup_storage(&self, uuid: &str) -> Result<BackupStorage, Fault> {
        let storage = self.store.get::<BackupStorage>(uuid).await?;
        storage.ok_or_else(|| Fault::not_found(BackupStorage::NOUN, uuid))
    }

    /// Connects, and fills in what is learned; or gives up when the operation should.
    async fn learned(
        &self,
        cx: &OperationContext,
        mut storage: BackupStorage,
    ) -> Result<BackupStorage, Fault> {
        cx.progress(10, format!("connecting to {}", storage.address));
        tokio::select! {
            probed = self.probe(&mut storage) => probed?,
            fault = cx.cancelled() => return Err(fault),
        }
        Ok(storage)
    }
}

struct Create(Arc<Area>);

#[async_trait]
impl KeyedHandler for Create {
    type Request = CreateBackupStorageRequest;
    type Resource = BackupStorage;

    fn check_further(&self, request: &Self::Request, check: &mut Check) {
        if let Some(problem) = address_problem(&request.address) {
            check.refuse("address", problem);
        }
        if let Some(problem) = username_problem(&request.username) {
            check.refuse("username", problem);
        }
        if let Some(problem) = path_problem(&request.path, "/srv/cairn") {
            check.refuse("path", problem);
        }
        if let Some(problem) = host_key_problem(&request.host_key) {
            check.refuse("host_key", problem);
        }
    }

    async fn run(
        &self,
        cx: &OperationContext,
        request: Arc<Self::Request>,
    ) -> Result<Ended<BackupStorage>, Fault> {
        let mut storage = request.resource();
        storage.account_uuid = cx.account().to_string();
        storage.set_state(ResourceState::Enabled);
        let storage = self.0.learned(cx, storage).await?;
        cx.finish(move |tx| {
            let (request, mut storage) = (Arc::clone(&request), storage.clone());
            Box::pin(async move {
                check_references(tx, &request.references()).await?;
                storage.stamp(now());
                tx.insert(&storage).await?;
                Ok(storage)
            })
        })
        .await
    }
}

struct Update(Arc<Area>);

#[async_trait]
impl KeyedHandler for Update {
    type Request = UpdateBackupStorageRequest;
    type Resource = BackupStorage;

    fn check_further(&self, request: &Self::Request, check: &mut Check) {
        let fields = [
            (
                "address",
                &request.address,
                address_problem as fn(&str) -> _,
            ),
            ("username", &request.username, username_problem),
            ("host_key", &request.host_key, host_key_problem),
        ];
        for (field, value, problem) in fields {
            if let Some(problem) = value.as_deref().and_then(problem) {
                check.refuse(field, problem);
            }
        }
    }

    async fn run(
        &self,
        cx: &OperationContext,
        request: Arc<Self::Request>,
    ) -> Result<Ended<BackupStorage>, Fault> {
        let mut learned = None;
        if request.address.is_some() || request.username.is_some() || request.host_key.is_some() {
            let mut storage = self.0.backup_storage(request.key()).await?;
            request.apply(&mut storage);
            learned = Some(self.0.learned(cx, storage).await?);
        }
        cx.finish(move |tx| {
            let (request, learned) = (Arc::clone(&request), learned.clone());
            Box::pin(async move {
                let mut storage = load(tx, request.key()).await?;
                request.apply(&mut storage);
                if let Some(learned) = &learned {
                    take(&mut storage, learned);
                }
                storage.stamp(now());
                tx.update(&storage).await?;
                Ok(storage)
            })
        })
        .await
    }
}

struct Reconnect(Arc<Area>);

#[async_trait]
impl KeyedHandler for Reconnect {
    type Request = ReconnectBackupStorageRequest;
    type Resource = BackupStorage;

    async fn run(
        &self,
        cx: &OperationContext,
        request: Arc<Self::Request>,
    ) -> Result<Ended<BackupStorage>, Fault> {
        let storage = self.0.backup_storage(request.key()).await?;
        let learned = match self.0.learned(cx, storage.clone()).await {
            Ok(learned) => learned,
            Err(fault) => {
                self.0.note(&storage, None).await?;
                return Err(fault);
            }
        };
        cx.finish(move |tx| {
            let (request, learned) = (Arc::clone(&request), learned.clone());
            Box::pin(async move {
                let mut storage = load(tx, request.key()).await?;
                take(&mut storage, &learned);
                storage.stamp(now());
                tx.update(&storage).await?;
                gc::wake(tx, BackupStorage::NOUN, &storage.uuid).await?;
                Ok(storage)
            })
        })
        .await
    }
}

async fn load(tx: &mut Tx, uuid: &str) -> Result<BackupStorage, Fault> {
    let storage = tx.get::<BackupStorage>(uuid).await?;
    storage.ok_or_else(|| Fault::not_found(BackupStorage::NOUN, uuid))
}

/// Takes over what a connection has shown.
fn take(storage: &mut BackupStorage, learned: &BackupStorage) {
    storage.status = learned.status;
    storage.host_key.clone_from(&learned.host_key);
    storage.public_key.clone_from(&learned.public_key);
    storage.total_bytes = learned.total_bytes;
    storage.available_bytes = learned.available_bytes;
}

fn username_problem(name: &str) -> Option<String> {
    let example = "give the name of a user on the server, as in cairn";
    // What OpenSSH's own sshd is at ease with.
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'@' | b'\\');
    if name.is_empty() {
        Some(format!("is missing; {example}"))
    } else if name.len() > USERNAME_MAX {
        Some(format!(
            "has {} characters; {USERNAME_MAX} is the most",
            name.len()
        ))
    } else if !name.bytes().all(plain) || name.starts_with('-') {
        Some(format!("is `{name}`; {example}"))
    } else {
        None
    }
}

/// None may be given: then it is learned.
fn host_key_problem(key: &str) -> Option<String> {
    let parsed = key.parse::<HostKey>();
    let wrong = parsed.err().filter(|_| !key.is_empty());
    wrong.map(|problem: InvalidHostKey| problem.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_a_plain_name() {
        for good in ["root", "cairn-images", "u.s_e1", "DOMAIN\\u"] {
            assert_eq!(username_problem(good), None, "{good}");
        }
        for bad in ["", "-x", "a b", "a:b", "ä", &"x".repeat(33)] {
            assert!(username_problem(bad).is_some(), "{bad}");
        }
    }
}
