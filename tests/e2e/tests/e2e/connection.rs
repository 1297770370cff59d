//! What one client's connection bears.

use cairn_e2e::Cloud;
use cairn_proto::{
    compute::v1alpha1::{CreateZoneRequest, ZoneClient},
    event::result,
};
use futures::{StreamExt as _, stream};

/// HTTP/2 allows a connection only so many streams that were given up: 1,024.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_bears_any_number_of_operations() {
    let cloud = Cloud::start().await;
    let zones = ZoneClient::new(cloud.mesh());
    let created = stream::iter(0..1_200).map(|number| {
        let request = CreateZoneRequest {
            name: format!("zone-{number}"),
            ..Default::default()
        };
        let zones = &zones;
        async move { result(zones.create_zone(request).await?).await }
    });
    let ended: Vec<_> = created.buffer_unordered(64).collect().await;
    for zone in ended {
        zone.unwrap();
    }
    assert_eq!(cloud.count("zone").await, 1_200);
}
