//! Checking a configuration without starting a node: what a start would refuse before it touches
//! anything.

use std::{path::Path, sync::Arc};

use cairn_agent::Agents;
use cairn_mesh::LocalMesh;
use cairn_operation::Operations;
use cairn_proto::meta::Catalog;
use cairn_queue::Queues;
use cairn_sftp::SshKey;
use cairn_store::{Store, StoreConfig};
use cairn_tls::{Ca, Identity};
use cairn_types::Uuid;

use super::{
    NodeError,
    areas::{Areas, Parts, migrations},
};
use crate::Config;

/// Checks what a file cannot say of itself: that the flows, the operator's over those of the
/// services, fit together and fit the rpcs that run them. Nothing of the node is touched: what the
/// steps are made over is a directory of its own, which is gone when this returns.
///
/// # Errors
/// [`NodeError::Flows`] with every mistake, its file, line, flow and step; [`NodeError::Flow`].
pub async fn check(config: &Config) -> Result<(), NodeError> {
    // Its owner's only, and gone with the value.
    let scratch = tempfile::Builder::new().prefix("cairn-check-").tempdir();
    let scratch = scratch.map_err(NodeError::Temporary)?;
    let store = StoreConfig::new(scratch.path());
    let store = Store::open(&store, Catalog::built_in(), &migrations()).await?;
    let checked = check_over(config, scratch.path(), &store);
    store.close().await;
    checked
}

fn check_over(config: &Config, directory: &Path, store: &Store) -> Result<(), NodeError> {
    let ca = Arc::new(Ca::load_or_create(directory)?);
    let ssh_key = SshKey::load_or_create(directory)?;
    let id = Uuid::new_v4();
    let credentials = ca.issue(&Identity::Node(id), &[])?.with_ca(ca.pem());
    let agents = Agents::new(cairn_agent::Options::new(Vec::new()), &credentials)?;
    let areas = Areas::new(
        config,
        &Parts {
            store,
            mesh: &LocalMesh::new(id),
            agents: &agents,
            ca: &ca,
            ssh_key: &ssh_key,
            callback_addresses: &[],
        },
    );
    let mut flows = areas.flows(config, store.catalog())?;
    let operations = Operations::builder(store.clone(), Queues::default());
    areas.register(operations, &mut flows)?;
    Ok(())
}
