//! Nics: an address, a hardware address and a row, taken and given back together.

use cairn_proto::{
    compute::v1alpha1::ResourceState,
    fault::Fault,
    meta::Resource,
    network::v1alpha1::{IpRange, L2Network, L3Network, VmNic},
};
use cairn_resource::now;
use cairn_store::{Tx, Value};
use cairn_types::{ErrorCode, Uuid};

use crate::{
    Area,
    address::{self, Free},
};

/// How often another hardware address is tried. With a million nics, one in a million meets a
/// clash the first time.
const MAC_ATTEMPTS: u32 = 16;

/// A nic to be.
#[derive(Debug, Clone)]
pub(crate) struct Allocation {
    pub(crate) uuid: Uuid,
    pub(crate) account_uuid: String,
    pub(crate) vm_instance_uuid: String,
    pub(crate) l3_network_uuid: String,
    pub(crate) device_index: u32,
}

/// A nic and the interface that its bridge is over.
pub(crate) type Plugged = (VmNic, String);

impl Area {
    /// The nic of that uuid: as it is, or made now.
    pub(crate) async fn allocate_nic(&self, asked: Allocation) -> Result<Plugged, Fault> {
        let allocated = self.store.write(move |tx| {
            let asked = asked.clone();
            Box::pin(async move { allocate(tx, &asked).await })
        });
        allocated.await
    }

    /// Removes a nic; one that is not there is a success.
    pub(crate) async fn release_nic(&self, uuid: &str) -> Result<(), Fault> {
        let uuid = uuid.to_owned();
        let released = self.store.write(move |tx| {
            let uuid = uuid.clone();
            Box::pin(async move { release(tx, &uuid).await })
        });
        released.await
    }

    /// The nics of a virtual machine, in the order of their places.
    pub(crate) async fn nics(&self, vm: &str) -> Result<Vec<Plugged>, Fault> {
        let of_vm = "vm_instance_uuid = ? ORDER BY device_index, uuid";
        let nics: Vec<VmNic> = self.store.list(of_vm, vec![vm.into()]).await?;
        let mut plugged = Vec::with_capacity(nics.len());
        for nic in nics {
            let carried_by = "uuid IN (SELECT l2_network_uuid FROM l3_network WHERE uuid = ?)";
            let values = vec![(&nic.l3_network_uuid).into()];
            let carrier = self.store.list::<L2Network>(carried_by, values).await?;
            let carrier = carrier.into_iter().next();
            let carrier =
                carrier.ok_or_else(|| Fault::not_found(L3Network::NOUN, &nic.l3_network_uuid))?;
            plugged.push((nic, carrier.physical_interface));
        }
        Ok(plugged)
    }
}

async fn allocate(tx: &mut Tx, asked: &Allocation) -> Result<Plugged, Fault> {
    let uuid = asked.uuid.to_string();
    if let Some(nic) = tx.get::<VmNic>(&uuid).await? {
        let network = get::<L3Network>(tx, &nic.l3_network_uuid).await?;
        let carrier = get::<L2Network>(tx, &network.l2_network_uuid).await?;
        return Ok((nic, carrier.physical_interface));
    }
    let network = get::<L3Network>(tx, &asked.l3_network_uuid).await?;
    if network.state() != ResourceState::Enabled {
        let message = format!(
            "l3-network {} is disabled; enable it, or take another one",
            network.uuid
        );
        return Err(Fault::new(ErrorCode::WrongState, message).on(L3Network::NOUN, &network.uuid));
    }
    let carrier = get::<L2Network>(tx, &network.l2_network_uuid).await?;
    let Some(free) = address::take(tx, &network.uuid).await? else {
        return Err(full(tx, &network).await?);
    };
    let range = get::<IpRange>(tx, &free.ip_range_uuid).await?;
    let mut nic = VmNic {
        uuid,
        name: format!("nic-{}", asked.device_index),
        account_uuid: asked.account_uuid.clone(),
        vm_instance_uuid: asked.vm_instance_uuid.clone(),
        l3_network_uuid: network.uuid,
        ip_range_uuid: range.uuid,
        ip: address::text(free.number),
        prefix_length: range.prefix_length,
        gateway: range.gateway,
        mac: free_mac(tx, asked.uuid).await?,
        device_index: asked.device_index,
        ..VmNic::default()
    };
    nic.stamp(now());
    tx.insert(&nic).await?;
    Ok((nic, carrier.physical_interface))
}

async fn release(tx: &mut Tx, uuid: &str) -> Result<(), Fault> {
    let Some(nic) = tx.get::<VmNic>(uuid).await? else {
        return Ok(());
    };
    tx.delete::<VmNic>(uuid).await?;
    let number = address::number(&nic.ip).ok_or_else(|| {
        let message = format!("vm-nic {uuid} has the address `{}`", nic.ip);
        Fault::new(ErrorCode::Internal, message)
    })?;
    let free = Free {
        number,
        ip_range_uuid: nic.ip_range_uuid,
    };
    address::give_back(tx, &nic.l3_network_uuid, &free).await
}

async fn get<R: Resource>(tx: &mut Tx, uuid: &str) -> Result<R, Fault> {
    let found = tx.get::<R>(uuid).await?;
    found.ok_or_else(|| Fault::not_found(R::NOUN, uuid))
}

async fn full(tx: &mut Tx, network: &L3Network) -> Result<Fault, Fault> {
    let (name, uuid) = (&network.name, &network.uuid);
    let sql = "SELECT (SELECT COUNT(*) FROM vm_nic WHERE l3_network_uuid = ?) \
               + (SELECT COUNT(*) FROM dhcp_server WHERE l3_network_uuid = ?)";
    let used = tx.rows(sql, vec![uuid.into(), uuid.into()]).await?;
    let used = used.first().map_or(Ok(0), |row| row.int(0))?;
    let message = if used == 0 {
        format!("l3-network {name} ({uuid}) has no addresses; create an ip-range in it")
    } else {
        format!(
            "l3-network {name} ({uuid}) has no free address: all {used} are in use; create \
             another ip-range in it"
        )
    };
    Ok(Fault::new(ErrorCode::OutOfCapacity, message).on(L3Network::NOUN, uuid))
}

/// A hardware address that no nic of the cloud has.
async fn free_mac(tx: &mut Tx, nic: Uuid) -> Result<String, Fault> {
    for attempt in 0..MAC_ATTEMPTS {
        let mac = mac(nic, attempt);
        let sql = "SELECT 1 FROM vm_nic WHERE mac = ?";
        if tx.rows(sql, vec![Value::from(&mac)]).await?.is_empty() {
            return Ok(mac);
        }
    }
    let message = format!("every hardware address that was tried for nic {nic} is in use");
    Err(Fault::new(ErrorCode::OutOfCapacity, message))
}

/// `fa` says that the address is of one interface and given out locally (IEEE 802, 8.2).
fn mac(nic: Uuid, attempt: u32) -> String {
    let made = Uuid::new_v5(&nic, format!("mac/{attempt}").as_bytes());
    let [a, b, c, d, e, ..] = *made.as_bytes();
    format!("fa:{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hardware_address_follows_from_the_nic() {
        let nic = Uuid::from_u128(7);
        assert_eq!(mac(nic, 0), mac(nic, 0));
        assert_ne!(mac(nic, 0), mac(nic, 1));
        assert_ne!(mac(nic, 0), mac(Uuid::from_u128(8), 0));
        assert_eq!(mac(nic, 0).len(), "fa:16:3e:00:00:01".len());
    }
}
