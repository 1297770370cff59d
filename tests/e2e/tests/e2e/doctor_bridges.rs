//! A detachment of a network that was given up half way is found, and begun again.

use std::time::Duration;

use cairn_proto::{
    compute::v1alpha1::{HostStatus, StopVmInstanceRequest, VmInstanceClient},
    doctor::v1alpha1::{
        FixOutcome,
        Problem::{self, Differs},
    },
    event::result,
    network::v1alpha1::{AttachL2NetworkToClusterRequest, L2Network, L2NetworkClient},
    operation::v1alpha1::{Operation, OperationState},
};
use cairn_testkit::{Database, wait_until};

use crate::doctor::Bed;

const LIMIT: Duration = Duration::from_secs(30);

/// What is found of a detachment that nobody is at.
const HALF: [(&str, Problem, &str); 1] = [("bridge-removal", Differs, "l2-network")];

impl Bed {
    /// A cloud whose network was to be detached, and nobody goes on with it. What needs the network
    /// runs if `runs`.
    async fn half_detached(database: Database, runs: bool) -> Self {
        let bed = Self::on(database).await;
        if !runs {
            let stop = StopVmInstanceRequest {
                uuid: bed.vm.uuid.clone(),
                ..Default::default()
            };
            let vms = VmInstanceClient::new(bed.cloud.mesh());
            result(vms.stop_vm_instance(stop).await.unwrap())
                .await
                .unwrap();
        }
        bed.execute("UPDATE cluster_bridge SET removing = 1").await;
        bed
    }

    async fn rows(&self, sql: &str) -> usize {
        let rows = self.cloud.store().rows(sql, Vec::new()).await;
        rows.unwrap().len()
    }

    /// How the detachment that a fix began ended.
    async fn detached(&self) -> OperationState {
        let named = "name = 'DetachL2NetworkFromCluster' AND state <> 'Accepted'";
        let ended = async || {
            let ended = self.cloud.store().list::<Operation>(named, Vec::new());
            ended.await.unwrap()
        };
        let one = |ended: &Vec<Operation>| ended.len() == 1;
        wait_until("it is detached, or not", ended, one, LIMIT).await[0].state()
    }

    fn bridges(&self) -> Vec<String> {
        let hosts = self.cloud.simulator.hosts().into_iter();
        hosts.flat_map(|host| host.bridges.into_keys()).collect()
    }
}

async fn it_is_brought_to_its_end(database: Database) {
    let bed = Bed::half_detached(database, false).await;
    let half = bed.finds("half detached", &HALF).await.remove(0);
    let fixed = bed.fix(&half).await.unwrap();
    assert_eq!(fixed.outcome(), FixOutcome::Fixed);
    assert_eq!(bed.detached().await, OperationState::Succeeded);
    assert_eq!(bed.bridges(), <[String; 0]>::default());
    assert_eq!(bed.cloud.count("l2-network-attachment").await, 0);
    assert_eq!(bed.rows("SELECT 1 FROM cluster_bridge").await, 0);
    bed.finds("afterwards", &[]).await;
    // What was found then is not there any more.
    let again = bed.fix(&half).await.unwrap();
    assert_eq!(again.outcome(), FixOutcome::Gone);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_brought_to_its_end_on_sqlite() {
    it_is_brought_to_its_end(Database::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_brought_to_its_end_on_postgres() {
    it_is_brought_to_its_end(Database::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_away_loses_its_bridge_when_it_is_back() {
    let mut bed = Bed::half_detached(Database::Sqlite, false).await;
    let half = bed.finds("half detached", &HALF).await.remove(0);
    bed.cloud.stop_agents().await;
    let host = bed.host.to_string();
    bed.cloud.host_in(&host, HostStatus::Disconnected).await;
    bed.fix(&half).await.unwrap();
    assert_eq!(bed.detached().await, OperationState::Succeeded);
    assert_eq!(bed.bridges(), ["br_eth0"]);
    bed.cloud.start_agents().await;
    let left = async || (bed.bridges(), bed.cloud.count("gc-job").await);
    let nothing = |(bridges, jobs): &(Vec<String>, u64)| bridges.is_empty() && *jobs == 0;
    wait_until("the bridge is gone", left, nothing, LIMIT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_on_it_keeps_it_and_the_network_stays() {
    let bed = Bed::half_detached(Database::Sqlite, true).await;
    let half = bed.finds("half detached", &HALF).await.remove(0);
    bed.fix(&half).await.unwrap();
    assert_eq!(bed.detached().await, OperationState::Failed);
    assert_eq!(bed.bridges(), ["br_eth0"]);
    bed.finds("afterwards", &[]).await;
    // Nothing keeps others from it.
    bed.cloud.create_vm(&bed.ready, "another").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_is_attached_again_meanwhile_stays() {
    let bed = Bed::half_detached(Database::Sqlite, false).await;
    let half = bed.finds("half detached", &HALF).await.remove(0);
    let networks: Vec<L2Network> = bed.cloud.store().list("", Vec::new()).await.unwrap();
    let attach = AttachL2NetworkToClusterRequest {
        uuid: networks[0].uuid.clone(),
        cluster_uuid: bed.ready.site.cluster.clone(),
    };
    let client = L2NetworkClient::new(bed.cloud.mesh());
    let attached = client.attach_l2_network_to_cluster(attach).await.unwrap();
    result(attached).await.unwrap();
    let fixed = bed.fix(&half).await.unwrap();
    assert_eq!(fixed.outcome(), FixOutcome::Gone);
    assert_eq!(bed.bridges(), ["br_eth0"]);
    assert_eq!(bed.cloud.count("l2-network-attachment").await, 1);
}
