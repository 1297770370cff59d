//! The command for the addresses that virtual machines are told on a bridge.

use serde::{Deserialize, Serialize};

/// What is to be served on a bridge, all of it: what is not in here is served no longer. One
/// bridge carries as many subnets as networks share its wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyDhcp {
    /// The bridge; it must be there, unless nothing is to be served.
    pub bridge: String,
    /// Grows with each change. One that is lower than what was applied is a success without
    /// effect: commands may overtake each other.
    pub revision: u64,
    /// The subnets; none: nothing is served.
    pub subnets: Vec<DhcpSubnet>,
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
    /// Who gets which address; nobody else gets any.
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
