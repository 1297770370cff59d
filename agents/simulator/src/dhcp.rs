//! What simulated hosts serve by DHCP.

use cairn_agent_protocol::{ApplyDhcp, Behind, CommandError, DhcpSubnet};
use serde::{Deserialize, Serialize};

use crate::HostState;

/// What is served on a bridge.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DhcpState {
    /// Of the command that was applied last. It stays when nothing is served any more.
    pub revision: u64,
    /// The subnets.
    pub subnets: Vec<DhcpSubnet>,
}

impl HostState {
    pub(crate) fn apply_dhcp(
        &mut self,
        command: ApplyDhcp,
    ) -> Result<Option<Behind>, CommandError> {
        let bridge = command.bridge.clone();
        if !command.subnets.is_empty() && !self.bridges.contains_key(&bridge) {
            return Err(CommandError::failed(format!("there is no bridge {bridge}")));
        }
        let state = self.dhcp.entry(bridge).or_default();
        if command.revision >= state.revision {
            match command.whole(state.revision, &state.subnets) {
                Ok(ApplyDhcp {
                    revision, subnets, ..
                }) => *state = DhcpState { revision, subnets },
                Err(behind) => return Ok(Some(behind)),
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_agent_protocol::EnsureBridge;
    use cairn_types::HostUuid;

    #[test]
    fn an_overtaken_command_changes_nothing() {
        let mut host = HostState::new(HostUuid::generate());
        let subnet = DhcpSubnet {
            address: "10.1.0.9".to_owned(),
            prefix_length: 16,
            gateway: "10.1.0.1".to_owned(),
            domain_name: None,
            dns: Vec::new(),
            leases: Vec::new(),
        };
        let apply = |revision, subnets: &[DhcpSubnet]| ApplyDhcp {
            bridge: "br_eth0".to_owned(),
            revision,
            since: None,
            subnets: subnets.to_vec(),
        };
        let with = std::slice::from_ref(&subnet);
        assert!(host.apply_dhcp(apply(1, with)).is_err());
        let ensure = EnsureBridge {
            bridge: "br_eth0".to_owned(),
            interface: "eth0".to_owned(),
        };
        host.ensure_bridge(ensure).unwrap();
        host.apply_dhcp(apply(2, with)).unwrap();
        host.apply_dhcp(apply(1, &[])).unwrap();
        assert_eq!(host.dhcp["br_eth0"].subnets, with);
        host.apply_dhcp(apply(3, &[])).unwrap();
        host.apply_dhcp(apply(2, with)).unwrap();
        let gone = DhcpState {
            revision: 3,
            subnets: Vec::new(),
        };
        assert_eq!(host.dhcp["br_eth0"], gone);

        let add = |since, revision| ApplyDhcp {
            since: Some(since),
            ..apply(revision, with)
        };
        let behind = Some(Behind {
            since: 4,
            applied: 3,
        });
        assert_eq!(host.apply_dhcp(add(4, 5)).unwrap(), behind);
        assert_eq!(host.dhcp["br_eth0"], gone);
        assert_eq!(host.apply_dhcp(add(3, 5)).unwrap(), None);
        assert_eq!(host.dhcp["br_eth0"].subnets, with);
    }
}
