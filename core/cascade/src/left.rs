//! What a deletion left to a job that waits for something that goes in the same cascade: a virtual
//! machine on a host that does not answer waits for that host, and the host, which goes, for nothing.

use cairn_proto::{
    call::Mesh,
    fault::Fault,
    operation::v1alpha1::{GcJob, GcJobClient, TriggerGcJobRequest},
};
use cairn_store::Store;

use crate::{Found, find::goes};

/// A job, and the place of what it waits for.
pub(crate) struct Left {
    pub(crate) job: String,
    pub(crate) until: usize,
    /// Why it was left.
    pub(crate) fault: Fault,
}

/// The job of a node whose deletion failed, if it waits for another one that goes. That one may have
/// been left by an earlier deletion.
pub(crate) async fn left(
    found: &Found,
    place: usize,
    fault: &Fault,
    store: &Store,
) -> Result<Option<Left>, Fault> {
    let node = &found.nodes[place];
    let of_node = "resource_uuid = ? AND waits_for_uuid IS NOT NULL ORDER BY uuid LIMIT 1";
    let jobs = store
        .list::<GcJob>(of_node, vec![(&node.uuid).into()])
        .await?;
    let left = jobs.into_iter().next().and_then(|job| {
        let (noun, uuid) = (job.waits_for_type?, job.waits_for_uuid?);
        let mut nodes = found.nodes.iter();
        let until = nodes
            .position(|node| goes(node.action) && node.resource.name == noun && node.uuid == uuid);
        let fault = fault.clone();
        Some(Left {
            job: job.uuid,
            until: until.filter(|until| *until != place)?,
            fault,
        })
    });
    Ok(left)
}

/// Has a job be done now; that it is done already is a success.
pub(crate) async fn finish(mesh: &Mesh, job: &str, store: &Store) -> Result<(), Fault> {
    let jobs = GcJobClient::new(mesh.clone());
    let uuid = job.to_owned();
    match jobs.trigger_gc_job(TriggerGcJobRequest { uuid }).await {
        Ok(_) => Ok(()),
        Err(_) if store.get::<GcJob>(job).await?.is_none() => Ok(()),
        Err(status) => Err(Fault::from_status(&status)),
    }
}
