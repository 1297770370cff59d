//! What fails leaves nothing behind, and what would harm the host is refused.

use std::{path::PathBuf, time::Duration};

use tokio::time::timeout;

use cairn_agent_protocol::{
    Agent as _, CommandErrorCode, CreateVolume, DestroyVm, EnsureBridge, StopVm,
};
use cairn_testkit::wait_until;
use cairn_types::Uuid;

use crate::bed::{Bed, context, small_vm};

const MAC: &str = "52:54:00:00:00:01";

fn bridge(bridge: &str, interface: &str) -> EnsureBridge {
    EnsureBridge {
        bridge: bridge.to_owned(),
        interface: interface.to_owned(),
    }
}

#[tokio::test]
async fn a_failed_start_leaves_nothing() {
    let bed = Bed::new(&[]);
    let (agent, cx) = (bed.agent().await, context());
    agent
        .ensure_bridge(&cx, bridge("br_test", "phys0"))
        .await
        .unwrap();
    let dnsmasq = bed.namespace.pids();

    // QEMU itself refuses: the tap was there already.
    let no_disk = small_vm("vm", "/no/such/volume.qcow2", MAC);
    let error = agent.start_vm(&cx, no_disk.clone()).await.unwrap_err();
    assert!(error.message.contains("/no/such/volume.qcow2"), "{error}");
    // The second interface has no bridge: the first has its tap already.
    let volume = CreateVolume {
        volume: Uuid::now_v7(),
        pool_path: bed.pool(""),
        size_bytes: 1 << 20,
        template: None,
    };
    let volume = agent.create_volume(&cx, volume).await.unwrap();
    let mut no_bridge = small_vm("vm", &volume.path, MAC);
    let second = small_vm("vm", &volume.path, MAC).nics.remove(0);
    no_bridge.nics.push(second);
    no_bridge.nics[1].bridge = "br_none".to_owned();
    let error = agent.start_vm(&cx, no_bridge).await.unwrap_err();
    assert!(error.message.contains("br_none"), "{error}");
    assert_eq!(error.code, CommandErrorCode::Failed);

    assert_eq!(bed.namespace.links(), ["br_test"]);
    assert_eq!(bed.namespace.pids(), dnsmasq);
    assert_eq!(bed.files(), [PathBuf::from(&volume.path)]);

    // One that was started before keeps its folder, and starts when what it lacked is there.
    let mut spec = small_vm("vm", &volume.path, MAC);
    agent.start_vm(&cx, spec.clone()).await.unwrap();
    let stop = StopVm {
        vm: spec.vm,
        grace_secs: 0,
    };
    agent.stop_vm(&cx, stop.clone()).await.unwrap();
    let left = bed.files().len();
    spec.root_volume_path = no_disk.root_volume_path;
    agent.start_vm(&cx, spec.clone()).await.unwrap_err();
    assert_eq!(bed.files().len(), left);
    spec.root_volume_path = volume.path;
    agent.start_vm(&cx, spec).await.unwrap();
    agent.stop_vm(&cx, stop).await.unwrap();
    assert_eq!(bed.namespace.links(), ["br_test"]);
}

/// A start that runs out of time, wherever it is then, is undone.
#[tokio::test]
async fn a_start_that_is_cut_short_is_undone() {
    let bed = Bed::new(&[]);
    let (agent, cx) = (bed.agent().await, context());
    agent
        .ensure_bridge(&cx, bridge("br_test", "phys0"))
        .await
        .unwrap();
    let volume = CreateVolume {
        volume: Uuid::now_v7(),
        pool_path: bed.pool(""),
        size_bytes: 1 << 20,
        template: None,
    };
    let volume = agent.create_volume(&cx, volume).await.unwrap();
    let state = async || (bed.namespace.links(), bed.namespace.pids(), bed.files());
    let before = state().await;
    let mut limit = Duration::ZERO;
    loop {
        let spec = small_vm("vm", &volume.path, MAC);
        let destroy = DestroyVm { vm: spec.vm };
        let started = timeout(limit, agent.start_vm(&cx, spec)).await;
        if let Ok(started) = started {
            started.unwrap();
            agent.destroy_vm(&cx, destroy).await.unwrap();
            assert_eq!(state().await, before);
            break;
        }
        // Every other time by itself, the others by a destroy, which waits its turn.
        if limit.as_millis().is_multiple_of(2) {
            let as_before = |now: &_| *now == before;
            let what = format!("cut after {limit:?}, it is undone");
            wait_until(&what, state, as_before, Duration::from_secs(10)).await;
        } else {
            agent.destroy_vm(&cx, destroy).await.unwrap();
            assert_eq!(state().await, before, "cut after {limit:?}");
        }
        limit += Duration::from_millis(13);
    }
}

#[tokio::test]
async fn a_bridge_that_would_harm_is_refused() {
    let bed = Bed::new(&[]);
    let (agent, cx) = (bed.agent().await, context());
    for (name, interface, words) in [
        ("br_test", "eth9", "there is no interface eth9"),
        ("br_test", "cable0", "192.168.77.1"),
        ("cable0", "phys0", "is no bridge"),
        ("br/test", "phys0", "is no name"),
        ("br_test", "-phys0", "is no name"),
    ] {
        let error = agent
            .ensure_bridge(&cx, bridge(name, interface))
            .await
            .unwrap_err();
        assert!(error.message.contains(words), "{error}");
    }
    assert_eq!(bed.namespace.links(), [""; 0]);
    agent
        .ensure_bridge(&cx, bridge("br_test", "phys0"))
        .await
        .unwrap();
    bed.namespace
        .ip("link add phys1 type veth peer name cable1");
    for (name, interface, words) in [
        ("br_other", "phys0", "plugged into br_test already"),
        ("br_test", "phys1", "is over phys0 already"),
    ] {
        let error = agent
            .ensure_bridge(&cx, bridge(name, interface))
            .await
            .unwrap_err();
        assert!(error.message.contains(words), "{error}");
    }
}
