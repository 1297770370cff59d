//! What this area puts right: bridges, what is served on them, and the books of both.

use std::{sync::Arc, time::Duration};

use cairn_agent::Task;
use cairn_agent_protocol::{AgentCommand, EnsureBridge, RemoveStray, Stray};
use cairn_inspect::Repair;
use cairn_proto::{
    call::Context,
    compute::v1alpha1::Host,
    doctor::v1alpha1::Problem,
    event,
    fault::Fault,
    meta::Resource as _,
    network::v1alpha1::{DetachL2NetworkFromClusterRequest, L2Network, L3Network},
};
use cairn_types::{ErrorCode, HostUuid, TaskUuid, Uuid};

use super::addresses;
use crate::{Area, dhcp, l2_network::bridge};

/// A few calls of the kernel; more than this is a hanging machine.
const LIMIT: Duration = Duration::from_secs(8);

impl Area {
    /// Makes right what this area told of, if it did.
    pub(super) async fn repair(&self, repair: &Repair) -> Result<bool, Fault> {
        let finding = &repair.finding;
        // Names have no blanks; what follows the first one tells more of it.
        let (first, rest) = finding
            .identity
            .split_once(' ')
            .unwrap_or((&finding.identity, ""));
        match &*finding.kind {
            "bridge" if finding.problem() == Problem::Extra => {
                self.remove_bridge(repair, first).await?;
            }
            "bridge" => self.make_bridge(repair, &finding.owner_uuid).await?,
            "dhcp-server" | "dhcp-entry" | "bridge-address" => {
                let host = self.host(&finding.host_uuid).await?;
                self.serve_anew(repair, host, first).await?;
            }
            "dhcp-lease" | "dhcp-address" => {
                let host = rest.trim_start_matches("host ");
                self.serve_no_more(repair, first, host).await?;
            }
            "bridge-name" => {
                let cluster = rest.trim_start_matches("cluster ");
                self.give_back_bridge(&finding.owner_uuid, cluster).await?;
            }
            "bridge-removal" => {
                let cluster = rest.trim_start_matches("cluster ");
                self.detach_anew(repair, cluster).await?;
            }
            "address" => addresses::correct(&self.store, &finding.owner_uuid).await?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    async fn host(&self, uuid: &str) -> Result<HostUuid, Fault> {
        let found = self.hosts.find(uuid).await?;
        let (host, _) = found.ok_or_else(|| Fault::not_found(Host::NOUN, uuid))?;
        Ok(host)
    }

    /// Has a host do something for a repair. Every row says the same with or without the outcome.
    async fn have<C: AgentCommand<Reply = ()>>(
        &self,
        repair: &Repair,
        host: HostUuid,
        (step, bridge): (&str, &str),
        command: &C,
    ) -> Result<(), Fault> {
        let task = Task {
            task: TaskUuid(Uuid::new_v5(&repair.task.0, step.as_bytes())),
            operation: repair.operation,
            resource: dhcp::queue(host, bridge),
            limit: LIMIT,
        };
        let ((), ack) = self.hosts.call(host, task, command).await?;
        ack.committed();
        Ok(())
    }

    /// Removes a bridge that no network has in the cluster. One may come to have it meanwhile, and
    /// what it made then is made again.
    async fn remove_bridge(&self, repair: &Repair, bridge: &str) -> Result<(), Fault> {
        let host = self.host(&repair.place.host_uuid).await?;
        let cluster = &repair.place.cluster_uuid;
        if self.holder(cluster, bridge).await?.is_some() {
            return Ok(());
        }
        let name = bridge.to_owned();
        let stray = Stray::Bridge { name };
        let remove = RemoveStray { stray };
        self.have(repair, host, ("remove-bridge", bridge), &remove)
            .await?;
        match self.holder(cluster, bridge).await? {
            Some(network) => self.make_bridge(repair, &network).await,
            None => Ok(()),
        }
    }

    /// The network that has a bridge in a cluster.
    async fn holder(&self, cluster: &str, bridge: &str) -> Result<Option<String>, Fault> {
        let sql =
            "SELECT l2_network_uuid FROM cluster_bridge WHERE cluster_uuid = ? AND bridge = ?";
        let rows = self.store.rows(sql, vec![cluster.into(), bridge.into()]);
        Ok(rows.await?.first().map(|row| row.text(0)).transpose()?)
    }

    /// Makes the bridge of a network what it should be, over its interface and over nothing else.
    async fn make_bridge(&self, repair: &Repair, network: &str) -> Result<(), Fault> {
        let Some(network) = self.store.get::<L2Network>(network).await? else {
            return Ok(());
        };
        let host = self.host(&repair.place.host_uuid).await?;
        let interface = network.physical_interface;
        let bridge = bridge::name(&interface);
        let has = self.hosts.inventory(host, Vec::new(), LIMIT).await?;
        let ports = has.bridges.into_iter().find(|it| it.name == bridge);
        let ports = ports.map(|it| it.ports).unwrap_or_default();
        for port in ports.into_iter().filter(|port| *port != interface) {
            let step = format!("unplug/{port}");
            let stray = Stray::BridgePort {
                bridge: bridge.clone(),
                port,
            };
            let unplug = RemoveStray { stray };
            self.have(repair, host, (&step, &bridge), &unplug).await?;
        }
        let ensure = EnsureBridge {
            bridge: bridge.clone(),
            interface,
        };
        self.have(repair, host, ("ensure-bridge", &bridge), &ensure)
            .await
    }

    /// Has a bridge served as the rows say, and by nobody else: whatever is served on it ends first,
    /// and with it what the agent thinks to have.
    async fn serve_anew(&self, repair: &Repair, host: HostUuid, bridge: &str) -> Result<(), Fault> {
        let name = bridge.to_owned();
        let stray = Stray::Dhcp { bridge: name };
        let forget = RemoveStray { stray };
        self.have(repair, host, ("forget", bridge), &forget).await?;
        self.serve(repair.task, repair.operation, host, bridge)
            .await
    }

    /// Ends what a host serves to nobody that there is.
    async fn serve_no_more(&self, repair: &Repair, ip: &str, host: &str) -> Result<(), Fault> {
        let (ip, uuid) = (ip.to_owned(), host.to_owned());
        let bridges = self.store.write(move |tx| {
            let (ip, host) = (ip.clone(), uuid.clone());
            Box::pin(async move { dhcp::rows::forget_strays(tx, &host, &ip).await })
        });
        let bridges = bridges.await?;
        if let Some((host, _)) = self.hosts.find(host).await? {
            for bridge in bridges {
                self.serve(repair.task, repair.operation, host, &bridge)
                    .await?;
            }
            return Ok(());
        }
        // What a host had that is none any more is gone with it.
        let host: HostUuid = host.parse().map_err(|_| {
            let message = format!("`{host}` is no host's uuid");
            Fault::new(ErrorCode::Internal, message).on(L3Network::NOUN, &repair.finding.owner_uuid)
        })?;
        let forgotten = self
            .store
            .write(move |tx| Box::pin(async move { dhcp::rows::forget(tx, host).await }));
        forgotten.await
    }

    /// Gives a bridge back that a network has in a cluster that it is not attached to.
    async fn give_back_bridge(&self, network: &str, cluster: &str) -> Result<(), Fault> {
        let (network, cluster) = (network.to_owned(), cluster.to_owned());
        let given_back = self.store.write(move |tx| {
            let sql = "DELETE FROM cluster_bridge WHERE l2_network_uuid = ? AND cluster_uuid = ? \
                       AND NOT EXISTS (SELECT 1 FROM l2_network_attachment a \
                       WHERE a.l2_network_uuid = cluster_bridge.l2_network_uuid \
                       AND a.cluster_uuid = cluster_bridge.cluster_uuid)";
            let values = vec![(&network).into(), (&cluster).into()];
            Box::pin(async move { tx.execute(sql, values).await })
        });
        given_back.await?;
        Ok(())
    }

    /// Begins a detachment again that did not come to its end: an operation of its own, which has its
    /// turn after the one that fixes, and is not waited for. Refused there, it takes back what was begun.
    async fn detach_anew(&self, repair: &Repair, cluster: &str) -> Result<(), Fault> {
        let request = DetachL2NetworkFromClusterRequest {
            uuid: repair.finding.owner_uuid.clone(),
            cluster_uuid: cluster.to_owned(),
        };
        let context = Context {
            idempotency_key: Some(repair.task.to_string().into()),
            operation: None,
            held: Arc::new([]),
            ..Context::current()
        };
        let begun = async {
            let detaching = self.l2_networks.detach_l2_network_from_cluster(request);
            event::accepted(detaching.await?).await
        };
        let begun = context.scope(begun).await;
        begun
            .map(drop)
            .map_err(|status| Fault::from_status(&status))
    }
}
