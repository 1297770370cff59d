//! Hosts come, go and come back.

use cairn_e2e::Cloud;
use cairn_proto::{
    compute::v1alpha1::{
        ClusterClient, DeleteClusterRequest, DeleteHostRequest, GetHostRequest, HostClient,
        HostStatus, ReconnectHostRequest,
    },
    event::result,
    fault::Fault,
};
use cairn_types::ErrorCode;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_connects_is_lost_and_comes_back() {
    let mut cloud = Cloud::start().await;
    let site = cloud.site(2).await;
    let host = &site.hosts[0];
    assert_eq!((host.cpu_count, host.memory_bytes), (64, 256 << 30));
    assert_eq!(host.available_memory_bytes, host.memory_bytes);
    assert_eq!(host.zone_uuid, site.zone);

    cloud.stop_agents().await;
    cloud.host_in(&host.uuid, HostStatus::Disconnected).await;
    cloud.start_agents().await;
    cloud.connected(&host.uuid).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_are_connected_again_after_the_node_restarted() {
    let mut cloud = Cloud::start().await;
    let site = cloud.site(1).await;
    cloud.stop_node().await;
    cloud.stop_agents().await;
    cloud.start_node().await;
    // The row still says Connected; the node finds out that nobody answers.
    cloud
        .host_in(&site.hosts[0].uuid, HostStatus::Disconnected)
        .await;
    cloud.start_agents().await;
    cloud.connected(&site.hosts[0].uuid).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_referred_to_cannot_go_and_what_is_gone_is_refused() {
    let cloud = Cloud::start().await;
    let site = cloud.site(1).await;
    let (hosts, host) = (HostClient::new(cloud.mesh()), site.hosts[0].uuid.clone());

    let delete = DeleteClusterRequest {
        uuid: site.cluster.clone(),
    };
    let clusters = ClusterClient::new(cloud.mesh());
    let refused = result(clusters.delete_cluster(delete).await.unwrap())
        .await
        .unwrap_err();
    let refused = Fault::from_status(&refused);
    assert_eq!(refused.code, ErrorCode::InUse);
    assert!(refused.message.contains("1 host"), "{}", refused.message);

    let deleted = hosts
        .delete_host(DeleteHostRequest { uuid: host.clone() })
        .await
        .unwrap();
    assert_eq!(result(deleted).await.unwrap().uuid, host);
    let gone = hosts
        .get_host(GetHostRequest { uuid: host.clone() })
        .await
        .unwrap_err();
    assert_eq!(Fault::from_status(&gone).code, ErrorCode::NotFound);
    let again = hosts
        .reconnect_host(ReconnectHostRequest { uuid: host })
        .await
        .unwrap();
    let again = result(again).await.unwrap_err();
    assert_eq!(Fault::from_status(&again).code, ErrorCode::NotFound);
}
