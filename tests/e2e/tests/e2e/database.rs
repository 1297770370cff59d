//! A node and the server of its database.

use cairn_e2e::Cloud;
use cairn_node::{Config, Node};
use cairn_proto::{
    call::Mesh,
    compute::v1alpha1::{CreateZoneRequest, Zone, ZoneClient},
    event::result,
};
use cairn_testkit::{Database, wait_for};
use cairn_types::chain;
use std::time::Duration;
use tonic::Status;

const LIMIT: Duration = Duration::from_secs(30);

async fn create_zone(mesh: &Mesh, name: &str) -> Result<Zone, Status> {
    let request = CreateZoneRequest {
        name: name.to_owned(),
        ..CreateZoneRequest::default()
    };
    result(ZoneClient::new(mesh.clone()).create_zone(request).await?).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_node_on_the_database_is_refused() {
    let mut cloud = Cloud::start_on(Database::Postgres).await;
    let other = tempfile::tempdir().unwrap();
    let url = cloud.config().database.url;
    let second = || {
        let mut config = Config::new(other.path());
        config.public.listen.set_port(0);
        config.callback.listen.set_port(0);
        config.database.url = url.clone();
        Node::start(config)
    };
    let refused = match second().await {
        Ok(_) => panic!("it started"),
        Err(error) => chain(&error),
    };
    assert!(
        refused.contains("is in use by another node; stop that one"),
        "{refused}"
    );
    create_zone(&cloud.mesh(), "east").await.unwrap();

    cloud.stop_node().await;
    let again = second().await.unwrap();
    again.stop(LIMIT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_restarts_is_waited_for() {
    let mut cloud = Cloud::start_on(Database::Postgres).await;
    create_zone(&cloud.mesh(), "east").await.unwrap();
    cloud.postgres().unwrap().stop();
    let refused = create_zone(&cloud.mesh(), "lost").await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused}");
    cloud.postgres().unwrap().start_again().await;
    let created = async || create_zone(&cloud.mesh(), "west").await.ok();
    wait_for("writes go on", created, LIMIT).await;
    assert_eq!(cloud.count("zone").await, 2);
}
