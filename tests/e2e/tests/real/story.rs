//! One cloud, two hosts, and what befalls them.

use std::time::{Duration, Instant};

use cairn_e2e::cascade;
use cairn_proto::compute::v1alpha1::{HostStatus, VmInstanceState as State};
use cairn_testkit::wait_until;
use tokio::join;

use crate::{
    cloud::{LIMIT, RealCloud},
    guest::Guest,
    namespace::run,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cloud_of_real_hosts_bears_what_befalls_it() {
    let mut cloud = RealCloud::start(2).await;
    let (one, two) = join!(cloud.create("vm-1", 0), cloud.create("vm-2", 1));
    one.sees(&cloud.hosts[0], &two).await;
    cloud.assert_books(&[1, 1]).await;
    cloud.assert_sound().await;
    let (one, two) = (&one, &two);
    a_guest_powers_off_starts_again_and_reboots(&cloud, one, two).await;
    a_process_is_killed(&cloud, one, two).await;
    an_agent_is_killed(&mut cloud, one, two).await;
    a_host_loses_power(&mut cloud, one, two).await;
    cloud.assert_sound().await;
    a_guest_powers_itself_off(&cloud, one).await;
    cloud.assert_sound().await;
    all_is_deleted(&cloud, [one, two]).await;
}

async fn a_guest_powers_off_starts_again_and_reboots(cloud: &RealCloud, one: &Guest, two: &Guest) {
    let host = &cloud.hosts[0];
    let asked = Instant::now();
    cloud.stop(&one.vm).await;
    // Not killed: the button was pressed, and the guest ended by itself long before its grace did.
    one.wrote(host, "GUEST POWERBUTTON", 1).await;
    assert!(asked.elapsed() < Duration::from_secs(60));
    assert!(!host.log().contains("no effect"), "{}", host.log());
    cloud.assert_books(&[0, 1]).await;

    cloud.begin(&one.vm).await;
    assert_eq!(cloud.address(&one.vm).await, one.ip);
    one.sees(host, two).await;
    one.wrote(host, "GUEST BOOT n=2", 1).await;

    let pid = host.pid_of(&one.vm);
    cloud.reboot(&one.vm).await;
    one.wrote(host, "GUEST BOOT n=3", 1).await;
    one.sees(host, two).await;
    assert_eq!(host.pid_of(&one.vm), pid, "a reboot keeps the process");
}

async fn a_process_is_killed(cloud: &RealCloud, one: &Guest, two: &Guest) {
    kill_machine(cloud, 1, two);
    cloud.seen(&two.vm, State::Stopped).await;
    // Nobody stopped it, and all the same nothing of it is plugged in: the agent sees to that
    // before it tells, or right after.
    cloud.begin(&two.vm).await;
    cloud.assert_books(&[1, 1]).await;
    one.sees(&cloud.hosts[0], two).await;
}

async fn an_agent_is_killed(cloud: &mut RealCloud, one: &Guest, two: &Guest) {
    let three = cloud.create("vm-3", 0).await;
    let pid = cloud.hosts[0].pid_of(&one.vm);
    cloud.hosts[0].kill_agent().await;
    two.sees(&cloud.hosts[1], one).await;
    cloud.host_seen(0, HostStatus::Disconnected).await;
    cloud.seen(&one.vm, State::Unknown).await;
    kill_machine(cloud, 0, &three);

    cloud.hosts[0].start_agent();
    cloud.connected(0).await;
    cloud.seen(&one.vm, State::Running).await;
    assert_eq!(cloud.hosts[0].pid_of(&one.vm), pid, "it is the same");
    cloud.seen(&three.vm, State::Stopped).await;
    cloud.assert_books(&[1, 1]).await;
    cloud.delete(&three.vm).await;

    // An agent that comes back at once: its host may not even be missed.
    cloud.hosts[0].kill_agent().await;
    cloud.hosts[0].start_agent();
    cloud.hosts[0].said_hello().await;
    cloud.connected(0).await;
    cloud.seen(&one.vm, State::Running).await;
    cloud.stop(&one.vm).await;
    cloud.assert_books(&[0, 1]).await;
    cloud.begin(&one.vm).await;
    two.sees(&cloud.hosts[1], one).await;
}

async fn a_host_loses_power(cloud: &mut RealCloud, one: &Guest, two: &Guest) {
    let before = cloud.connected(1).await.boot_id;
    cloud.hosts[1].lose_power().await;
    cloud.host_seen(1, HostStatus::Disconnected).await;
    cloud.seen(&two.vm, State::Unknown).await;

    let [here, there] = &cloud.hosts[..] else {
        panic!()
    };
    // The cable goes with the machine at its other end, when the system gets to it.
    let end = async || here.namespace.links("eth0");
    wait_until("the cable is gone", end, Vec::is_empty, LIMIT).await;
    here.namespace.plug_into(&there.namespace);
    // The other end of the cable is new, too: its host has it in its bridge from its next
    // connection on.
    cloud.hosts[0].kill_agent().await;
    cloud.hosts[0].start_agent();
    cloud.hosts[1].start_agent();
    cloud.seen(&two.vm, State::Stopped).await;
    let after = cloud.connected(1).await;
    assert_ne!(after.boot_id, before);
    assert_eq!(after.boot_id, cloud.hosts[1].boot_id());
    assert_eq!(cloud.hosts[1].namespace.links("br"), bridges(cloud));
    cloud.assert_books(&[1, 0]).await;
    cloud.begin(&two.vm).await;
    two.sees(&cloud.hosts[1], one).await;
}

fn bridges(cloud: &RealCloud) -> Vec<String> {
    let bridges = cloud.hosts[0].namespace.links("br");
    assert_eq!(bridges.len(), 1);
    bridges
}

async fn a_guest_powers_itself_off(cloud: &RealCloud, one: &Guest) {
    // The answer may not come any more.
    let _ = one.run(&cloud.hosts[0], "poweroff -f").await;
    cloud.seen(&one.vm, State::Stopped).await;
}

async fn all_is_deleted(cloud: &RealCloud, [one, two]: [&Guest; 2]) {
    cloud.delete(&one.vm).await;
    cloud.assert_books(&[0, 1]).await;
    assert_eq!(cloud.hosts[0].files(), (0, 0));
    // The other one runs when the zone goes, with all that is in it.
    two.wrote(&cloud.hosts[1], "GUEST BOOT", 1).await;
    let zone = &cloud.ready.site.zone;
    cascade(&cloud.mesh(), "zone", zone).await.unwrap();
    for host in &cloud.hosts {
        assert_eq!(host.left(), Vec::<String>::new());
    }
}

/// Kills the process of a virtual machine from outside.
fn kill_machine(cloud: &RealCloud, host: usize, guest: &Guest) {
    let pid = cloud.hosts[host].pid_of(&guest.vm).unwrap();
    run("kill", &["-9", &pid.to_string()]);
}
