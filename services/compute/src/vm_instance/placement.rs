//! allocate-host: finds a host for a new virtual machine and reserves it.
//!
//! Only hosts of clusters that have every network and a storage with room are looked at; of
//! those, the one with the most memory left is taken. The reservation is a conditional update in
//! the transaction that also makes the row, so what was read before may be stale, never wrong.
//!
//! In a large cloud the few hosts with the most memory left are asked about first: whether the
//! others have a storage with room matters only if none of these can be taken.

use std::{collections::HashSet, sync::Arc};

use async_trait::async_trait;
use cairn_flow::{Bag, Outcome, Step, StepContext};
use cairn_proto::{
    compute::v1alpha1::{
        CreateVmInstanceRequest, Host, HostState, HostStatus, InstanceOffering, ResourceState,
        VmInstance, VmInstanceState,
    },
    crud::{Create as _, Keyed as _},
    fault::Fault,
    meta::Resource as _,
    network::internal::v1alpha1::GetClustersRequest,
    storage::internal::v1alpha1::{GetPlacesRequest, Place},
};
use cairn_resource::{check_references, now};
use cairn_store::{Row, Store, Tx, Value};
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
        // What the others refuse is told after what the request itself has wrong.
        let found = match clusters {
            Ok(clusters) => self.candidates(cx, &request, clusters.cluster_uuids).await,
            Err(fault) => Err(fault),
        };
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

/// How many hosts are asked about first.
const FEW: u32 = 8;

/// How many hosts are looked at in one go. The first one is taken as a rule.
const AT_ONCE: usize = 16;

/// Where a host is, which says whether it may be taken.
struct Spot {
    uuid: String,
    zone_uuid: String,
    cluster_uuid: String,
}

impl Spot {
    fn of(host: &Host) -> Self {
        Self {
            uuid: host.uuid.clone(),
            zone_uuid: host.zone_uuid.clone(),
            cluster_uuid: host.cluster_uuid.clone(),
        }
    }
}

/// The next hosts in use that have what the offering takes, of these or, if there are none, of all;
/// behind the first `seen`.
async fn fitting(
    tx: &mut Tx,
    offering: &InstanceOffering,
    among: &[String],
    seen: usize,
) -> Result<Vec<Spot>, Fault> {
    let among_these = match among.len() {
        0 => String::new(),
        many => format!("AND uuid IN ({}) ", vec!["?"; many].join(", ")),
    };
    let sql = format!(
        "SELECT uuid, zone_uuid, cluster_uuid FROM host \
         WHERE state = 'Enabled' AND status = 'Connected' \
         AND NOT EXISTS (SELECT 1 FROM going WHERE resource_uuid = host.uuid) \
         AND available_memory_bytes >= ? AND available_cpu_count >= ? {among_these}\
         ORDER BY available_memory_bytes DESC, uuid LIMIT ? OFFSET ?"
    );
    let mut values = vec![number(offering.memory_bytes), offering.cpu_count.into()];
    values.extend(among.iter().map(Value::from));
    values.extend([number(AT_ONCE as u64), number(seen as u64)]);
    spots(&tx.rows(&sql, values).await?)
}

fn number(number: u64) -> Value {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

fn spots(rows: &[Row]) -> Result<Vec<Spot>, Fault> {
    let spots = rows.iter().map(|row| {
        Ok(Spot {
            uuid: row.text(0)?,
            zone_uuid: row.text(1)?,
            cluster_uuid: row.text(2)?,
        })
    });
    spots.collect()
}

impl AllocateHost {
    async fn candidates(
        &self,
        cx: &StepContext<'_>,
        request: &CreateVmInstanceRequest,
        clusters: Vec<String>,
    ) -> Result<Candidates, Fault> {
        let mut candidates = Candidates {
            account: cx.operation().account().to_string(),
            clusters: clusters.into_iter().collect(),
            places: Vec::new(),
            few: Vec::new(),
            request: request.clone(),
        };
        let few = most_memory(cx.operation().store(), request).await?;
        let few = few.into_iter().filter(|host| candidates.is_wanted(host));
        candidates.few = few.map(|host| host.uuid).collect();
        if !candidates.few.is_empty() {
            candidates.places = self.places(request, candidates.few.clone()).await?;
        }
        if candidates.places.is_empty() {
            candidates.few.clear();
            candidates.places = self.places(request, Vec::new()).await?;
        }
        Ok(candidates)
    }

    async fn places(
        &self,
        request: &CreateVmInstanceRequest,
        host_uuids: Vec<String>,
    ) -> Result<Vec<Place>, Fault> {
        let request = GetPlacesRequest {
            image_uuid: request.image_uuid.clone(),
            host_uuids,
        };
        let places = self.0.storages.get_places(request).await;
        Ok(places.map_err(as_fault)?.places)
    }
}

/// The few hosts in use that have the most memory left, and enough of it.
async fn most_memory(store: &Store, request: &CreateVmInstanceRequest) -> Result<Vec<Spot>, Fault> {
    let uuid = &request.instance_offering_uuid;
    let Some(offering) = store.get::<InstanceOffering>(uuid).await? else {
        return Ok(Vec::new());
    };
    let sql = "SELECT uuid, zone_uuid, cluster_uuid FROM host \
               WHERE available_memory_bytes >= ? AND available_cpu_count >= ? \
               AND state = 'Enabled' AND status = 'Connected' \
               AND NOT EXISTS (SELECT 1 FROM going WHERE resource_uuid = host.uuid) \
               ORDER BY available_memory_bytes DESC LIMIT ?";
    let values = vec![
        number(offering.memory_bytes),
        offering.cpu_count.into(),
        FEW.into(),
    ];
    spots(&store.find_rows(sql, values).await?)
}

struct Candidates {
    account: String,
    request: CreateVmInstanceRequest,
    clusters: HashSet<String>,
    places: Vec<Place>,
    /// The hosts that the places were asked for; none: for all.
    few: Vec<String>,
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
        let host = match self.reserve(tx, &offering, &self.few).await? {
            // Others were faster than this, which asked about a few only.
            None if !self.few.is_empty() => self.reserve(tx, &offering, &[]).await?,
            host => host,
        };
        let Some(host) = host else {
            return Err(self.nothing_fits(tx, &offering).await?);
        };
        let mut vm = request.resource();
        *vm.account_mut() = self.account.clone();
        vm.zone_uuid = host.zone_uuid;
        vm.host_uuid = Some(host.uuid);
        vm.cpu_count = offering.cpu_count;
        vm.memory_bytes = offering.memory_bytes;
        vm.set_state(VmInstanceState::Starting);
        vm.stamp(now());
        tx.insert(&vm).await?;
        Ok(vm)
    }

    /// Takes the first host that can be taken, of these; none of them: of all.
    async fn reserve(
        &self,
        tx: &mut Tx,
        offering: &InstanceOffering,
        among: &[String],
    ) -> Result<Option<Spot>, Fault> {
        let (cpus, memory) = (offering.cpu_count, offering.memory_bytes);
        let mut seen = 0;
        loop {
            let fitting = fitting(tx, offering, among, seen).await?;
            let last = fitting.len() < AT_ONCE;
            for host in fitting {
                if self.allows(&host) && capacity::reserve(tx, &host.uuid, cpus, memory).await? {
                    return Ok(Some(host));
                }
            }
            if last {
                return Ok(None);
            }
            seen += AT_ONCE;
        }
    }

    fn allows(&self, host: &Spot) -> bool {
        self.is_wanted(host) && self.may_have_place(&host.uuid, &host.cluster_uuid)
    }

    /// It is where the request wants it, in a cluster that has all the networks.
    fn is_wanted(&self, host: &Spot) -> bool {
        let is = |wanted: &Option<String>, uuid: &str| wanted.as_ref().is_none_or(|w| w == uuid);
        let request = &self.request;
        is(&request.zone_uuid, &host.zone_uuid)
            && is(&request.cluster_uuid, &host.cluster_uuid)
            && is(&request.host_uuid, &host.uuid)
            && self.clusters.contains(&host.cluster_uuid)
    }

    /// A storage has room there, or that was not asked: then the step that takes it finds out.
    fn may_have_place(&self, host: &str, cluster: &str) -> bool {
        let not_asked = !self.few.is_empty() && !self.few.iter().any(|few| few == host);
        not_asked
            || self.places.iter().any(|place| {
                place.cluster_uuid == cluster
                    && (place.host_uuid.is_empty() || place.host_uuid == host)
            })
    }

    /// Says which of the conditions leaves no host, for whoever has to change something.
    async fn nothing_fits(&self, tx: &mut Tx, offering: &InstanceOffering) -> Result<Fault, Fault> {
        let all = tx.list::<Host>("", vec![]).await?;
        let fitting = all.iter().filter(|host| {
            host.state() == HostState::Enabled
                && host.status() == HostStatus::Connected
                && host.available_memory_bytes >= offering.memory_bytes
                && host.available_cpu_count >= offering.cpu_count
        });
        let fitting: Vec<_> = fitting.map(Spot::of).collect();
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
                .filter(|host| self.may_have_place(&host.uuid, &host.cluster_uuid))
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
