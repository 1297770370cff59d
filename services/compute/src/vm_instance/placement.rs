//! allocate-host: finds a host for a new virtual machine and reserves it.
//!
//! Only hosts of clusters that have every network and a storage with room are looked at; of
//! those, the one with the most memory left is taken. The reservation is a conditional update in
//! the transaction that also makes the row, so what was read before may be stale, never wrong.

use std::{collections::HashSet, sync::Arc};

use async_trait::async_trait;
use cairn_flow::{Bag, Outcome, Step, StepContext};
use cairn_proto::{
    compute::v1alpha1::{
        CreateVmInstanceRequest, Host, InstanceOffering, ResourceState, VmInstance, VmInstanceState,
    },
    crud::{Create as _, Keyed as _},
    fault::Fault,
    meta::Resource as _,
    network::internal::v1alpha1::GetClustersRequest,
    storage::internal::v1alpha1::{GetPlacesRequest, Place},
};
use cairn_resource::{check_references, now};
use cairn_store::{Tx, Value};
use cairn_types::ErrorCode;

use super::{Vms, capacity};

pub(super) struct AllocateHost(pub(super) Arc<Vms>);

#[async_trait]
impl Step for AllocateHost {
    fn name(&self) -> &'static str {
        "allocate-host"
    }

    fn needs(&self) -> &'static [&'static str] {
        &["cairn.compute.v1alpha1.CreateVmInstanceRequest"]
    }

    fn provides(&self) -> &'static [&'static str] {
        &["cairn.compute.v1alpha1.VmInstance"]
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let request: CreateVmInstanceRequest = cx.get()?;
        let l3_network_uuids = request.l3_network_uuids.clone();
        let clusters = GetClustersRequest { l3_network_uuids };
        let clusters = self
            .0
            .networks
            .get_clusters(clusters)
            .await
            .map_err(as_fault);
        let places = GetPlacesRequest {
            image_uuid: request.image_uuid.clone(),
        };
        let places = self.0.storages.get_places(places).await.map_err(as_fault);
        let account = cx.operation().account().to_string();
        // What the others refuse is told after what the request itself has wrong.
        let found = clusters.and_then(|clusters| {
            Ok(Candidates {
                account,
                clusters: clusters.cluster_uuids.into_iter().collect(),
                places: places?.places,
                request: request.clone(),
            })
        });
        let found = Arc::new((request, found));
        Ok(Outcome::rows(move |tx| {
            let found = Arc::clone(&found);
            Box::pin(async move {
                let (request, candidates) = &*found;
                check_references(tx, &request.references()).await?;
                let vm = candidates.as_ref().map_err(Fault::clone)?.take(tx).await?;
                Ok(Bag::of(&vm))
            })
        }))
    }

    async fn rollback(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        // The row and the reservation are one commit with the outcome: without it there is nothing.
        let Some(vm) = cx.find::<VmInstance>() else {
            return Ok(Outcome::none());
        };
        Ok(Outcome::rows(move |tx| {
            let vm = vm.clone();
            Box::pin(async move {
                if tx.delete::<VmInstance>(&vm.uuid).await? {
                    capacity::release(tx, &vm).await?;
                }
                Ok(Bag::new())
            })
        }))
    }
}

struct Candidates {
    account: String,
    request: CreateVmInstanceRequest,
    clusters: HashSet<String>,
    places: Vec<Place>,
}

impl Candidates {
    async fn take(&self, tx: &mut Tx) -> Result<VmInstance, Fault> {
        let request = &self.request;
        let offering = tx
            .get::<InstanceOffering>(&request.instance_offering_uuid)
            .await?;
        let offering = offering.filter(|offering| offering.state() == ResourceState::Enabled);
        let offering = offering.ok_or_else(|| {
            let message = format!(
                "instance offering {} is disabled",
                request.instance_offering_uuid
            );
            Fault::new(ErrorCode::WrongState, message)
        })?;
        let (cpus, memory) = (offering.cpu_count, offering.memory_bytes);
        let memory_value = Value::Int(i64::try_from(memory).unwrap_or(i64::MAX));
        let fitting = tx
            .list::<Host>(
                "state = 'Enabled' AND status = 'Connected' AND available_memory_bytes >= ? \
                 AND available_cpu_count >= ? \
                 AND NOT EXISTS (SELECT 1 FROM going WHERE resource_uuid = host.uuid) \
                 ORDER BY available_memory_bytes DESC, uuid",
                vec![memory_value, Value::Int(cpus.into())],
            )
            .await?;
        for host in fitting.iter().filter(|host| self.allows(host)) {
            if !capacity::reserve(tx, &host.uuid, cpus, memory).await? {
                continue;
            }
            let mut vm = request.resource();
            *vm.account_mut() = self.account.clone();
            vm.zone_uuid = host.zone_uuid.clone();
            vm.host_uuid = Some(host.uuid.clone());
            vm.cpu_count = cpus;
            vm.memory_bytes = memory;
            vm.set_state(VmInstanceState::Starting);
            vm.stamp(now());
            tx.insert(&vm).await?;
            return Ok(vm);
        }
        Err(self.nothing_fits(tx, &fitting, &offering).await?)
    }

    fn allows(&self, host: &Host) -> bool {
        let is = |wanted: &Option<String>, uuid: &str| wanted.as_ref().is_none_or(|w| w == uuid);
        let request = &self.request;
        is(&request.zone_uuid, &host.zone_uuid)
            && is(&request.cluster_uuid, &host.cluster_uuid)
            && is(&request.host_uuid, &host.uuid)
            && self.clusters.contains(&host.cluster_uuid)
            && self.places.iter().any(|place| {
                place.cluster_uuid == host.cluster_uuid
                    && (place.host_uuid.is_empty() || place.host_uuid == host.uuid)
            })
    }

    /// Says which of the conditions leaves no host, for whoever has to change something.
    async fn nothing_fits(
        &self,
        tx: &mut Tx,
        fitting: &[Host],
        offering: &InstanceOffering,
    ) -> Result<Fault, Fault> {
        let all = tx.list::<Host>("", vec![]).await?;
        let clusters = &self.clusters;
        let message = format!(
            "no host fits: of {} hosts, {} are enabled and connected with {} bytes of memory and {} \
             processors left; {} are in clusters that have all the networks; {} have a primary \
             storage with room for the root volume; {} are where the request wants it and all of this",
            all.len(),
            fitting.len(),
            offering.memory_bytes,
            offering.cpu_count,
            all.iter()
                .filter(|host| clusters.contains(&host.cluster_uuid))
                .count(),
            all.iter()
                .filter(|host| {
                    self.places.iter().any(|place| {
                        place.cluster_uuid == host.cluster_uuid
                            && (place.host_uuid.is_empty() || place.host_uuid == host.uuid)
                    })
                })
                .count(),
            fitting.iter().filter(|host| self.allows(host)).count(),
        );
        Ok(Fault::new(ErrorCode::OutOfCapacity, message).on(VmInstance::NOUN, &self.request.uuid))
    }
}

/// A refusal of another service, as the step's own.
pub(super) fn as_fault(status: tonic::Status) -> Fault {
    Fault::from_status(&status)
}
