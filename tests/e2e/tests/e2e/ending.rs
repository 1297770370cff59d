//! What is left of a node that is killed and of a cloud that ends: nothing that runs.

use std::{net::TcpListener, sync::Arc, time::Duration};

use cairn_e2e::{
    Cloud,
    flows::{Deed, Rule, Script, Visit},
};
use cairn_operation::Point;
use cairn_proto::{compute::v1alpha1::VmInstanceClient, event::result};
use cairn_testkit::{Database, on_both_databases, wait_until};
use tokio::runtime::Handle;

const LIMIT: Duration = Duration::from_secs(30);

on_both_databases! { multi_thread:
    a_cloud_that_ends_leaves_nothing_that_runs,
    a_node_that_is_killed_does_nothing_more_and_another_one_goes_on,
}

fn alive() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

async fn a_cloud_that_ends_leaves_nothing_that_runs(database: Database) {
    let before = alive();
    let cloud = Cloud::start_on(database).await;
    let ready = cloud.ready(2).await;
    cloud.create_vm(&ready, "web").await.unwrap();
    let node = cloud.node();
    let doors = [node.public_address(), node.callback_address()];
    drop(cloud);
    // The node's HTTP client, which is part of a circle, has one that closes idle connections.
    let count = async || alive();
    wait_until("nothing runs", count, |alive| *alive <= before + 1, LIMIT).await;
    for door in doors {
        TcpListener::bind(door).unwrap();
    }
}

async fn a_node_that_is_killed_does_nothing_more_and_another_one_goes_on(database: Database) {
    let mut cloud = Cloud::prepare_on(database).await;
    let script = Arc::new(Script::default());
    cloud.failpoints = Some(script.clone());
    cloud.start_node().await;
    let ready = cloud.ready(1).await;
    let rule = Rule {
        at: Visit {
            flow: "create-vm-instance".to_owned(),
            step: "create-on-hypervisor".to_owned(),
            direction: "run",
            point: Point::AfterEffect,
        },
        deed: Deed::Hold,
    };
    script.write(vec![rule]);
    let vms = VmInstanceClient::new(cloud.mesh());
    let events = vms.create_vm_instance(ready.vm_request("web")).await;
    script.held().await;
    let visits = script.visits();
    cloud.kill_node().await;
    assert!(result(events.unwrap()).await.is_err(), "the call is cut");
    script.let_go();
    assert_eq!(script.visits(), visits, "what is let go is gone");

    cloud.start_node().await;
    let running = async || cloud.count("vm-instance").await;
    wait_until("it goes on", running, |vms| *vms == 1, LIMIT).await;
    let books = async || {
        let under_way = cloud.host(&ready.site.hosts[0].uuid).await;
        under_way.available_memory_bytes < under_way.memory_bytes
    };
    wait_until("it is running", books, |runs| *runs, LIMIT).await;
}
