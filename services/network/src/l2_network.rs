//! L2 networks: a bridge on each host of the clusters that they are attached to.

mod attach;
pub(crate) mod bridge;
mod detach;

use std::sync::Arc;

use async_trait::async_trait;
use cairn_flow::{FlowError, Flows, Registry};
use cairn_operation::Builder;
use cairn_proto::{
    crud::Check,
    fault::Fault,
    network::v1alpha1::{
        CreateL2NetworkRequest, DeleteL2NetworkRequest, L2Network, UpdateL2NetworkRequest,
    },
};
use cairn_resource::{Creating, Creation, Deleting, Removal, Updating};
use cairn_store::{Store, StoreError, Tx};

use crate::Area;

/// The longest name of a network interface on Linux (`IFNAMSIZ` without the zero byte).
pub(crate) const INTERFACE_MAX: usize = 15;

/// The steps, and the flows of them.
pub(crate) fn steps(registry: &mut Registry, area: &Arc<Area>) {
    detach::steps(registry, area);
}

pub(crate) fn register(
    operations: Builder,
    area: &Arc<Area>,
    flows: &mut Flows,
) -> Result<Builder, FlowError> {
    Ok(operations
        .register(Creating::<CreateL2NetworkRequest, _>::with(New))
        .register(Updating::<UpdateL2NetworkRequest>::plain())
        .register(Deleting::<DeleteL2NetworkRequest, _>::with(Gone))
        .register(attach::Attach(Arc::clone(area)))
        .register(detach::Detach::new(flows)?))
}

/// Whether a cluster has a network.
async fn attached(store: &Store, network: &str, cluster: &str) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM l2_network_attachment WHERE l2_network_uuid = ? AND cluster_uuid = ?";
    let found = store.rows(sql, vec![network.into(), cluster.into()]);
    Ok(!found.await?.is_empty())
}

struct New;

#[async_trait]
impl Creation<CreateL2NetworkRequest> for New {
    fn check(&self, request: &CreateL2NetworkRequest, check: &mut Check) {
        let interface = &request.physical_interface;
        let usable = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if !(1..=INTERFACE_MAX).contains(&interface.len())
            || !interface.bytes().all(usable)
            || interface.bytes().all(|byte| byte == b'.')
        {
            let problem = format!(
                "is `{interface}`; give 1 to {INTERFACE_MAX} of the characters a-z, A-Z, 0-9, \
                 `.`, `_` and `-`, as in eth0"
            );
            check.refuse("physical_interface", problem);
        }
    }
}

/// A bridge that an attachment took and could not give back goes with its network.
struct Gone;

#[async_trait]
impl Removal<DeleteL2NetworkRequest> for Gone {
    async fn complete(&self, tx: &mut Tx, network: &L2Network) -> Result<(), Fault> {
        let sql = "DELETE FROM cluster_bridge WHERE l2_network_uuid = ?";
        tx.execute(sql, vec![(&network.uuid).into()]).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_has_a_name_that_linux_takes() {
        let refused = |interface: &str| {
            let mut check = Check::default();
            let request = CreateL2NetworkRequest {
                physical_interface: interface.to_owned(),
                ..CreateL2NetworkRequest::default()
            };
            New.check(&request, &mut check);
            check.finish().is_err()
        };
        for good in ["e", "eth0", "enx001122334455", "bond0.100", "a-b_c"] {
            assert!(!refused(good), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "eth 0",
            "eth/0",
            "eth0:1",
            "enx0011223344556",
            "é",
        ] {
            assert!(refused(bad), "{bad}");
        }
    }
}
