//! The command for the addresses that virtual machines are told on a bridge.

use serde::{Deserialize, Serialize};

/// What is to be served on a bridge. One bridge carries as many subnets as networks share its wire.
///
/// It is all of it, and what is not in here is served no longer; or, with `since`, what is served
/// beside what was applied. So one more of a thousand clients is one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyDhcp {
    /// The bridge; it must be there, unless nothing is to be served.
    pub bridge: String,
    /// Grows with each change. One that is lower than what was applied is a success without
    /// effect: commands may overtake each other.
    pub revision: u64,
    /// If there is one: only what was added after this revision is here, and nothing was taken away
    /// since. Who has not applied it or a later one changes nothing, answers [`Behind`], and is sent
    /// all.
    #[serde(default)]
    pub since: Option<u64>,
    /// The subnets; none, without `since`: nothing is served.
    pub subnets: Vec<DhcpSubnet>,
}

/// The answer to a command that adds to what the host does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Behind {
    /// What the command adds to.
    pub since: u64,
    /// What was applied; 0: nothing.
    pub applied: u64,
}

impl ApplyDhcp {
    /// All that is to be served, after `applied` was: its revision and its subnets.
    ///
    /// # Errors
    /// If that is too old to add to.
    pub fn whole(self, applied: u64, subnets: &[DhcpSubnet]) -> Result<Self, Behind> {
        let Some(since) = self.since else {
            return Ok(self);
        };
        if applied < since {
            return Err(Behind { since, applied });
        }
        let mut all = subnets.to_vec();
        for more in self.subnets {
            match all.iter_mut().find(|subnet| subnet.address == more.address) {
                Some(subnet) => subnet.add(more),
                None => all.push(more),
            }
        }
        all.sort_by(|a, b| a.address.cmp(&b.address));
        Ok(Self {
            since: None,
            subnets: all,
            ..self
        })
    }
}

impl DhcpSubnet {
    /// A client is its hardware address: what is said of it last holds.
    fn add(&mut self, more: Self) {
        let mut leases = std::mem::take(&mut self.leases);
        for lease in more.leases {
            match leases.binary_search_by(|other| other.mac.cmp(&lease.mac)) {
                Ok(place) => leases[place] = lease,
                Err(place) => leases.insert(place, lease),
            }
        }
        *self = Self {
            leases,
            address: more.address,
            prefix_length: more.prefix_length,
            gateway: more.gateway,
            domain_name: more.domain_name,
            dns: more.dns,
        };
    }
}

/// A subnet, with the server's own place in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DhcpSubnet {
    /// The address that the server has on the bridge: `10.1.0.9`.
    pub address: String,
    /// The length of the subnet's prefix.
    pub prefix_length: u32,
    /// The router that clients are told.
    pub gateway: String,
    /// The domain that clients are told.
    #[serde(default)]
    pub domain_name: Option<String>,
    /// The name servers that clients are told.
    #[serde(default)]
    pub dns: Vec<String>,
    /// Who gets which address, in the order of their hardware addresses; nobody else gets any.
    pub leases: Vec<DhcpLease>,
}

/// The address of one nic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DhcpLease {
    /// Its hardware address.
    pub mac: String,
    /// Its address.
    pub ip: String,
    /// What the guest is told to be called: a host name of one label.
    pub host_name: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(address: &str, leases: &[(&str, &str)]) -> DhcpSubnet {
        let leases = leases.iter().map(|(mac, ip)| DhcpLease {
            mac: (*mac).to_owned(),
            ip: (*ip).to_owned(),
            host_name: "vm".to_owned(),
        });
        DhcpSubnet {
            address: address.to_owned(),
            prefix_length: 24,
            gateway: "10.0.0.1".to_owned(),
            domain_name: None,
            dns: Vec::new(),
            leases: leases.collect(),
        }
    }

    fn more(since: Option<u64>, subnets: Vec<DhcpSubnet>) -> ApplyDhcp {
        ApplyDhcp {
            bridge: "br_eth0".to_owned(),
            revision: 9,
            since,
            subnets,
        }
    }

    #[test]
    fn what_is_added_stands_beside_what_was_applied() {
        let applied = [subnet(
            "10.0.0.2",
            &[("a", "10.0.0.10"), ("c", "10.0.0.12")],
        )];
        let added = vec![
            subnet("10.0.1.2", &[("d", "10.0.1.10")]),
            subnet("10.0.0.2", &[("b", "10.0.0.11"), ("c", "10.0.0.13")]),
        ];
        let whole = more(Some(7), added.clone()).whole(8, &applied).unwrap();
        let expected = vec![
            subnet(
                "10.0.0.2",
                &[("a", "10.0.0.10"), ("b", "10.0.0.11"), ("c", "10.0.0.13")],
            ),
            subnet("10.0.1.2", &[("d", "10.0.1.10")]),
        ];
        assert_eq!(whole, more(None, expected.clone()));
        // A repeat changes nothing.
        let again = more(Some(7), added).whole(9, &expected).unwrap();
        assert_eq!(again, more(None, expected));
    }

    #[test]
    fn nothing_is_added_to_what_is_not_there() {
        let behind = more(Some(7), vec![]).whole(6, &[]).unwrap_err();
        assert_eq!((behind.since, behind.applied), (7, 6));
        let all = more(None, vec![subnet("10.0.0.2", &[])]);
        assert_eq!(all.clone().whole(0, &[]), Ok(all));
    }
}
