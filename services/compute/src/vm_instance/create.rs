//! Creating: from a request to a virtual machine that runs.

use std::{collections::HashSet, sync::Arc};

use async_trait::async_trait;
use cairn_flow::{Bag, Flow, FlowError, Flows};
use cairn_operation::{Ended, KeyedHandler, OperationContext};
use cairn_proto::{
    compute::v1alpha1::{CreateVmInstanceRequest, VmInstance, VmInstanceState},
    crud::Check,
    fault::Fault,
};

use super::{devices::root_volume, state};

/// The most nics that a virtual machine is created with.
const NICS_MOST: usize = 8;

pub(super) struct Create {
    flow: Flow,
}

impl Create {
    pub(super) fn new(flows: &mut Flows) -> Result<Self, FlowError> {
        let flow = flows.of::<Self>("create-vm-instance", &[])?;
        Ok(Self { flow })
    }
}

#[async_trait]
impl KeyedHandler for Create {
    type Request = CreateVmInstanceRequest;
    type Resource = VmInstance;

    fn check_further(&self, request: &Self::Request, check: &mut Check) {
        let networks = &request.l3_network_uuids;
        let distinct: HashSet<_> = networks.iter().collect();
        if networks.is_empty() || networks.len() > NICS_MOST {
            let problem = format!("has {} networks; give 1 to {NICS_MOST}", networks.len());
            check.refuse("l3_network_uuids", problem);
        } else if distinct.len() < networks.len() {
            check.refuse("l3_network_uuids", "names a network twice; give each once");
        }
    }

    async fn run(
        &self,
        cx: &OperationContext,
        request: Arc<CreateVmInstanceRequest>,
    ) -> Result<Ended<VmInstance>, Fault> {
        let uuid = request.uuid.clone();
        let created = self.flow.run(cx, Bag::of(&*request), move |tx, bag| {
            let (uuid, volume) = (uuid.clone(), root_volume(bag));
            Box::pin(async move {
                let mut vm = state::load(tx, &uuid).await?;
                vm.root_volume_uuid = volume.map(|volume| volume.uuid);
                state::enter(tx, &mut vm, VmInstanceState::Running).await?;
                Ok(vm)
            })
        });
        created.await
    }
}
