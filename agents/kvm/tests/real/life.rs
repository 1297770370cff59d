//! The life of two virtual machines, and of the agent that they outlive.

use std::time::{Duration, Instant};

use cairn_agent_protocol::{
    Agent as _, CacheImage, CommandErrorCode, Connect, ConsolePart, CreateVolume, DeleteBridge,
    DeleteImage, DeleteVolume, DestroyVm, EnsureBridge, HostInventory, PoolFacts, ReadConsole,
    RebootVm, Secret, SftpFile, StartVm, StopVm,
};
use cairn_kvm::KvmAgent;
use cairn_sftp::SshKey;
use cairn_testkit::{Sshd, wait_until};
use cairn_types::{HostUuid, Uuid};

use crate::{
    bed::{Bed, context, run, small_vm},
    inventory::inventory,
};

const GUESTS: [(&str, &str, &str); 2] = [
    ("52:54:00:00:00:01", "192.168.77.11", "vm-one"),
    ("52:54:00:00:00:02", "192.168.77.12", "vm-two"),
];

#[tokio::test]
async fn virtual_machines_live_and_nothing_of_them_stays() {
    let bed = Bed::new(&GUESTS);
    let agent = bed.agent().await;
    let facts = agent.connect(&context(), Connect {}).await.unwrap();
    assert!(facts.cpu_count > 0 && facts.memory_bytes > 0);
    assert!(facts.hypervisor_version.starts_with("QEMU"), "{facts:?}");
    assert!(facts.running_vms.is_empty());

    let [one, two] = prepare(&bed, &agent).await;
    let (pid_one, pid_two) = (start(&agent, &one).await, start(&agent, &two).await);
    assert_eq!(start(&agent, &one).await, pid_one, "it runs already");
    assert_eq!(running(&agent).await, [one.vm, two.vm]);
    let line = bed.console(one.vm, "GUEST IP", 1).await;
    assert!(
        line.contains("192.168.77.11/24") && line.contains("host=vm-one"),
        "{line}"
    );
    bed.console(two.vm, "GUEST IP", 1).await;
    let log = read_console(&agent, one.vm, None).await.unwrap();
    let text = String::from_utf8_lossy(&log.content);
    assert!(text.contains("GUEST BOOT n=1"), "{text}");
    let page = bed.in_guest(
        "192.168.77.11",
        "timeout 10 wget -q -O - http://192.168.77.12/",
    );
    assert_eq!(page, "192.168.77.12 vm-two\nexit=0\n");
    in_use(&agent).await;
    let has = inventory(&bed, &agent).await;
    let mut pids: Vec<_> = has.vm_processes.iter().map(|it| (it.vm, it.pid)).collect();
    pids.sort();
    assert_eq!(pids, [(one.vm, pid_one), (two.vm, pid_two)]);
    assert_eq!((has.taps.len(), has.files.len()), (2, 3), "{has:?}");

    let reboot = RebootVm { vm: one.vm };
    agent.reboot_vm(&context(), reboot.clone()).await.unwrap();
    bed.console(one.vm, "GUEST BOOT n=2", 1).await;
    bed.console(one.vm, "GUEST IP", 2).await;
    let end = log.offset + log.content.len() as u64;
    let since = read_console(&agent, one.vm, Some(end)).await.unwrap();
    let text = String::from_utf8_lossy(&since.content);
    assert_eq!(since.offset, end);
    assert!(
        text.contains("GUEST BOOT n=2") && !text.contains("GUEST BOOT n=1"),
        "{text}"
    );
    assert_eq!(
        start(&agent, &one).await,
        pid_one,
        "a reboot keeps the process"
    );

    let asked = Instant::now();
    stop(&agent, one.vm, 30).await;
    assert!(
        asked.elapsed() < Duration::from_secs(30),
        "the guest was asked"
    );
    bed.console(one.vm, "GUEST POWERBUTTON", 1).await;
    assert_eq!(running(&agent).await, [two.vm]);
    assert_eq!(taps(&bed), 1);
    stop(&agent, one.vm, 30).await;
    let refused = agent.reboot_vm(&context(), reboot).await.unwrap_err();
    assert_eq!(refused.code, CommandErrorCode::NotFound);

    let pid = start(&agent, &one).await;
    assert_ne!(pid, pid_one);
    bed.console(one.vm, "GUEST BOOT n=3", 1).await;
    run("kill", &["-9", &pid.to_string()]);
    let only_two = |running: &Vec<Uuid>| *running == [two.vm];
    let limit = Duration::from_secs(10);
    wait_until(
        "its end is seen",
        async || running(&agent).await,
        only_two,
        limit,
    )
    .await;

    drop(agent);
    let agent = bed.agent().await;
    assert_eq!(running(&agent).await, [two.vm], "it outlived the agent");
    assert_eq!(start(&agent, &two).await, pid_two, "it is the same");
    let page = bed.in_guest("192.168.77.12", "cat /www/index.html");
    assert_eq!(page, "192.168.77.12 vm-two\nexit=0\n");

    remove(&bed, &agent, [&one, &two]).await;
    assert_eq!(read_console(&agent, one.vm, None).await, None);
    assert!(running(&agent).await.is_empty());
    assert_eq!(bed.namespace.links(), [""; 0]);
    assert_eq!(bed.namespace.pids().len(), 1, "dnsmasq");
    assert!(bed.files().is_empty(), "{:?}", bed.files());
    assert_eq!(inventory(&bed, &agent).await, HostInventory::default());
}

async fn read_console(agent: &KvmAgent, vm: Uuid, offset: Option<u64>) -> Option<ConsolePart> {
    let command = ReadConsole {
        vm,
        offset,
        limit_bytes: 1 << 20,
    };
    agent.read_console(&context(), command).await.unwrap()
}

/// Bridge, image and volumes, each twice; gives two virtual machines to start.
async fn prepare(bed: &Bed, agent: &KvmAgent) -> [StartVm; 2] {
    let cx = context();
    let bridge = EnsureBridge {
        bridge: "br_test".to_owned(),
        interface: "phys0".to_owned(),
    };
    let pool = PoolFacts { path: bed.pool("") };
    let (sshd, key) = (Sshd::start().await, SshKey::generate().unwrap());
    sshd.authorize(key.public());
    let guest = sshd.files().join("guest");
    std::fs::copy(Bed::image(), &guest).unwrap();
    let guest = guest.display().to_string();
    let digest = run("sha256sum", &[&guest]);
    let image = CacheImage {
        image: Uuid::now_v7(),
        source: SftpFile {
            address: sshd.address(),
            username: sshd.username().to_owned(),
            host_key: sshd.host_key().to_owned(),
            private_key: Secret::new(key.secret().unwrap()),
            path: guest,
        },
        sha256: digest.split(' ').next().unwrap().to_owned(),
        path: bed.pool("images/guest.qcow2"),
    };
    for _ in 0..2 {
        agent.ensure_bridge(&cx, bridge.clone()).await.unwrap();
        let space = agent.pool_facts(&cx, pool.clone()).await.unwrap();
        assert!(space.total_bytes >= space.available_bytes);
        agent.cache_image(&cx, image.clone()).await.unwrap();
    }
    let mut vms = Vec::new();
    for (mac, _, name) in GUESTS {
        let volume = CreateVolume {
            volume: Uuid::now_v7(),
            pool_path: bed.pool(""),
            size_bytes: 256 << 20,
            template: Some(image.path.clone()),
        };
        agent.create_volume(&cx, volume.clone()).await.unwrap();
        let facts = agent.create_volume(&cx, volume).await.unwrap();
        vms.push(small_vm(name, &facts.path, mac));
    }
    vms.try_into().unwrap()
}

/// A bridge with virtual machines in it stays.
async fn in_use(agent: &KvmAgent) {
    let delete = DeleteBridge {
        bridge: "br_test".to_owned(),
    };
    let refused = agent.delete_bridge(&context(), delete).await.unwrap_err();
    assert!(
        refused.message.contains("plugged into br_test"),
        "{refused}"
    );
}

async fn remove(bed: &Bed, agent: &KvmAgent, vms: [&StartVm; 2]) {
    let cx = context();
    let image = DeleteImage {
        image: Uuid::now_v7(),
        path: bed.pool("images/guest.qcow2"),
    };
    let bridge = DeleteBridge {
        bridge: "br_test".to_owned(),
    };
    for _ in 0..2 {
        for spec in vms {
            let destroy = DestroyVm { vm: spec.vm };
            agent.destroy_vm(&cx, destroy).await.unwrap();
            let name = std::path::Path::new(&spec.root_volume_path).file_stem();
            let volume = DeleteVolume {
                volume: name.unwrap().to_str().unwrap().parse().unwrap(),
                pool_path: bed.pool(""),
            };
            agent.delete_volume(&cx, volume).await.unwrap();
        }
        agent.delete_image(&cx, image.clone()).await.unwrap();
        agent.delete_bridge(&cx, bridge.clone()).await.unwrap();
    }
}

async fn start(agent: &KvmAgent, spec: &StartVm) -> u32 {
    let started = agent.start_vm(&context(), spec.clone()).await;
    started.unwrap().pid.unwrap()
}

async fn stop(agent: &KvmAgent, vm: Uuid, grace_secs: u32) {
    let command = StopVm { vm, grace_secs };
    agent.stop_vm(&context(), command).await.unwrap();
}

async fn running(agent: &KvmAgent) -> Vec<Uuid> {
    agent.status(HostUuid::generate()).await.running
}

fn taps(bed: &Bed) -> usize {
    let links = bed.namespace.links();
    links.iter().filter(|name| name.starts_with("tap")).count()
}
