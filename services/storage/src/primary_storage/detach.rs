//! Detaching a storage from a cluster: refused while virtual machines with volumes on it run there.
//! What is on hosts without such volumes is forgotten, and images that were cached there go, a step
//! later: a volume that came first would have lost its image. A host that is away loses its copies when
//! it is back. Where there are volumes, those are kept, with all that they need, until it is attached
//! again, or the last of them goes.

use std::sync::Arc;

use async_trait::async_trait;
use cairn_flow::{Bag, Flow, FlowError, Flows, Options, Outcome, Step, StepContext};
use cairn_operation::{Ended, KeyedHandler, OperationContext};
use cairn_proto::{
    compute::v1alpha1::QueryVmInstanceRequest,
    fault::Fault,
    meta::Resource,
    query::v1alpha1::{Condition, Operator, Query},
    storage::{
        internal::v1alpha1::ImageCopies,
        v1alpha1::{DetachPrimaryStorageFromClusterRequest, PrimaryStorage},
    },
};
use cairn_store::{Tx, Value};
use cairn_types::ErrorCode;
use tonic::Code;

use crate::{Area, image::COPIES};

const REQUEST: &str = "cairn.storage.v1alpha1.DetachPrimaryStorageFromClusterRequest";
const STORAGE: &str = "cairn.storage.v1alpha1.PrimaryStorage";

/// The hosts of a cluster that a storage is local to and has no volumes on; takes both uuids.
const EMPTY: &str = "SELECT host_uuid FROM primary_storage_host h \
                     WHERE primary_storage_uuid = ? AND cluster_uuid = ? \
                     AND NOT EXISTS (SELECT 1 FROM volume v WHERE v.host_uuid = h.host_uuid \
                     AND v.primary_storage_uuid = h.primary_storage_uuid)";

pub(super) struct Detach(Flow);

impl Detach {
    pub(super) fn new(flows: &mut Flows) -> Result<Self, FlowError> {
        let flow = flows.of::<Self>("detach-primary-storage-from-cluster", &[STORAGE])?;
        Ok(Self(flow))
    }
}

#[async_trait]
impl KeyedHandler for Detach {
    type Request = DetachPrimaryStorageFromClusterRequest;
    type Resource = PrimaryStorage;

    async fn run(
        &self,
        cx: &OperationContext,
        request: Arc<Self::Request>,
    ) -> Result<Ended<PrimaryStorage>, Fault> {
        let detached = self.0.run(cx, Bag::of(&*request), |_, bag| {
            let storage = bag.get::<PrimaryStorage>().unwrap_or_default();
            Box::pin(async move { Ok(storage) })
        });
        detached.await
    }
}

/// No virtual machine that runs there loses its disk.
pub(super) struct CheckUnused(pub(super) Arc<Area>);

#[async_trait]
impl Step for CheckUnused {
    fn name(&self) -> &'static str {
        "check-primary-storage-unused"
    }

    fn needs(&self) -> &'static [&'static str] {
        &[REQUEST]
    }

    fn options(&self) -> Options {
        Options::default().no_rollback()
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let request: DetachPrimaryStorageFromClusterRequest = cx.get()?;
        self.unused(&request.uuid, &request.cluster_uuid).await?;
        Ok(Outcome::none())
    }
}

impl CheckUnused {
    /// No virtual machine with a volume on the storage runs in the cluster, by what their service
    /// says.
    async fn unused(&self, storage: &str, cluster: &str) -> Result<(), Fault> {
        let condition = |field: &str, operator: Operator, values: &[&str]| Condition {
            field: field.to_owned(),
            operator: operator.into(),
            values: values.iter().map(|value| (*value).to_owned()).collect(),
        };
        let query = Query {
            conditions: vec![
                condition("host.cluster_uuid", Operator::Eq, &[cluster]),
                condition("volumes.primary_storage_uuid", Operator::Eq, &[storage]),
                condition("state", Operator::NotIn, &["Stopped", "Destroyed"]),
            ],
            count: true,
            ..Query::default()
        };
        let request = QueryVmInstanceRequest { query: Some(query) };
        let count = match self.0.vms.query_vm_instance(request).await {
            Ok(found) => found.total.unwrap_or_default(),
            // A cloud without virtual machines.
            Err(status) if status.code() == Code::Unimplemented => 0,
            Err(status) => return Err(Fault::from_status(&status)),
        };
        if count == 0 {
            return Ok(());
        }
        let message = format!(
            "primary-storage {storage} is in use in cluster {cluster} by {count} vm-instance that \
             run there; stop them, or all of them by a cascade plan"
        );
        Err(Fault::new(ErrorCode::InUse, message).on(PrimaryStorage::NOUN, storage))
    }
}

/// Removes the attachment, and what is known of hosts without volumes. Afterwards nothing but this
/// step's outcome says where copies of images are.
pub(super) struct Forget;

#[async_trait]
impl Step for Forget {
    fn name(&self) -> &'static str {
        "detach-primary-storage"
    }

    fn needs(&self) -> &'static [&'static str] {
        &[REQUEST]
    }

    fn provides(&self) -> &'static [&'static str] {
        &[STORAGE, COPIES]
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let request: DetachPrimaryStorageFromClusterRequest = cx.get()?;
        Ok(Outcome::rows(move |tx| {
            let request = request.clone();
            Box::pin(async move { detach(tx, &request.uuid, &request.cluster_uuid).await })
        }))
    }
}

/// The storage, not attached, though it may not have been; and the copies that are forgotten.
async fn detach(tx: &mut Tx, uuid: &str, cluster: &str) -> Result<Bag, Fault> {
    let storage = tx.get::<PrimaryStorage>(uuid).await?;
    let storage = storage.ok_or_else(|| Fault::not_found(PrimaryStorage::NOUN, uuid))?;
    let there = format!("primary_storage_uuid = ? AND host_uuid IN ({EMPTY})");
    let values = || [uuid, uuid, cluster].map(Value::from).to_vec();
    let caches = tx.list(&there, values()).await?;
    for table in ["image_cache", "primary_storage_capacity"] {
        let sql = format!("DELETE FROM {table} WHERE {there}");
        tx.execute(&sql, values()).await?;
    }
    for table in ["primary_storage_host", "primary_storage_attachment"] {
        let sql =
            format!("DELETE FROM {table} WHERE primary_storage_uuid = ? AND cluster_uuid = ?");
        tx.execute(&sql, vec![uuid.into(), cluster.into()]).await?;
    }
    Ok(Bag::of(&storage).with(&ImageCopies { caches }))
}
