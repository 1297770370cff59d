//! This area's part in an examination: bridges, taps, addresses by DHCP, and the addresses of
//! ranges.

mod addresses;
mod host;
mod repair;

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use cairn_agent_protocol::{HostInventory, is_tap_name, tap_name};
use cairn_inspect::{Inspect, Place, Repair, Suspect};
use cairn_proto::{
    compute::v1alpha1::VmInstance, fault::Fault, meta::Resource as _, network::v1alpha1::L2Network,
};
use cairn_store::{Row, Store, StoreError, Value};

use self::host::{Known, Lease, Nic, Server, Wire};
use crate::{Area, l2_network::bridge};

/// How many virtual machines one statement names.
const AT_ONCE: usize = 500;

pub(crate) struct Inspection(pub(crate) Arc<Area>);

#[async_trait]
impl Inspect for Inspection {
    async fn host(&self, place: &Place, has: &HostInventory) -> Result<Vec<Suspect>, Fault> {
        let known = known(&self.0.store, place, has).await?;
        Ok(host::compare(has, &known))
    }

    async fn books(&self) -> Result<Vec<Suspect>, Fault> {
        let store = &self.0.store;
        let mut suspects = addresses::check(store).await?;
        suspects.extend(leases_of_none(store).await?);
        suspects.extend(servers_of_none(store).await?);
        suspects.extend(bridges_of_none(store).await?);
        suspects.extend(bridges_to_go(store).await?);
        Ok(suspects)
    }

    async fn repair(&self, repair: &Repair) -> Result<bool, Fault> {
        self.0.repair(repair).await
    }
}

/// What the tables say of a host.
async fn known(store: &Store, place: &Place, has: &HostInventory) -> Result<Known, Fault> {
    let on_host = || vec![Value::from(&*place.host_uuid)];
    let mut known = Known::default();
    let sql = "SELECT n.uuid, n.physical_interface, \
               CAST(CASE WHEN a.uuid IS NULL THEN 0 ELSE 1 END AS BIGINT), \
               COALESCE(b.removing, 0) FROM l2_network n \
               LEFT JOIN l2_network_attachment a ON a.l2_network_uuid = n.uuid AND a.cluster_uuid = ? \
               LEFT JOIN cluster_bridge b ON b.l2_network_uuid = n.uuid AND b.cluster_uuid = ? \
               WHERE n.zone_uuid = ? ORDER BY n.uuid";
    let cluster = || Value::from(&*place.cluster_uuid);
    let values = vec![cluster(), cluster(), (&*place.zone_uuid).into()];
    for row in store.rows(sql, values).await? {
        let interface = row.text(1)?;
        known.wires.push(Wire {
            network: row.text(0)?,
            bridge: bridge::name(&interface),
            interface,
            attached: row.bool(2)?,
            removing: row.bool(3)?,
        });
    }
    let vms: Vec<_> = has
        .vm_processes
        .iter()
        .map(|it| it.vm.to_string())
        .collect();
    for some in vms.chunks(AT_ONCE) {
        let marks = vec!["?"; some.len()].join(", ");
        let of_vms = format!("n.vm_instance_uuid IN ({marks})");
        known.add(&nics(store, &of_vms, some.iter().map(Value::from).collect()).await?);
    }
    let unknown = has.taps.iter().filter(|tap| is_tap_name(&tap.name));
    let unknown: Vec<_> = unknown
        .filter(|tap| !known.nics.contains_key(&tap.name))
        .collect();
    for tap in unknown {
        let digits = tap.name.trim_start_matches("tap");
        let like = vec![Value::from(format!("%-{digits}"))];
        known.add(&nics(store, "n.uuid LIKE ?", like).await?);
    }
    let sql = "SELECT bridge, mac, ip, vm_nic_uuid, vm_instance_uuid, l3_network_uuid \
               FROM dhcp_lease WHERE host_uuid = ? ORDER BY bridge, mac";
    for row in store.rows(sql, on_host()).await? {
        known.leases.push(Lease {
            bridge: row.text(0)?,
            mac: row.text(1)?,
            ip: row.text(2)?,
            nic: row.text(3)?,
            vm: row.text(4)?,
            network: row.text(5)?,
        });
    }
    let sql = "SELECT bridge, ip, l3_network_uuid FROM dhcp_server WHERE host_uuid = ?";
    for row in store.rows(sql, on_host()).await? {
        known.servers.push(Server {
            bridge: row.text(0)?,
            ip: row.text(1)?,
            network: row.text(2)?,
        });
    }
    let sql = "SELECT bridge, revision FROM dhcp_bridge WHERE host_uuid = ?";
    for row in store.rows(sql, on_host()).await? {
        known.revisions.insert(row.text(0)?, row.int(1)?);
    }
    Ok(known)
}

/// Nics, and what they are plugged into, by the names of their taps.
async fn nics(
    store: &Store,
    which: &str,
    values: Vec<Value>,
) -> Result<HashMap<String, Nic>, Fault> {
    let sql = format!(
        "SELECT n.uuid, n.vm_instance_uuid, w.physical_interface FROM vm_nic n \
         JOIN l3_network l ON l.uuid = n.l3_network_uuid \
         JOIN l2_network w ON w.uuid = l.l2_network_uuid WHERE {which}"
    );
    let mut nics = HashMap::new();
    for row in store.rows(&sql, values).await? {
        let nic = Nic {
            uuid: row.text(0)?,
            vm: row.text(1)?,
            bridge: bridge::name(&row.text(2)?),
        };
        let uuid = cairn_agent::stored_uuid(&nic.uuid)?;
        nics.insert(tap_name(uuid), nic);
    }
    Ok(nics)
}

/// What a host is to tell a nic that is none any more.
async fn leases_of_none(store: &Store) -> Result<Vec<Suspect>, StoreError> {
    let sql = "SELECT l.ip, l.host_uuid, l.vm_instance_uuid FROM dhcp_lease l \
               LEFT JOIN vm_nic n ON n.uuid = l.vm_nic_uuid WHERE n.uuid IS NULL";
    let suspect = |row: &Row| {
        let (ip, host, vm) = (row.text(0)?, row.text(1)?, row.text(2)?);
        let detail = format!("host {host} is to serve it to a nic that there is none of");
        let suspect = Suspect::extra("dhcp-lease", format!("{ip} host {host}"), detail).repair();
        let suspect = suspect.queued_at(VmInstance::NOUN, &vm);
        Ok(suspect.concerns(vm).concerns(host))
    };
    store
        .rows(sql, Vec::new())
        .await?
        .iter()
        .map(suspect)
        .collect()
}

/// Addresses that a host holds to serve from, and serves nobody from. Where it has not been told
/// the last, that is still to come.
async fn servers_of_none(store: &Store) -> Result<Vec<Suspect>, StoreError> {
    let sql = "SELECT s.ip, s.host_uuid, s.l3_network_uuid FROM dhcp_server s \
               JOIN dhcp_bridge b ON b.host_uuid = s.host_uuid AND b.bridge = s.bridge \
               AND b.applied >= b.revision WHERE NOT EXISTS (SELECT 1 FROM dhcp_lease l \
               WHERE l.host_uuid = s.host_uuid AND l.l3_network_uuid = s.l3_network_uuid \
               AND l.gateway = s.gateway AND l.prefix_length = s.prefix_length)";
    let suspect = |row: &Row| {
        let (ip, host, network) = (row.text(0)?, row.text(1)?, row.text(2)?);
        let detail = format!("host {host} holds it to serve from, and serves nobody");
        let suspect = Suspect::extra("dhcp-address", format!("{ip} host {host}"), detail).repair();
        Ok(suspect.of("l3-network", network).concerns(host))
    };
    store
        .rows(sql, Vec::new())
        .await?
        .iter()
        .map(suspect)
        .collect()
}

/// Bridges that a network holds in a cluster that it is not attached to.
async fn bridges_of_none(store: &Store) -> Result<Vec<Suspect>, StoreError> {
    bridges(store, "a.uuid IS NULL", |identity, cluster| {
        let detail = format!("held in cluster {cluster}, which the network is not attached to");
        Suspect::extra("bridge-name", identity, detail)
    })
    .await
}

/// Bridges that somebody began to take from a cluster, and did not come to the end.
async fn bridges_to_go(store: &Store) -> Result<Vec<Suspect>, StoreError> {
    let removing = "a.uuid IS NOT NULL AND b.removing <> 0";
    bridges(store, removing, |identity, cluster| {
        let detail = format!("its removal from cluster {cluster} was begun and not finished");
        Suspect::differs("bridge-removal", identity, detail)
    })
    .await
}

/// What is wrong with the bridges of networks in clusters that fulfil a condition on `b`, the bridge,
/// and `a`, the attachment; `suspect` is given what tells the bridge from others, and the cluster.
async fn bridges(
    store: &Store,
    condition: &str,
    suspect: impl Fn(String, &str) -> Suspect,
) -> Result<Vec<Suspect>, StoreError> {
    let sql = format!(
        "SELECT b.bridge, b.cluster_uuid, b.l2_network_uuid FROM cluster_bridge b \
         LEFT JOIN l2_network_attachment a ON a.l2_network_uuid = b.l2_network_uuid \
         AND a.cluster_uuid = b.cluster_uuid WHERE {condition}"
    );
    let suspect = |row: &Row| {
        let (bridge, cluster, network) = (row.text(0)?, row.text(1)?, row.text(2)?);
        let suspect = suspect(format!("{bridge} cluster {cluster}"), &cluster).repair();
        Ok(suspect.of(L2Network::NOUN, network).concerns(cluster))
    };
    store
        .rows(&sql, Vec::new())
        .await?
        .iter()
        .map(suspect)
        .collect()
}
