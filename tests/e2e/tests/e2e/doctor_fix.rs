//! What the doctor finds is put right, by an operation that looks again: nothing is removed that
//! somebody has, and no host that is away is forgotten.

use std::time::Duration;

use cairn_agent_protocol::DhcpLease;
use cairn_e2e::examine;
use cairn_proto::{
    compute::v1alpha1::{
        HostStatus, StopVmInstanceRequest, VmInstance, VmInstanceClient, VmInstanceState,
    },
    doctor::v1alpha1::{
        DoctorClient, Finding, FixFindingRequest, FixOutcome, Fixed,
        Problem::{Differs, Extra, Missing},
        Remedy,
    },
    event::result,
    fault::Fault,
    network::v1alpha1::VmNic,
    operation::v1alpha1::GcJob,
    storage::v1alpha1::Volume,
};
use cairn_simulator::{Fault as Trouble, FaultEffect, HostState};
use cairn_testkit::{Database, wait_until};
use cairn_types::{ErrorCode, Uuid};

use crate::{
    cli::cairn,
    doctor::{BOOKS, Bed, Expected},
};

const LIMIT: Duration = Duration::from_secs(30);

fn request(finding: &Finding) -> FixFindingRequest {
    let given = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    FixFindingRequest {
        queue_uuid: finding.queue_uuid.clone(),
        queue_type: finding.queue_type.clone(),
        kind: finding.kind.clone(),
        problem: finding.problem,
        host_uuid: given(&finding.host_uuid),
        identity: finding.identity.clone(),
        depot_type: given(&finding.depot_type),
        depot_uuid: given(&finding.depot_uuid),
    }
}

/// A tap that is nobody's, as a test puts it on the host.
const TAP: &str = "tap0123456789ab";

fn stray_tap(state: &mut HostState) {
    let bridge = "br_eth0".to_owned();
    state.strays.taps.insert(TAP.to_owned(), bridge);
}

impl Bed {
    fn tamper(&self, change: impl FnOnce(&mut HostState)) {
        self.cloud.simulator.tamper(self.host, change);
    }

    fn state(&self) -> HostState {
        let hosts = self.cloud.simulator.hosts();
        hosts.into_iter().find(|it| it.host == self.host).unwrap()
    }

    pub(crate) async fn fix(&self, finding: &Finding) -> Result<Fixed, Fault> {
        let doctor = DoctorClient::new(self.cloud.mesh());
        let fixing = doctor.fix_finding(request(finding)).await;
        let fixing = fixing.map_err(|status| Fault::from_status(&status))?;
        let fixed = result(fixing).await;
        fixed.map_err(|status| Fault::from_status(&status))
    }

    /// Fixes what is found, and then nothing is. One fix may put another one's finding right, too.
    async fn fixes(&self, what: &str, expected: &[Expected]) {
        self.leaves(what, expected, &[]).await;
    }

    /// Fixes what is found, and then these are left, since a person has to see to them.
    pub(crate) async fn leaves(&self, what: &str, expected: &[Expected], left: &[Expected]) {
        let mut fixed = 0;
        for finding in self.finds(what, expected).await {
            match self.fix(&finding).await {
                Ok(done) => {
                    assert!(
                        matches!(done.outcome(), FixOutcome::Fixed | FixOutcome::Gone),
                        "{what}: {done:?}"
                    );
                    fixed += usize::from(done.outcome() == FixOutcome::Fixed);
                }
                Err(fault) => {
                    assert_eq!(finding.remedy(), Remedy::None, "{what}: {fault:?}");
                    assert_eq!(fault.code, ErrorCode::WrongState, "{what}: {fault:?}");
                    assert!(fault.message.contains(&finding.advice), "{fault:?}");
                }
            }
        }
        assert!(fixed > 0 || left == expected, "{what}: nothing was fixed");
        self.finds(what, left).await;
    }

    async fn jobs(&self) -> Vec<GcJob> {
        self.cloud.store().list("", Vec::new()).await.unwrap()
    }

    async fn no_jobs(&self) {
        let jobs = async || self.jobs().await;
        wait_until("no job is left", jobs, Vec::is_empty, LIMIT).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_on_a_host_only_is_removed() {
    let bed = Bed::new().await;
    let before = bed.state();
    let vm: Uuid = bed.vm.uuid.parse().unwrap();
    let foreign = Uuid::now_v7();
    let mut another = before.vms[&vm].clone();
    another.nics.clear();
    bed.tamper(|state| drop(state.vms.insert(foreign, another.clone())));
    bed.fixes("a process", &[("vm-process", Extra, "")]).await;
    another.pid = None;
    bed.tamper(|state| drop(state.vms.insert(foreign, another)));
    bed.fixes("a folder", &[("vm-folder", Extra, "")]).await;
    bed.tamper(stray_tap);
    bed.fixes("a tap", &[("tap", Extra, "")]).await;
    bed.tamper(|state| {
        let bridge = "br_eth0".to_owned();
        state.strays.taps.insert("vnet0".to_owned(), bridge);
    });
    bed.fixes("another's tap", &[("tap", Extra, "")]).await;
    bed.tamper(|state| {
        let (bridge, over) = ("br_eth7".to_owned(), "eth7".to_owned());
        state.bridges.insert(bridge, over);
    });
    bed.fixes("a bridge", &[("bridge", Extra, "")]).await;
    bed.tamper(|state| {
        let dhcp = state.dhcp.get_mut("br_eth0").unwrap();
        dhcp.subnets[0].leases.push(DhcpLease {
            mac: "fa:00:00:00:00:99".to_owned(),
            ip: "10.1.0.99".to_owned(),
            host_name: "stray".to_owned(),
        });
    });
    bed.fixes("an address", &[("dhcp-entry", Extra, "")]).await;
    let image = &bed.ready.image;
    for (file, kind, owner) in [
        (format!("volumes/{foreign}.qcow2"), "volume-file", ""),
        (format!("volumes/{foreign}.qcow2.part"), "part-file", ""),
        (format!("images/{foreign}.qcow2"), "image-file", ""),
        ("volumes/notes.txt".to_owned(), "volume-file", ""),
        (format!("images/{image}.qcow2.part"), "part-file", "image"),
    ] {
        let path = format!("/var/lib/pool/{file}");
        bed.tamper(|state| state.strays.files.extend([(path, 1)]));
        bed.fixes(&file, &[(kind, Extra, owner)]).await;
    }
    let after = bed.state();
    assert_eq!(
        (after.vms, after.volumes, after.images, after.bridges),
        (before.vms, before.volumes, before.images, before.bridges)
    );
    assert_eq!(
        after.dhcp["br_eth0"].subnets,
        before.dhcp["br_eth0"].subnets
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_host_has_lost_comes_back_unless_it_is_data() {
    let bed = Bed::new().await;
    let whole = bed.state();
    let vm: Uuid = bed.vm.uuid.parse().unwrap();
    bed.tamper(|state| state.bridges.clear());
    bed.fixes("bridges", &[("bridge", Missing, "l2-network")])
        .await;
    bed.tamper(|state| {
        let (bridge, over) = ("br_eth0".to_owned(), "eth9".to_owned());
        state.bridges.insert(bridge, over);
    });
    let strange = [
        ("bridge", Differs, "l2-network"),
        ("bridge-port", Extra, "l2-network"),
    ];
    bed.fixes("what the bridge is over", &strange).await;
    bed.tamper(|state| {
        let dhcp = state.dhcp.get_mut("br_eth0").unwrap();
        dhcp.subnets[0].leases.clear();
    });
    bed.fixes("a lease", &[("dhcp-entry", Missing, "vm-nic")])
        .await;
    bed.tamper(|state| state.dhcp.get_mut("br_eth0").unwrap().subnets.clear());
    let silent = [
        ("dhcp-server", Missing, "l3-network"),
        ("bridge-address", Missing, "l3-network"),
    ];
    bed.fixes("the server", &silent).await;
    // As if the agent had served a later revision than anybody knows of.
    bed.tamper(|state| {
        let dhcp = state.dhcp.get_mut("br_eth0").unwrap();
        dhcp.subnets.clear();
        dhcp.revision += 1_000;
    });
    bed.fixes("a later revision", &silent).await;
    assert_eq!(bed.state().bridges, whole.bridges);

    bed.tamper(|state| state.vms.get_mut(&vm).unwrap().nics.clear());
    let tap = [("tap", Missing, "vm-nic")];
    bed.leaves("nics", &tap, &tap).await;
    bed.tamper(|state| drop(state.vms.insert(vm, whole.vms[&vm].clone())));
    bed.tamper(|state| state.volumes.clear());
    let lost = [("volume-file", Missing, "volume")];
    bed.leaves("volumes", &lost, &lost).await;
    bed.tamper(|state| state.volumes.clone_from(&whole.volumes));
    // Images are brought again when they are needed.
    bed.tamper(|state| state.images.clear());
    bed.fixes("images", &[("image-file", Missing, "image-cache")])
        .await;
    bed.cloud.create_vm(&bed.ready, "again").await.unwrap();
    assert_eq!(bed.state().images, whole.images);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn books_are_made_to_agree_on_sqlite() {
    books_are_made_to_agree(Database::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn books_are_made_to_agree_on_postgres() {
    books_are_made_to_agree(Database::Postgres).await;
}

async fn books_are_made_to_agree(database: Database) {
    let bed = Bed::on(database).await;
    for (table, column, kind, owner) in BOOKS {
        for by in ["- 1", "+ 1"] {
            let change = format!("UPDATE {table} SET {column} = {column} {by}");
            bed.execute(&change).await;
            bed.fixes(&change, &[(kind, Differs, owner)]).await;
        }
    }
    let set = |state: &str| format!("UPDATE vm_instance SET state = '{state}'");
    for state in ["Starting", "Stopping", "Rebooting"] {
        bed.execute(&set(state)).await;
        bed.fixes(state, &[("vm-state", Differs, "vm-instance")])
            .await;
        let row = bed.cloud.store().get::<VmInstance>(&bed.vm.uuid).await;
        assert_eq!(row.unwrap().unwrap().state(), VmInstanceState::Running);
    }
    bed.execute(&set("Destroying")).await;
    let destroying = [("vm-state", Differs, "vm-instance")];
    bed.leaves("Destroying", &destroying, &destroying).await;
    bed.execute("UPDATE volume SET status = 'NotInstantiated'")
        .await;
    let both = [
        ("vm-state", Differs, "vm-instance"),
        ("volume-status", Differs, "volume"),
    ];
    bed.leaves("a volume that is not made", &both, &both).await;
    bed.execute("UPDATE volume SET status = 'Ready'").await;
    // Its row says that nothing is to run: what runs goes, and what was reserved for it.
    bed.execute(&set("Stopped")).await;
    let capacity = ("host-capacity", Differs, "host");
    let runs = ("vm-process", Differs, "vm-instance");
    bed.fixes("Stopped", &[runs, capacity, capacity]).await;
    assert!(bed.state().running().is_empty());
    // On its way, and it does not run.
    bed.execute(&set("Stopping")).await;
    bed.fixes(
        "Stopping",
        &[("vm-state", Differs, "vm-instance"), capacity, capacity],
    )
    .await;
    let row = bed.cloud.store().get::<VmInstance>(&bed.vm.uuid).await;
    assert_eq!(row.unwrap().unwrap().state(), VmInstanceState::Stopped);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_row_that_is_gone_leaves_is_cleared_on_sqlite() {
    what_a_row_that_is_gone_leaves_is_cleared(Database::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_row_that_is_gone_leaves_is_cleared_on_postgres() {
    what_a_row_that_is_gone_leaves_is_cleared(Database::Postgres).await;
}

async fn what_a_row_that_is_gone_leaves_is_cleared(database: Database) {
    let bed = Bed::on(database).await;
    let nics: Vec<VmNic> = bed.cloud.store().list("", Vec::new()).await.unwrap();
    let capacity = ("host-capacity", Differs, "host");
    let references = [
        ("reference", Differs, "volume"),
        ("reference", Differs, "vm-nic"),
    ];
    bed.delete_row::<VmInstance>(&bed.vm.uuid).await;
    let found = [("vm-process", Extra, ""), capacity, capacity];
    bed.leaves(
        "vm-instance",
        &[&references[..], &found].concat(),
        &references,
    )
    .await;
    assert!(bed.state().vms.is_empty());
    let volume = bed.vm.root_volume_uuid.clone().unwrap();
    bed.delete_row::<Volume>(&volume).await;
    let found = [
        ("volume-file", Extra, ""),
        ("volume-note", Extra, ""),
        ("storage-capacity", Differs, "primary-storage-capacity"),
    ];
    let left = [("reference", Differs, "vm-nic")];
    bed.leaves("volume", &[&left[..], &found].concat(), &left)
        .await;
    assert!(bed.state().volumes.is_empty());
    bed.delete_row::<VmNic>(&nics[0].uuid).await;
    let found = [("dhcp-lease", Extra, ""), ("address", Differs, "ip-range")];
    bed.fixes("vm-nic", &found).await;
    assert!(bed.state().dhcp["br_eth0"].subnets.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_away_is_waited_for() {
    let mut bed = Bed::new().await;
    bed.tamper(stray_tap);
    let tap = bed.finds("a tap", &[("tap", Extra, "")]).await.remove(0);
    bed.cloud.stop_agents().await;
    let host = bed.host.to_string();
    bed.cloud.host_in(&host, HostStatus::Disconnected).await;
    let left = bed.fix(&tap).await.unwrap_err();
    assert_eq!(left.code, ErrorCode::LeftToGc, "{left:?}");
    let jobs = bed.jobs().await;
    assert_eq!(
        (&*jobs[0].flow, &*jobs[0].steps),
        ("fix-finding", "put-right")
    );
    assert_eq!(jobs[0].waits_for_uuid, Some(host));
    let listed = cairn(&bed.cloud, "query gc-job").await;
    assert!(listed.out.contains(&jobs[0].uuid), "{}", listed.out);
    // The job is in the database, not in the process.
    bed.cloud.stop_node().await;
    bed.cloud.start_node().await;
    bed.cloud.start_agents().await;
    bed.no_jobs().await;
    assert!(bed.state().strays.taps.is_empty());
    bed.finds("afterwards", &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_any_more_is_left_alone() {
    let bed = Bed::new().await;
    let before = bed.state();
    bed.tamper(stray_tap);
    let tap = bed.finds("a tap", &[("tap", Extra, "")]).await.remove(0);
    bed.tamper(|state| state.strays.taps.clear());
    for stale in [
        tap.clone(),
        // It never was one: the tap that the virtual machine runs with, the bridge of its network.
        Finding {
            identity: "br_eth0".to_owned(),
            kind: "bridge".to_owned(),
            ..tap.clone()
        },
        Finding {
            identity: format!(
                "{} pid {}",
                bed.vm.uuid,
                before.vms.values().next().unwrap().pid.unwrap()
            ),
            kind: "vm-process".to_owned(),
            ..tap.clone()
        },
        Finding {
            identity: before.volumes.values().next().unwrap().path.clone(),
            kind: "volume-file".to_owned(),
            ..tap.clone()
        },
        // A host that there is none of.
        Finding {
            host_uuid: Uuid::now_v7().to_string(),
            ..tap
        },
    ] {
        let fixed = bed.fix(&stale).await.unwrap();
        assert_eq!(fixed.outcome(), FixOutcome::Gone, "{stale:?}");
        assert_eq!(bed.state(), before);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_operation_is_at_is_left_to_it() {
    let bed = Bed::new().await;
    let trouble = Trouble {
        command: Some("stop-vm".to_owned()),
        ..Trouble::new(FaultEffect::Hold)
    };
    let held = bed.cloud.simulator.inject(trouble);
    bed.tamper(|state| {
        let dhcp = state.dhcp.get_mut("br_eth0").unwrap();
        dhcp.subnets[0].leases.clear();
    });
    let before = bed.state().dhcp;
    let lost = bed
        .finds("a lease", &[("dhcp-entry", Missing, "vm-nic")])
        .await;
    let vms = VmInstanceClient::new(bed.cloud.mesh());
    let stop = StopVmInstanceRequest {
        uuid: bed.vm.uuid.clone(),
        ..Default::default()
    };
    let stopping = vms.stop_vm_instance(stop).await.unwrap();
    let at_it = async || examine(&bed.cloud.mesh()).await.unwrap().unjudged_count;
    wait_until("the stop is under way", at_it, |count| *count > 0, LIMIT).await;
    let left = bed.fix(&lost[0]).await.unwrap_err();
    assert_eq!(left.code, ErrorCode::LeftToGc, "{left:?}");
    assert!(left.message.contains("an operation"), "{left:?}");
    assert_eq!(bed.state().dhcp, before);
    assert!(bed.cloud.simulator.release(held));
    result(stopping).await.unwrap();
    let job = &bed.jobs().await[0].uuid;
    let tried = cairn(&bed.cloud, &format!("trigger gc-job {job}")).await;
    assert_eq!(tried.code, 0, "{}", tried.err);
    bed.finds("afterwards", &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_has_everything_put_right() {
    let mut bed = Bed::new().await;
    bed.cloud.leaves(&["volume-file"]);
    bed.tamper(stray_tap);
    bed.execute("UPDATE host SET available_cpu_count = available_cpu_count - 1")
        .await;
    bed.tamper(|state| state.volumes.clear());
    let told = cairn(&bed.cloud, "doctor --fix").await;
    assert_eq!(told.code, 1, "{}", told.out);
    let lines: Vec<_> = told.out.lines().collect();
    let says = |start: &str, end: &str| {
        let mut lines = lines.iter();
        lines.any(|line| line.starts_with(start) && line.contains(end))
    };
    assert!(says(&format!("tap {TAP}: "), "fixed"), "{}", told.out);
    assert!(says("host-capacity cpuCount: ", "fixed"), "{}", told.out);
    assert!(says("volume-file ", "data is lost"), "{}", told.out);
    let json = cairn(&bed.cloud, "doctor --fix --json").await;
    assert_eq!((json.code, &*json.err), (1, ""));
    let last: serde_json::Value = serde_json::from_str(json.out.lines().last().unwrap()).unwrap();
    assert_eq!(last["fix"]["kind"], "volume-file", "{last}");
    assert_eq!(last["result"]["code"], "WRONG_STATE", "{last}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_fixes_of_one_finding_are_one() {
    let bed = Bed::new().await;
    bed.tamper(stray_tap);
    let tap = bed.finds("a tap", &[("tap", Extra, "")]).await.remove(0);
    let (one, other) = tokio::join!(bed.fix(&tap), bed.fix(&tap));
    let mut outcomes = [one.unwrap().outcome(), other.unwrap().outcome()];
    outcomes.sort_by_key(|outcome| *outcome as i32);
    assert_eq!(outcomes, [FixOutcome::Fixed, FixOutcome::Gone]);
}
