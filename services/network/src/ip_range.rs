//! IP ranges: which addresses of a network virtual machines get.

use std::ops::RangeInclusive;

use async_trait::async_trait;
use cairn_operation::Builder;
use cairn_proto::{
    crud::Check,
    fault::Fault,
    meta::Resource,
    network::v1alpha1::{
        CreateIpRangeRequest, DeleteIpRangeRequest, IpRange, L3Network, UpdateIpRangeRequest,
    },
};
use cairn_resource::{Creating, Creation, Deleting, Removal, Updating};
use cairn_store::Tx;
use cairn_types::ErrorCode;

use crate::{address, dhcp};

/// The prefixes that networks of virtual machines have.
const PREFIX_LENGTHS: RangeInclusive<u32> = 8..=30;
/// The most addresses of one range: those of a /16.
const ADDRESSES_MAX: u32 = 1 << 16;

pub(crate) fn register(operations: Builder) -> Builder {
    operations
        .register(Creating::<CreateIpRangeRequest, _>::with(New))
        .register(Updating::<UpdateIpRangeRequest>::plain())
        .register(Deleting::<DeleteIpRangeRequest, _>::with(Gone))
}

struct New;

#[async_trait]
impl Creation<CreateIpRangeRequest> for New {
    fn check(&self, request: &CreateIpRangeRequest, check: &mut Check) {
        Numbers::check(request, check);
    }

    async fn complete(
        &self,
        tx: &mut Tx,
        _: &CreateIpRangeRequest,
        range: &mut IpRange,
    ) -> Result<(), Fault> {
        let numbers = Numbers::of_row(range)?;
        let uuid = &range.l3_network_uuid;
        let network = tx.get::<L3Network>(uuid).await?;
        let network = network.ok_or_else(|| Fault::not_found(L3Network::NOUN, uuid))?;
        // One L2 network is one broadcast domain, whatever L3 networks it carries.
        let beside = "l3_network_uuid IN (SELECT uuid FROM l3_network WHERE l2_network_uuid = ?)";
        let values = vec![(&network.l2_network_uuid).into()];
        for other in tx.list::<IpRange>(beside, values).await? {
            apart(&numbers, &other)?;
        }
        address::add(tx, uuid, &range.uuid, (numbers.start, numbers.end)).await
    }
}

/// Its free addresses go with a range; the nics that have the others keep it.
struct Gone;

#[async_trait]
impl Removal<DeleteIpRangeRequest> for Gone {
    async fn complete(&self, tx: &mut Tx, range: &IpRange) -> Result<(), Fault> {
        if let Some(host) = dhcp::serves_from(tx, &range.uuid).await? {
            let message = format!(
                "host {host} serves virtual machines by DHCP from an address of ip-range {}; stop \
                 those that it runs on this network first",
                range.uuid
            );
            return Err(Fault::new(ErrorCode::InUse, message).on(IpRange::NOUN, &range.uuid));
        }
        address::remove(tx, &range.uuid).await
    }
}

/// The addresses that a range names.
#[derive(Debug, Clone, Copy)]
struct Numbers {
    start: u32,
    end: u32,
    gateway: u32,
}

impl Numbers {
    fn of_row(range: &IpRange) -> Result<Self, Fault> {
        let number = |field: &str, text: &str| {
            address::number(text).ok_or_else(|| Fault::field(field, malformed(text)))
        };
        Ok(Self {
            start: number("start_ip", &range.start_ip)?,
            end: number("end_ip", &range.end_ip)?,
            gateway: number("gateway", &range.gateway)?,
        })
    }

    fn has(&self, number: u32) -> bool {
        (self.start..=self.end).contains(&number)
    }

    fn check(request: &CreateIpRangeRequest, check: &mut Check) {
        let length = request.prefix_length;
        if !PREFIX_LENGTHS.contains(&length) {
            let (least, most) = (PREFIX_LENGTHS.start(), PREFIX_LENGTHS.end());
            let problem = format!("is {length}; give {least} to {most}");
            check.refuse("prefix_length", problem);
        }
        let mut parsed = |field, text: &str| {
            let number = address::number(text);
            if number.is_none() {
                check.refuse(field, malformed(text));
            }
            number
        };
        let start = parsed("start_ip", &request.start_ip);
        let end = parsed("end_ip", &request.end_ip);
        let gateway = parsed("gateway", &request.gateway);
        let (Some(start), Some(end), Some(gateway)) = (start, end, gateway) else {
            return;
        };
        if !PREFIX_LENGTHS.contains(&length) {
            return;
        }
        let host_bits = u32::MAX >> length;
        let (first, last) = (start & !host_bits, start | host_bits);
        let network = format!("{}/{length}", address::text(first));
        for (field, number) in [("start_ip", start), ("end_ip", end), ("gateway", gateway)] {
            let text = address::text(number);
            if !(first..=last).contains(&number) {
                check.refuse(field, format!("is {text}, outside of {network}"));
            } else if number == first {
                check.refuse(
                    field,
                    format!("is {text}, the address of network {network}"),
                );
            } else if number == last {
                check.refuse(
                    field,
                    format!("is {text}, the broadcast address of {network}"),
                );
            }
        }
        let numbers = Self {
            start,
            end,
            gateway,
        };
        if end < start {
            let problem = format!(
                "is {}, before start_ip {}",
                request.end_ip, request.start_ip
            );
            check.refuse("end_ip", problem);
        } else if end - start >= ADDRESSES_MAX {
            let count = u64::from(end - start) + 1;
            let problem = format!("makes {count} addresses; {ADDRESSES_MAX} is the most");
            check.refuse("end_ip", problem);
        } else if numbers.has(gateway) {
            let problem = format!(
                "is {}, one of the range; give one outside of it",
                request.gateway
            );
            check.refuse("gateway", problem);
        }
    }
}

fn malformed(text: &str) -> String {
    format!("is `{text}`; give an IPv4 address, as in 192.168.10.20")
}

/// Refuses a range that shares an address with another one on the wire, or has its router.
fn apart(new: &Numbers, other: &IpRange) -> Result<(), Fault> {
    let there = Numbers::of_row(other)?;
    let IpRange {
        uuid,
        start_ip,
        end_ip,
        gateway,
        ..
    } = other;
    let (field, problem) = if new.start <= there.end && there.start <= new.end {
        let problem = format!("overlaps ip-range {uuid}, {start_ip} to {end_ip}");
        ("start_ip", problem)
    } else if new.has(there.gateway) {
        let problem = format!("makes a range with {gateway}, the gateway of ip-range {uuid}");
        ("start_ip", problem)
    } else if there.has(new.gateway) {
        let problem = format!("is an address of ip-range {uuid}, {start_ip} to {end_ip}");
        ("gateway", problem)
    } else {
        return Ok(());
    };
    Err(Fault::field(field, problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fields that are refused, with why.
    fn problems(start_ip: &str, end_ip: &str, prefix_length: u32, gateway: &str) -> Vec<String> {
        let request = CreateIpRangeRequest {
            start_ip: start_ip.to_owned(),
            end_ip: end_ip.to_owned(),
            prefix_length,
            gateway: gateway.to_owned(),
            ..CreateIpRangeRequest::default()
        };
        let mut check = Check::default();
        Numbers::check(&request, &mut check);
        let fields = check.finish().err().map(|fault| fault.fields);
        let fields = fields.unwrap_or_default().into_iter();
        fields
            .map(|(field, why)| format!("{field} {why}"))
            .collect()
    }

    #[test]
    fn a_range_is_within_its_network_and_beside_its_gateway() {
        for (start, end, prefix, gateway, expected) in [
            ("10.0.0.2", "10.0.0.254", 24, "10.0.0.1", ""),
            ("10.0.0.2", "10.0.0.2", 30, "10.0.0.1", ""),
            (
                "10.0.0.0",
                "10.0.255.255",
                15,
                "10.1.0.1",
                "start_ip is 10.0.0.0, the address of network 10.0.0.0/15",
            ),
            ("10.1.0.0", "10.1.255.255", 8, "10.0.0.1", ""),
            (
                "10.1.0.0",
                "10.2.0.0",
                8,
                "10.0.0.1",
                "end_ip makes 65537 addresses; 65536 is the most",
            ),
            (
                "10.0.0.9",
                "10.0.0.2",
                24,
                "10.0.0.1",
                "end_ip is 10.0.0.2, before start_ip 10.0.0.9",
            ),
            (
                "10.0.0.2",
                "10.0.1.9",
                24,
                "10.0.0.1",
                "end_ip is 10.0.1.9, outside of 10.0.0.0/24",
            ),
            (
                "10.0.0.2",
                "10.0.0.255",
                24,
                "10.0.0.1",
                "end_ip is 10.0.0.255, the broadcast address of 10.0.0.0/24",
            ),
            (
                "10.0.0.2",
                "10.0.0.9",
                24,
                "10.0.1.1",
                "gateway is 10.0.1.1, outside of 10.0.0.0/24",
            ),
            (
                "10.0.0.2",
                "10.0.0.9",
                24,
                "10.0.0.5",
                "gateway is 10.0.0.5, one of the range; give one outside of it",
            ),
            (
                "10.0.0.2",
                "10.0.0.9",
                31,
                "10.0.0.1",
                "prefix_length is 31; give 8 to 30",
            ),
            (
                "10.0.0.2",
                "10.0.0.9",
                7,
                "10.0.0.1",
                "prefix_length is 7; give 8 to 30",
            ),
            (
                "10.0.0.02",
                "10.0.0.9",
                24,
                "10.0.0.1",
                "start_ip is `10.0.0.02`; give an IPv4 address, as in 192.168.10.20",
            ),
            (
                "10.0.0.2",
                "fe80::1",
                24,
                "10.0.0.1",
                "end_ip is `fe80::1`; give an IPv4 address, as in 192.168.10.20",
            ),
            (
                "10.0.0.2",
                "10.0.0.9",
                24,
                "",
                "gateway is ``; give an IPv4 address, as in 192.168.10.20",
            ),
        ] {
            let found = problems(start, end, prefix, gateway);
            let expected: Vec<&str> = Some(expected)
                .filter(|e| !e.is_empty())
                .into_iter()
                .collect();
            assert_eq!(found, expected, "{start} {end} {prefix} {gateway}");
        }
        assert_eq!(problems("", "x", 0, "10.0.0").len(), 4);
    }
}
