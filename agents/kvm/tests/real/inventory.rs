//! What the agent says that is on the host, against what is: made by its commands, or behind its
//! back.

use std::{
    fs,
    process::{Command, Stdio},
    time::Duration,
};

use cairn_agent_protocol::{
    Agent as _, ApplyDhcp, CommandError, DeleteBridge, DhcpLease, DhcpSubnet, EnsureBridge,
    HostInventory, PoolFile, RemoveStray, Stray, TakeInventory, Tap, VmProcess,
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

async fn remove(agent: &KvmAgent, stray: Stray) -> Result<(), CommandError> {
    let command = RemoveStray { stray };
    agent.remove_stray(&context(), command).await
}

#[tokio::test]
async fn what_is_nobodys_is_removed_and_nothing_else() {
    let bed = Bed::new(&[]);
    let agent = bed.agent().await;
    let bridge = || "br_test".to_owned();
    let ensure = || EnsureBridge {
        bridge: bridge(),
        interface: "phys0".to_owned(),
    };
    agent.ensure_bridge(&context(), ensure()).await.unwrap();
    let subnet = DhcpSubnet {
        address: "10.1.0.9".to_owned(),
        prefix_length: 16,
        gateway: "10.1.0.1".to_owned(),
        domain_name: None,
        dns: Vec::new(),
        leases: Vec::new(),
    };
    let apply = |revision| ApplyDhcp {
        bridge: bridge(),
        revision,
        since: None,
        subnets: vec![subnet.clone()],
    };
    agent.apply_dhcp(&context(), apply(7)).await.unwrap();
    bed.namespace.ip("address add 10.9.0.1/24 dev br_test");
    bed.namespace.ip("tuntap add dev tap0123456789ab mode tap");
    bed.namespace
        .ip("link set dev tap0123456789ab master br_test");
    let vm = Uuid::now_v7();
    fs::create_dir_all(bed.directory().join(format!("vms/{vm}"))).unwrap();
    fs::create_dir_all(bed.pool("volumes")).unwrap();
    let path = bed.pool("volumes/stray.qcow2");
    fs::write(&path, "whole").unwrap();
    let before = inventory(&bed, &agent).await;

    let name = "tap0123456789ab".to_owned();
    // A bridge that something is plugged into, what is no tap, no file of a pool: nothing happens.
    for refused in [
        Stray::Bridge { name: bridge() },
        Stray::Tap {
            name: "phys0".to_owned(),
        },
        Stray::File {
            path: bed.pool("notes"),
        },
        Stray::File {
            path: "../volumes/a".to_owned(),
        },
    ] {
        remove(&agent, refused).await.unwrap_err();
    }
    // Not plugged into it, another number.
    for nothing in [
        Stray::BridgePort {
            bridge: "br_other".to_owned(),
            port: "phys0".to_owned(),
        },
        Stray::VmProcess {
            vm: Uuid::now_v7(),
            pid: std::process::id(),
            with_folder: true,
        },
    ] {
        remove(&agent, nothing).await.unwrap();
    }
    assert_eq!(inventory(&bed, &agent).await, before);

    // Each twice: a repeat is a success.
    let dhcp = || Stray::Dhcp { bridge: bridge() };
    for stray in [Stray::Tap { name }, Stray::File { path }, dhcp()] {
        remove(&agent, stray.clone()).await.unwrap();
        remove(&agent, stray).await.unwrap();
    }
    let has = inventory(&bed, &agent).await;
    assert!(has.taps.is_empty() && has.files.is_empty() && has.dhcp_servers.is_empty());
    assert!(has.bridges[0].addresses.is_empty(), "{has:?}");
    // It is forgotten, too, which revision there was.
    agent.apply_dhcp(&context(), apply(1)).await.unwrap();
    assert_eq!(inventory(&bed, &agent).await.dhcp_servers.len(), 1);

    let port = Stray::BridgePort {
        bridge: bridge(),
        port: "phys0".to_owned(),
    };
    for stray in [
        port,
        Stray::Bridge { name: bridge() },
        Stray::VmFolder { vm },
    ] {
        remove(&agent, stray.clone()).await.unwrap();
        remove(&agent, stray).await.unwrap();
    }
    assert_eq!(inventory(&bed, &agent).await, HostInventory::default());
    agent.ensure_bridge(&context(), ensure()).await.unwrap();
}

#[tokio::test]
async fn a_stray_process_is_killed_and_only_that() {
    let bed = Bed::new(&[]);
    let agent = bed.agent().await;
    let vm = Uuid::now_v7();
    let folder = bed.directory().join(format!("vms/{vm}"));
    fs::create_dir_all(&folder).unwrap();
    let pid_file = folder.join("qemu.pid").display().to_string();
    let stray = || {
        let mut command = Command::new("sh");
        command.args(["-c", "read line", "sh", "-pidfile", &pid_file]);
        command.stdin(Stdio::piped()).spawn().unwrap()
    };
    let (mut one, mut other) = (stray(), stray());
    let read = async || inventory(&bed, &agent).await.vm_processes.len();
    wait_until("the processes", read, |count| *count == 2, LIMIT).await;
    // The agent takes one of the two for the virtual machine's own.
    fs::write(&pid_file, other.id().to_string()).unwrap();
    let kill = |pid| Stray::VmProcess {
        vm,
        pid,
        with_folder: true,
    };
    remove(&agent, kill(one.id())).await.unwrap();
    one.wait().unwrap();
    let left = VmProcess {
        vm,
        pid: other.id(),
    };
    assert_eq!(inventory(&bed, &agent).await.vm_processes, [left]);
    let folder = remove(&agent, Stray::VmFolder { vm }).await;
    assert!(folder.unwrap_err().message.contains("runs"));
    remove(&agent, kill(other.id())).await.unwrap();
    other.wait().unwrap();
    assert_eq!(inventory(&bed, &agent).await, HostInventory::default());
}
