//! The rows behind DHCP, and what they say that a bridge is to serve.

use cairn_agent_protocol::{ApplyDhcp, DhcpLease, DhcpSubnet};
use cairn_proto::{fault::Fault, meta::Resource as _, network::v1alpha1::L3Network};
use cairn_store::{Row, Tx, Value};
use cairn_types::{ErrorCode, HostUuid};

use crate::address::{self, Free};

/// A nic that is to be told its address on a host.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    pub(crate) nic: String,
    pub(crate) vm: String,
    pub(crate) bridge: String,
    pub(crate) l3_network: String,
    pub(crate) gateway: String,
    pub(crate) prefix_length: u32,
    pub(crate) mac: String,
    pub(crate) ip: String,
    pub(crate) host_name: String,
}

/// A revision of what a bridge serves, and the one that its host is known to have, if what is to be
/// served has only grown since.
struct Next {
    revision: i64,
    since: Option<i64>,
}

/// Adds leases on a host, and says what the bridges in question are to serve then.
pub(crate) async fn add(
    tx: &mut Tx,
    host: HostUuid,
    leases: &[Lease],
) -> Result<Vec<ApplyDhcp>, Fault> {
    let mut bridges: Vec<(String, Next)> = Vec::new();
    for lease in leases {
        let known = bridges.iter().position(|(name, _)| *name == lease.bridge);
        let place = match known {
            Some(place) => place,
            None => {
                let next = next(tx, host, &lease.bridge).await?;
                bridges.push((lease.bridge.clone(), next));
                bridges.len() - 1
            }
        };
        let sql = "INSERT INTO dhcp_lease (host_uuid, vm_nic_uuid, vm_instance_uuid, bridge, \
                   l3_network_uuid, gateway, prefix_length, mac, ip, host_name, revision) \
                   VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
                   ON CONFLICT (host_uuid, vm_nic_uuid) DO UPDATE SET \
                   host_name = excluded.host_name, revision = excluded.revision";
        let values = vec![
            host.to_string().into(),
            (&lease.nic).into(),
            (&lease.vm).into(),
            (&lease.bridge).into(),
            (&lease.l3_network).into(),
            (&lease.gateway).into(),
            lease.prefix_length.into(),
            (&lease.mac).into(),
            (&lease.ip).into(),
            (&lease.host_name).into(),
            bridges[place].1.revision.into(),
        ];
        tx.execute(sql, values).await?;
        ensure_server(tx, host, lease).await?;
    }
    let mut all = Vec::with_capacity(bridges.len());
    for (bridge, next) in bridges {
        all.push(wanted(tx, host, bridge, next).await?);
    }
    Ok(all)
}

/// Removes the leases of a virtual machine on a host, and says what the bridges in question are to
/// serve then. Also in question is a bridge that is not known to be as it should: an earlier
/// attempt may have come this far.
pub(crate) async fn remove(tx: &mut Tx, host: HostUuid, vm: &str) -> Result<Vec<ApplyDhcp>, Fault> {
    let host_uuid = || Value::from(host.to_string());
    let sql = "SELECT bridge FROM dhcp_lease WHERE host_uuid = ? AND vm_instance_uuid = ? \
               UNION SELECT bridge FROM dhcp_bridge WHERE host_uuid = ? AND applied < revision \
               ORDER BY 1";
    let values = vec![host_uuid(), vm.into(), host_uuid()];
    let bridges = texts(&tx.rows(sql, values).await?)?;
    let sql = "DELETE FROM dhcp_lease WHERE host_uuid = ? AND vm_instance_uuid = ?";
    tx.execute(sql, vec![host_uuid(), vm.into()]).await?;
    let all = whole_of(tx, host, bridges).await?;
    for ApplyDhcp { bridge, .. } in &all {
        let sql = "UPDATE dhcp_bridge SET removed = revision WHERE host_uuid = ? AND bridge = ?";
        tx.execute(sql, vec![host_uuid(), bridge.into()]).await?;
    }
    Ok(all)
}

/// What all bridges of a host are to serve of which anything is known.
pub(crate) async fn all(tx: &mut Tx, host: HostUuid) -> Result<Vec<ApplyDhcp>, Fault> {
    let host_uuid = || Value::from(host.to_string());
    let sql = "SELECT bridge FROM dhcp_lease WHERE host_uuid = ? \
               UNION SELECT bridge FROM dhcp_bridge WHERE host_uuid = ? AND applied < revision \
               ORDER BY 1";
    let bridges = texts(&tx.rows(sql, vec![host_uuid(), host_uuid()]).await?)?;
    whole_of(tx, host, bridges).await
}

/// Notes that a host has this revision. Addresses that nothing is served from go back, unless a
/// later revision is on its way: between the two the host may have them.
pub(crate) async fn settle(
    tx: &mut Tx,
    host: HostUuid,
    bridge: &str,
    revision: u64,
) -> Result<(), Fault> {
    let place = || vec![Value::from(host.to_string()), bridge.into()];
    let revision = i64::try_from(revision).unwrap_or(i64::MAX);
    let sql = "UPDATE dhcp_bridge SET applied = ? \
               WHERE host_uuid = ? AND bridge = ? AND applied < ?";
    let mut values = vec![revision.into()];
    values.extend(place());
    values.push(revision.into());
    tx.execute(sql, values).await?;

    let sql = "DELETE FROM dhcp_server WHERE host_uuid = ? AND bridge = ? \
               AND EXISTS (SELECT 1 FROM dhcp_bridge b WHERE b.host_uuid = dhcp_server.host_uuid \
               AND b.bridge = dhcp_server.bridge AND b.revision = ?) \
               AND NOT EXISTS (SELECT 1 FROM dhcp_lease l \
               WHERE l.host_uuid = dhcp_server.host_uuid \
               AND l.l3_network_uuid = dhcp_server.l3_network_uuid \
               AND l.gateway = dhcp_server.gateway \
               AND l.prefix_length = dhcp_server.prefix_length) \
               RETURNING l3_network_uuid, ip, ip_range_uuid";
    let mut values = place();
    values.push(revision.into());
    let served = tx.rows(sql, values).await?;
    give_back(tx, host, &served).await
}

/// Removes the leases of an address on a host that are of nics that there are none of. The bridges
/// in question: also those that are served from the address.
pub(crate) async fn forget_strays(tx: &mut Tx, host: &str, ip: &str) -> Result<Vec<String>, Fault> {
    let place = || vec![Value::from(host), ip.into()];
    let sql = "SELECT bridge FROM dhcp_server WHERE host_uuid = ? AND ip = ? \
               UNION SELECT bridge FROM dhcp_lease WHERE host_uuid = ? AND ip = ? ORDER BY 1";
    let both = place().into_iter().chain(place()).collect();
    let bridges = texts(&tx.rows(sql, both).await?)?;
    let sql = "DELETE FROM dhcp_lease WHERE host_uuid = ? AND ip = ? \
               AND vm_nic_uuid NOT IN (SELECT uuid FROM vm_nic)";
    tx.execute(sql, place()).await?;
    let sql = "UPDATE dhcp_bridge SET removed = revision WHERE host_uuid = ? AND bridge = ?";
    for bridge in &bridges {
        tx.execute(sql, vec![host.into(), bridge.into()]).await?;
    }
    Ok(bridges)
}

/// Forgets a host, which is being deleted and runs nothing.
pub(crate) async fn forget(tx: &mut Tx, host: HostUuid) -> Result<(), Fault> {
    let host_uuid = || vec![Value::from(host.to_string())];
    for table in ["dhcp_lease", "dhcp_bridge"] {
        let sql = format!("DELETE FROM {table} WHERE host_uuid = ?");
        tx.execute(&sql, host_uuid()).await?;
    }
    let sql = "DELETE FROM dhcp_server WHERE host_uuid = ? \
               RETURNING l3_network_uuid, ip, ip_range_uuid";
    let served = tx.rows(sql, host_uuid()).await?;
    give_back(tx, host, &served).await
}

/// Gives addresses back that a host served from: network, address and range of each.
async fn give_back(tx: &mut Tx, host: HostUuid, served: &[Row]) -> Result<(), Fault> {
    for row in served {
        let ip = row.text(1)?;
        let number = address::number(&ip).ok_or_else(|| {
            let message = format!("a server of host {host} has the address `{ip}`");
            Fault::new(ErrorCode::Internal, message)
        })?;
        let free = Free {
            number,
            ip_range_uuid: row.text(2)?,
        };
        address::give_back(tx, &row.text(0)?, &free).await?;
    }
    Ok(())
}

/// A host that serves from an address of this range.
pub(crate) async fn serves_from(tx: &mut Tx, range: &str) -> Result<Option<String>, Fault> {
    let sql = "SELECT host_uuid FROM dhcp_server WHERE ip_range_uuid = ? LIMIT 1";
    let rows = tx.rows(sql, vec![range.into()]).await?;
    Ok(texts(&rows)?.pop())
}

/// Takes an address for a host to serve a lease's subnet from, if it has none yet.
async fn ensure_server(tx: &mut Tx, host: HostUuid, lease: &Lease) -> Result<(), Fault> {
    let subnet = || {
        vec![
            Value::from(host.to_string()),
            (&lease.l3_network).into(),
            (&lease.gateway).into(),
            lease.prefix_length.into(),
        ]
    };
    let sql = "SELECT 1 FROM dhcp_server WHERE host_uuid = ? AND l3_network_uuid = ? \
               AND gateway = ? AND prefix_length = ?";
    if !tx.rows(sql, subnet()).await?.is_empty() {
        return Ok(());
    }
    let network = &lease.l3_network;
    let within = (&*lease.gateway, lease.prefix_length);
    let Some(free) = address::take_within(tx, network, within).await? else {
        let message = format!(
            "l3-network {network} has no free address that host {host} could serve addresses by DHCP \
             from; create another ip-range with the gateway {}",
            lease.gateway
        );
        let fault = Fault::new(ErrorCode::OutOfCapacity, message);
        return Err(fault.on(L3Network::NOUN, network));
    };
    let sql = "INSERT INTO dhcp_server (host_uuid, l3_network_uuid, gateway, prefix_length, bridge, \
               ip, ip_range_uuid) VALUES (?, ?, ?, ?, ?, ?, ?)";
    let mut values = subnet();
    values.push((&lease.bridge).into());
    values.push(address::text(free.number).into());
    values.push(free.ip_range_uuid.into());
    tx.execute(sql, values).await?;
    Ok(())
}

/// All that a bridge is to serve, as the next revision.
pub(crate) async fn whole(tx: &mut Tx, host: HostUuid, bridge: String) -> Result<ApplyDhcp, Fault> {
    let Next { revision, .. } = next(tx, host, &bridge).await?;
    let all = Next {
        revision,
        since: None,
    };
    wanted(tx, host, bridge, all).await
}

async fn whole_of(
    tx: &mut Tx,
    host: HostUuid,
    bridges: Vec<String>,
) -> Result<Vec<ApplyDhcp>, Fault> {
    let mut all = Vec::with_capacity(bridges.len());
    for bridge in bridges {
        all.push(whole(tx, host, bridge).await?);
    }
    Ok(all)
}

/// Counts a change of what a bridge serves.
async fn next(tx: &mut Tx, host: HostUuid, bridge: &str) -> Result<Next, Fault> {
    let sql = "INSERT INTO dhcp_bridge (host_uuid, bridge, revision, applied) VALUES (?, ?, 1, 0) \
               ON CONFLICT (host_uuid, bridge) DO UPDATE SET revision = dhcp_bridge.revision + 1 \
               RETURNING revision, applied, removed";
    let rows = tx
        .rows(sql, vec![host.to_string().into(), bridge.into()])
        .await?;
    let row = rows.first().ok_or_else(|| {
        Fault::new(
            ErrorCode::Internal,
            format!("bridge {bridge} of host {host} has no row"),
        )
    })?;
    let (applied, removed) = (row.int(1)?, row.int(2)?);
    Ok(Next {
        revision: row.int(0)?,
        since: (applied > 0 && applied >= removed).then_some(applied),
    })
}

/// What a bridge is to serve, as this revision.
async fn wanted(
    tx: &mut Tx,
    host: HostUuid,
    bridge: String,
    Next { revision, since }: Next,
) -> Result<ApplyDhcp, Fault> {
    let values = vec![
        Value::from(host.to_string()),
        (&bridge).into(),
        // The revisions of a bridge begin with 1; leases from before they were counted have 0.
        since.unwrap_or(-1).into(),
    ];
    let sql = "SELECT s.ip, s.prefix_length, s.gateway, l.mac, l.ip, l.host_name \
               FROM dhcp_lease l JOIN dhcp_server s ON s.host_uuid = l.host_uuid \
               AND s.l3_network_uuid = l.l3_network_uuid AND s.gateway = l.gateway \
               AND s.prefix_length = l.prefix_length \
               WHERE l.host_uuid = ? AND l.bridge = ? AND l.revision > ? ORDER BY s.ip, l.mac";
    let mut subnets: Vec<DhcpSubnet> = Vec::new();
    for row in tx.rows(sql, values).await? {
        let address = row.text(0)?;
        let lease = DhcpLease {
            mac: row.text(3)?,
            ip: row.text(4)?,
            host_name: row.text(5)?,
        };
        match subnets.last_mut() {
            Some(subnet) if subnet.address == address => subnet.leases.push(lease),
            _ => subnets.push(DhcpSubnet {
                address,
                prefix_length: u32::try_from(row.int(1)?).unwrap_or_default(),
                gateway: row.text(2)?,
                domain_name: None,
                dns: Vec::new(),
                leases: vec![lease],
            }),
        }
    }
    Ok(ApplyDhcp {
        bridge,
        revision: u64::try_from(revision).unwrap_or_default(),
        since: since.and_then(|since| u64::try_from(since).ok()),
        subnets,
    })
}

fn texts(rows: &[Row]) -> Result<Vec<String>, Fault> {
    rows.iter().map(|row| Ok(row.text(0)?)).collect()
}
