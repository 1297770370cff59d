//! Addresses as numbers, and the ones that are free.
//!
//! The free addresses of a range are intervals: one for a new range, more as nics come and go.
//! To take the first free address is to cut the lowest number off the lowest interval, however
//! many are in use.

use std::net::Ipv4Addr;

use cairn_proto::fault::Fault;
use cairn_store::{Row, Tx, Value};

/// An address of a network that nobody has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Free {
    pub(crate) number: u32,
    pub(crate) ip_range_uuid: String,
}

/// Makes the addresses of a new range free, from the first to the last.
pub(crate) async fn add(
    tx: &mut Tx,
    network: &str,
    range: &str,
    (first, last): (u32, u32),
) -> Result<(), Fault> {
    let sql = "INSERT INTO free_address \
               (l3_network_uuid, first_number, last_number, ip_range_uuid) VALUES (?, ?, ?, ?)";
    let values: Vec<Value> = vec![network.into(), first.into(), last.into(), range.into()];
    tx.execute(sql, values).await?;
    Ok(())
}

/// The addresses of a range are free no longer: the range goes.
pub(crate) async fn remove(tx: &mut Tx, range: &str) -> Result<(), Fault> {
    let sql = "DELETE FROM free_address WHERE ip_range_uuid = ?";
    tx.execute(sql, vec![range.into()]).await?;
    Ok(())
}

/// Takes the first free address of a network; none if all are in use.
pub(crate) async fn take(tx: &mut Tx, network: &str) -> Result<Option<Free>, Fault> {
    let sql = "SELECT first_number, last_number, ip_range_uuid FROM free_address \
               WHERE l3_network_uuid = ? ORDER BY first_number LIMIT 1";
    let lowest = tx.rows(sql, vec![network.into()]).await?;
    match lowest.first() {
        Some(row) => cut(tx, network, row).await.map(Some),
        None => Ok(None),
    }
}

/// Takes the first free address of a network that is in the subnet of this gateway and prefix
/// length; none if all are in use.
pub(crate) async fn take_within(
    tx: &mut Tx,
    network: &str,
    (gateway, prefix_length): (&str, u32),
) -> Result<Option<Free>, Fault> {
    let sql = "SELECT first_number, last_number, ip_range_uuid FROM free_address \
               WHERE l3_network_uuid = ? AND ip_range_uuid IN (SELECT uuid FROM ip_range \
               WHERE l3_network_uuid = ? AND gateway = ? AND prefix_length = ?) \
               ORDER BY first_number LIMIT 1";
    let values: Vec<Value> = vec![
        network.into(),
        network.into(),
        gateway.into(),
        prefix_length.into(),
    ];
    let lowest = tx.rows(sql, values).await?;
    match lowest.first() {
        Some(row) => cut(tx, network, row).await.map(Some),
        None => Ok(None),
    }
}

/// Cuts the lowest number off an interval.
async fn cut(tx: &mut Tx, network: &str, row: &Row) -> Result<Free, Fault> {
    let (first, last) = (row.int(0)?, row.int(1)?);
    let sql = if first == last {
        "DELETE FROM free_address WHERE l3_network_uuid = ? AND first_number = ?"
    } else {
        "UPDATE free_address SET first_number = first_number + 1 \
         WHERE l3_network_uuid = ? AND first_number = ?"
    };
    tx.execute(sql, vec![network.into(), first.into()]).await?;
    Ok(Free {
        number: u32::try_from(first).unwrap_or_default(),
        ip_range_uuid: row.text(2)?,
    })
}

/// Gives an address back, joined with its free neighbours in the range.
pub(crate) async fn give_back(tx: &mut Tx, network: &str, free: &Free) -> Result<(), Fault> {
    let Free {
        number,
        ip_range_uuid: range,
    } = free;
    let number = i64::from(*number);
    let sql = "DELETE FROM free_address \
               WHERE l3_network_uuid = ? AND first_number = ? AND ip_range_uuid = ? \
               RETURNING last_number";
    let values: Vec<Value> = vec![network.into(), (number + 1).into(), range.into()];
    let after = tx.rows(sql, values).await?;
    let last = after.first().map_or(Ok(number), |row| row.int(0))?;

    let sql = "UPDATE free_address SET last_number = ? \
               WHERE ip_range_uuid = ? AND last_number = ?";
    let values = vec![last.into(), range.into(), (number - 1).into()];
    if tx.execute(sql, values).await? == 0 {
        let sql = "INSERT INTO free_address \
                   (l3_network_uuid, first_number, last_number, ip_range_uuid) \
                   VALUES (?, ?, ?, ?)";
        let values = vec![network.into(), number.into(), last.into(), range.into()];
        tx.execute(sql, values).await?;
    }
    Ok(())
}

/// The number of an address in the usual form; none if it is in another.
pub(crate) fn number(text: &str) -> Option<u32> {
    text.parse::<Ipv4Addr>().ok().map(u32::from)
}

/// The usual form of an address.
pub(crate) fn text(number: u32) -> String {
    Ipv4Addr::from(number).to_string()
}
