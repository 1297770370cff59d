//! What the agent says that is on the host, against what is: made by its commands, or behind its
//! back.

use std::{
    fs,
    process::{Command, Stdio},
    time::Duration,
};

use cairn_agent_protocol::{
    Agent as _, ApplyDhcp, DeleteBridge, DhcpLease, DhcpSubnet, EnsureBridge, HostInventory,
    PoolFile, TakeInventory, Tap, VmProcess,
};
use cairn_kvm::KvmAgent;
use cairn_testkit::wait_until;
use cairn_types::Uuid;

use crate::bed::{Bed, context};

const LIMIT: Duration = Duration::from_secs(10);

/// What is on the host, as the agent says.
pub(crate) async fn inventory(bed: &Bed, agent: &KvmAgent) -> HostInventory {
    let pools = vec![bed.pool("")];
    let command = TakeInventory { pools };
    agent.take_inventory(&context(), command).await.unwrap()
}

#[tokio::test]
async fn what_nobody_told_the_agent_of_is_in_it() {
    let bed = Bed::new(&[]);
    let agent = bed.agent().await;
    assert_eq!(inventory(&bed, &agent).await, HostInventory::default());

    // Interfaces, made by hand.
    bed.namespace.ip("link add name br_stray type bridge");
    bed.namespace.ip("tuntap add dev tap0123456789ab mode tap");
    bed.namespace
        .ip("link set dev tap0123456789ab master br_stray");
    bed.namespace.ip("tuntap add dev tun0 mode tun");
    // Files.
    let vm = Uuid::now_v7();
    fs::create_dir_all(bed.directory().join(format!("vms/{vm}"))).unwrap();
    fs::create_dir_all(bed.pool("volumes")).unwrap();
    let path = bed.pool("volumes/stray.qcow2.part");
    fs::write(&path, "half").unwrap();
    // A process that was told what QEMU is told, and one that another agent's was.
    let stray = |directory: &str| {
        let pid_file = format!("{directory}/vms/{vm}/qemu.pid");
        let mut command = Command::new("sh");
        command.args(["-c", "read line", "sh", "-pidfile", &pid_file]);
        command.stdin(Stdio::piped()).spawn().unwrap()
    };
    let mut own = stray(&bed.directory().display().to_string());
    let mut other = stray("/var/lib/another");

    let process = VmProcess { vm, pid: own.id() };
    let read = async || inventory(&bed, &agent).await;
    // Its start returns a moment before its command line is there.
    let seen = |has: &HostInventory| has.vm_processes == [process];
    let has = wait_until("the process", read, seen, LIMIT).await;
    assert_eq!(has.vm_folders, [vm]);
    let tap = Tap {
        name: "tap0123456789ab".to_owned(),
        bridge: Some("br_stray".to_owned()),
    };
    assert_eq!(has.taps, [tap]);
    let bridges: Vec<_> = has
        .bridges
        .iter()
        .map(|it| (&*it.name, it.ports.len()))
        .collect();
    assert_eq!(bridges, [("br_stray", 0)]);
    let size_bytes = 4;
    assert_eq!(has.files, [PoolFile { path, size_bytes }]);
    for process in [&mut own, &mut other] {
        process.kill().unwrap();
        process.wait().unwrap();
    }
    assert!(inventory(&bed, &agent).await.vm_processes.is_empty());
}

#[tokio::test]
async fn what_is_served_is_in_it_as_long_as_it_is() {
    let bed = Bed::new(&[]);
    let agent = bed.agent().await;
    let bridge = "br_test".to_owned();
    let ensure = EnsureBridge {
        bridge: bridge.clone(),
        interface: "phys0".to_owned(),
    };
    agent.ensure_bridge(&context(), ensure).await.unwrap();
    let lease = DhcpLease {
        mac: "fa:00:00:00:00:01".to_owned(),
        ip: "10.1.0.10".to_owned(),
        host_name: "web".to_owned(),
    };
    let subnet = DhcpSubnet {
        address: "10.1.0.9".to_owned(),
        prefix_length: 16,
        gateway: "10.1.0.1".to_owned(),
        domain_name: None,
        dns: Vec::new(),
        leases: vec![lease.clone()],
    };
    let apply = |revision, subnets| ApplyDhcp {
        bridge: bridge.clone(),
        revision,
        since: None,
        subnets,
    };
    agent
        .apply_dhcp(&context(), apply(1, vec![subnet]))
        .await
        .unwrap();
    let has = inventory(&bed, &agent).await;
    assert_eq!(has.bridges[0].ports, ["phys0"]);
    assert_eq!(has.bridges[0].addresses, ["10.1.0.9"]);
    assert_eq!(has.dhcp_servers.len(), 1);
    assert_eq!(has.dhcp_servers[0].bridge, bridge);
    assert_eq!(has.dhcp_servers[0].entries, [lease]);

    agent
        .apply_dhcp(&context(), apply(2, Vec::new()))
        .await
        .unwrap();
    let has = inventory(&bed, &agent).await;
    assert_eq!(
        (has.dhcp_servers.len(), has.bridges[0].addresses.len()),
        (0, 0)
    );
    let delete = DeleteBridge {
        bridge: bridge.clone(),
    };
    agent.delete_bridge(&context(), delete).await.unwrap();
    assert_eq!(inventory(&bed, &agent).await, HostInventory::default());
}
