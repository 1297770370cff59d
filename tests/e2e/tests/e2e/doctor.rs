//! What is on one side only is found, with its owner, and nothing else is.

use cairn_agent_protocol::DhcpLease;
use cairn_e2e::{Cloud, Ready, examine};
use cairn_proto::{
    compute::v1alpha1::{
        DeleteVmInstanceRequest, HostStatus, StartVmInstanceRequest, StopVmInstanceRequest,
        VmInstance, VmInstanceClient,
    },
    doctor::v1alpha1::{
        Finding,
        Problem::{self, Differs, Extra, Missing},
        Remedy,
    },
    event::result,
    meta::Resource,
    network::v1alpha1::VmNic,
    storage::v1alpha1::Volume,
};
use cairn_simulator::HostState;
use cairn_testkit::Database;
use cairn_types::{HostUuid, Uuid};
use futures::future::join_all;

use crate::cli::cairn;

/// A kind, what is wrong, and the type of the owner, if it has one.
pub(crate) type Expected = (&'static str, Problem, &'static str);

/// A cloud with a virtual machine that runs.
pub(crate) struct Bed {
    pub(crate) cloud: Cloud,
    pub(crate) ready: Ready,
    pub(crate) vm: VmInstance,
    pub(crate) host: HostUuid,
}

impl Bed {
    pub(crate) async fn new() -> Self {
        Self::on(Database::Sqlite).await
    }

    pub(crate) async fn on(database: Database) -> Self {
        let cloud = Cloud::start_on(database).await;
        let ready = cloud.ready(1).await;
        let vm = cloud.create_vm(&ready, "web").await.unwrap();
        let host = ready.site.hosts[0].uuid.parse().unwrap();
        let bed = Self {
            cloud,
            ready,
            vm,
            host,
        };
        bed.finds("at rest", &[]).await;
        bed
    }

    pub(crate) async fn finds(&self, what: &str, expected: &[Expected]) -> Vec<Finding> {
        let examined = examine(&self.cloud.mesh()).await.unwrap();
        let findings = &examined.findings;
        let mut found: Vec<_> = findings
            .iter()
            .map(|it| (&*it.kind, it.problem(), &*it.owner_type))
            .collect();
        let mut expected = expected.to_vec();
        for list in [&mut found, &mut expected] {
            list.sort_by_key(|(kind, problem, owner)| (*kind, *problem as i32, *owner));
        }
        assert_eq!(found, expected, "{what}: {findings:?}");
        for finding in findings {
            let has_owner = !finding.owner_type.is_empty();
            assert_eq!(has_owner, !finding.owner_uuid.is_empty(), "{finding:?}");
            let advised = finding.remedy() == Remedy::None;
            assert_eq!(advised, !finding.advice.is_empty(), "{finding:?}");
            assert!(!finding.queue_uuid.is_empty(), "{finding:?}");
        }
        assert_eq!(examined.examined_host_count, 1, "{what}");
        examined.findings
    }

    /// Changes the host, sees what is found, and changes it back.
    async fn host_finds(
        &self,
        what: &str,
        change: impl FnOnce(&mut HostState),
        expected: &[Expected],
    ) {
        let hosts = self.cloud.simulator.hosts();
        let before = hosts.into_iter().find(|it| it.host == self.host).unwrap();
        self.cloud.simulator.tamper(self.host, change);
        self.finds(what, expected).await;
        self.cloud
            .simulator
            .tamper(self.host, |state| *state = before);
    }

    pub(crate) async fn execute(&self, sql: &str) {
        let text = sql.to_owned();
        let written = self.cloud.store().write(move |tx| {
            let sql = text.clone();
            Box::pin(async move { tx.execute(&sql, Vec::new()).await })
        });
        let changed = written
            .await
            .map_err(|error: cairn_store::StoreError| error);
        assert_eq!(changed.unwrap(), 1, "{sql}");
    }

    /// Changes a row, sees what is found, and changes it back.
    async fn rows_find(&self, (change, back): (&str, &str), expected: &[Expected]) {
        self.execute(change).await;
        self.finds(change, expected).await;
        self.execute(back).await;
    }

    /// Deletes a row behind everybody's back.
    pub(crate) async fn delete_row<R: Resource>(&self, uuid: &str) {
        let named = uuid.to_owned();
        let gone = self.cloud.store().write(move |tx| {
            let uuid = named.clone();
            Box::pin(async move { tx.delete::<R>(&uuid).await })
        });
        assert!(gone.await.unwrap());
    }

    /// Deletes a row behind everybody's back, sees what is found, and makes it again.
    async fn row_gone<R: Resource>(&self, uuid: &str, expected: &[Expected]) {
        let row = self.cloud.store().get::<R>(uuid).await.unwrap().unwrap();
        self.delete_row::<R>(uuid).await;
        self.finds(R::NOUN, expected).await;
        let again = self.cloud.store().write(move |tx| {
            let row = row.clone();
            Box::pin(async move { tx.insert(&row).await })
        });
        again.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_on_a_host_only_is_found() {
    let bed = Bed::new().await;
    let vm: Uuid = bed.vm.uuid.parse().unwrap();
    let foreign = Uuid::now_v7();
    let another = |state: &HostState| {
        let mut another = state.vms[&vm].clone();
        another.nics.clear();
        another
    };
    bed.host_finds(
        "a process",
        |state| drop(state.vms.insert(foreign, another(state))),
        &[("vm-process", Extra, "")],
    )
    .await;
    bed.host_finds(
        "a folder",
        |state| {
            let mut another = another(state);
            another.pid = None;
            state.vms.insert(foreign, another);
        },
        &[("vm-folder", Extra, "")],
    )
    .await;
    bed.host_finds(
        "a tap",
        |state| {
            let (tap, bridge) = ("tap0123456789ab".to_owned(), "br_eth0".to_owned());
            state.strays.taps.insert(tap, bridge);
        },
        &[("tap", Extra, "")],
    )
    .await;
    bed.host_finds(
        "a bridge",
        |state| {
            drop(
                state
                    .bridges
                    .insert("br_eth7".to_owned(), "eth7".to_owned()),
            )
        },
        &[("bridge", Extra, "")],
    )
    .await;
    bed.host_finds(
        "an address",
        |state| {
            let dhcp = state.dhcp.get_mut("br_eth0").unwrap();
            dhcp.subnets[0].leases.push(DhcpLease {
                mac: "fa:00:00:00:00:99".to_owned(),
                ip: "10.1.0.99".to_owned(),
                host_name: "stray".to_owned(),
            });
        },
        &[("dhcp-entry", Extra, "")],
    )
    .await;
    for (file, kind, owner) in [
        (format!("volumes/{foreign}.qcow2"), "volume-file", ""),
        (format!("volumes/{foreign}.qcow2.part"), "part-file", ""),
        (format!("images/{foreign}.qcow2"), "image-file", ""),
        (
            format!("images/{}.qcow2.part", bed.ready.image),
            "part-file",
            "image",
        ),
    ] {
        let path = format!("/var/lib/pool/{file}");
        bed.host_finds(
            &file,
            |state| state.strays.files.extend([(path, 1)]),
            &[(kind, Extra, owner)],
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_host_has_lost_is_found() {
    let bed = Bed::new().await;
    let vm: Uuid = bed.vm.uuid.parse().unwrap();
    bed.host_finds(
        "volumes",
        |state| state.volumes.clear(),
        &[("volume-file", Missing, "volume")],
    )
    .await;
    bed.host_finds(
        "images",
        |state| state.images.clear(),
        &[("image-file", Missing, "image-cache")],
    )
    .await;
    bed.host_finds(
        "nics",
        |state| state.vms.get_mut(&vm).unwrap().nics.clear(),
        &[("tap", Missing, "vm-nic")],
    )
    .await;
    bed.host_finds(
        "bridges",
        |state| state.bridges.clear(),
        &[("bridge", Missing, "l2-network")],
    )
    .await;
    bed.host_finds(
        "what the bridge is over",
        |state| {
            drop(
                state
                    .bridges
                    .insert("br_eth0".to_owned(), "eth9".to_owned()),
            )
        },
        &[
            ("bridge", Differs, "l2-network"),
            ("bridge-port", Extra, "l2-network"),
        ],
    )
    .await;
    bed.host_finds(
        "a lease",
        |state| {
            let dhcp = state.dhcp.get_mut("br_eth0").unwrap();
            dhcp.subnets[0].leases.clear();
        },
        &[("dhcp-entry", Missing, "vm-nic")],
    )
    .await;
    bed.host_finds(
        "the server",
        |state| state.dhcp.get_mut("br_eth0").unwrap().subnets.clear(),
        &[
            ("dhcp-server", Missing, "l3-network"),
            ("bridge-address", Missing, "l3-network"),
        ],
    )
    .await;
}

/// Books that may be wrong: table, column, and the kind and the owner of what is found then.
pub(crate) const BOOKS: [(&str, &str, &str, &str); 4] = [
    ("host", "available_memory_bytes", "host-capacity", "host"),
    ("host", "available_cpu_count", "host-capacity", "host"),
    (
        "primary_storage_capacity",
        "available_bytes",
        "storage-capacity",
        "primary-storage-capacity",
    ),
    ("free_address", "first_number", "address", "ip-range"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn books_that_are_wrong_are_found() {
    let bed = Bed::new().await;
    let set = |table: &str, column: &str, by: &str| {
        format!("UPDATE {table} SET {column} = {column} {by}")
    };
    for (table, column, kind, owner) in BOOKS {
        for (one, other) in [("- 1", "+ 1"), ("+ 1", "- 1")] {
            let change = (&*set(table, column, one), &*set(table, column, other));
            bed.rows_find(change, &[(kind, Differs, owner)]).await;
        }
    }
    let state = |state: &str| format!("UPDATE vm_instance SET state = '{state}'");
    bed.rows_find(
        (&state("Starting"), &state("Running")),
        &[("vm-state", Differs, "vm-instance")],
    )
    .await;
    let runs = ("vm-process", Differs, "vm-instance");
    let capacity = ("host-capacity", Differs, "host");
    bed.rows_find(
        (&state("Stopped"), &state("Running")),
        &[runs, capacity, capacity],
    )
    .await;
    let status = |status: &str| format!("UPDATE volume SET status = '{status}'");
    bed.rows_find(
        (&status("NotInstantiated"), &status("Ready")),
        &[("volume-status", Differs, "volume")],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_row_that_is_gone_leaves_is_found() {
    let bed = Bed::new().await;
    let capacity = ("host-capacity", Differs, "host");
    bed.row_gone::<VmInstance>(
        &bed.vm.uuid,
        &[
            ("vm-process", Extra, ""),
            ("reference", Differs, "volume"),
            ("reference", Differs, "vm-nic"),
            capacity,
            capacity,
        ],
    )
    .await;
    let volume = bed.vm.root_volume_uuid.clone().unwrap();
    bed.row_gone::<Volume>(
        &volume,
        &[
            ("volume-file", Extra, ""),
            ("volume-note", Extra, ""),
            ("reference", Differs, "vm-instance"),
            ("storage-capacity", Differs, "primary-storage-capacity"),
        ],
    )
    .await;
    let nics: Vec<VmNic> = bed.cloud.store().list("", Vec::new()).await.unwrap();
    bed.row_gone::<VmNic>(
        &nics[0].uuid,
        &[
            ("tap", Extra, ""),
            ("dhcp-lease", Extra, ""),
            ("address", Differs, "ip-range"),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_is_told() {
    let mut cloud = Cloud::start().await;
    let ready = cloud.ready(1).await;
    let host = &ready.site.hosts[0].uuid;
    cloud.stop_agents().await;
    cloud.host_in(host, HostStatus::Disconnected).await;
    let listed = cairn(&cloud, "doctor").await;
    assert_eq!(listed.code, 0, "{}", listed.err);
    for part in ["no findings", host, "the host is Disconnected"] {
        assert!(listed.out.contains(part), "no {part}:\n{}", listed.out);
    }
    cloud.start_agents().await;
    cloud.connected(host).await;
    cloud.simulator.tamper(host.parse().unwrap(), |state| {
        let (bridge, over) = ("br_eth7".to_owned(), "eth7".to_owned());
        state.bridges.insert(bridge, over);
    });
    let told = cairn(&cloud, "doctor --host host-0").await;
    assert_eq!(told.code, 1, "{}", told.out);
    for part in ["bridge", "Extra", "br_eth7", "Repair"] {
        assert!(told.out.contains(part), "no {part}:\n{}", told.out);
    }
    let told = cairn(&cloud, "doctor --json").await;
    assert_eq!((told.code, &*told.err), (1, ""));
    let told: serde_json::Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!(told["findings"][0]["problem"], "PROBLEM_EXTRA", "{told}");
    let wrong = cairn(&cloud, "doctor --host nowhere").await;
    assert_eq!(wrong.code, 1, "{}", wrong.err);
    cloud.leaves(&["bridge"]);
}

/// Lives of virtual machines, while it is examined over and over.
async fn nothing_is_found_under_load(database: Database) {
    let cloud = Cloud::start_on(database).await;
    let ready = cloud.ready(2).await;
    let lives = join_all((0..12).map(|number| {
        let (cloud, ready) = (&cloud, &ready);
        let vms = VmInstanceClient::new(cloud.mesh());
        async move {
            for round in 0..2 {
                let name = format!("vm-{number}-{round}");
                let uuid = cloud.create_vm(ready, &name).await.unwrap().uuid;
                let stop = StopVmInstanceRequest {
                    uuid: uuid.clone(),
                    ..Default::default()
                };
                result(vms.stop_vm_instance(stop).await.unwrap())
                    .await
                    .unwrap();
                let start = StartVmInstanceRequest { uuid: uuid.clone() };
                result(vms.start_vm_instance(start).await.unwrap())
                    .await
                    .unwrap();
                let delete = DeleteVmInstanceRequest { uuid };
                result(vms.delete_vm_instance(delete).await.unwrap())
                    .await
                    .unwrap();
            }
        }
    }));
    let mesh = cloud.mesh();
    let examinations = async {
        let mut number = 0;
        loop {
            let examined = examine(&mesh).await.unwrap();
            assert_eq!(examined.findings, [], "examination {number}");
            number += 1;
        }
    };
    tokio::select! {
        _ = lives => {}
        () = examinations => {}
    }
    cloud.assert_empty(&ready).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_found_under_load_on_sqlite() {
    nothing_is_found_under_load(Database::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_found_under_load_on_postgres() {
    nothing_is_found_under_load(Database::Postgres).await;
}
