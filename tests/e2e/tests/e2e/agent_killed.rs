//! An agent that is killed in the middle of its work and started again. A life of a virtual machine
//! has every command that an agent gets for it, once at least; the agent is killed in each, and what
//! its host has in the end, and how often a command had an effect there, is as without that.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use cairn_agent_runtime::Point;
use cairn_e2e::{
    Cloud, HeldHost, HoldAt, Ready, Site, assert_sound,
    flows::{Deed, Rule, Script, Visit},
    host_in, qcow2,
};
use cairn_operation::Point as At;
use cairn_proto::{
    compute::v1alpha1::{
        CreateVmInstanceRequest, DeleteVmInstanceRequest, HostStatus, StartVmInstanceRequest,
        StopVmInstanceRequest, VmInstanceClient, VmInstanceState as State,
    },
    event::result,
    fault::Fault,
    operation::v1alpha1::{OperationClient, QueryOperationRequest},
    query::v1alpha1::{Condition, Operator, Query},
    storage::v1alpha1::{CreateImageRequest, DeleteImageRequest, ImageClient},
};
use cairn_testkit::wait_until;
use tempfile::{NamedTempFile, TempDir};
use tokio::select;

const LIMIT: Duration = Duration::from_secs(30);
const AGENT: &str = env!("CARGO_BIN_EXE_held-agent");

/// The commands of a life, each of which changes something.
const COMMANDS: [&str; 7] = [
    "cache-image",
    "create-volume",
    "apply-dhcp",
    "start-vm",
    "stop-vm",
    "destroy-vm",
    "delete-volume",
];

/// A command that says how all must be, which a host that connects is told again: the number of
/// times is nobody's concern, only that in the end nothing is left of it.
const ABSOLUTE: &str = "apply-dhcp";

/// How often each command changed something on the host.
type Effects = BTreeMap<String, u64>;

/// A cloud with one host, whose agent is a process of its own.
struct Bed {
    user: User,
    // After the cloud, which is examined at its end.
    host: HeldHost,
    script: Arc<Script>,
    /// What goes wrong in each life.
    rules: Vec<Rule>,
    _folder: TempDir,
}

/// Who uses the cloud.
struct User {
    cloud: Cloud,
    ready: Ready,
    /// The file of an image.
    file: NamedTempFile,
}

impl User {
    /// A virtual machine of an image of its own is made, stopped, started and deleted.
    async fn life(&self) -> Result<(), Fault> {
        let (image, vms) = (self.image().await, VmInstanceClient::new(self.cloud.mesh()));
        let created = self.create(&image).await;
        if let Ok(uuid) = &created {
            let stop = StopVmInstanceRequest {
                uuid: uuid.clone(),
                ..Default::default()
            };
            let stopped = result(vms.stop_vm_instance(stop).await.unwrap()).await;
            assert_eq!(stopped.unwrap().state(), State::Stopped);
            let start = StartVmInstanceRequest { uuid: uuid.clone() };
            let started = result(vms.start_vm_instance(start).await.unwrap()).await;
            assert_eq!(started.unwrap().state(), State::Running);
            let delete = DeleteVmInstanceRequest { uuid: uuid.clone() };
            let deleted = result(vms.delete_vm_instance(delete).await.unwrap()).await;
            deleted.unwrap();
        }
        let images = ImageClient::new(self.cloud.mesh());
        let deleted = images.delete_image(DeleteImageRequest { uuid: image });
        result(deleted.await.unwrap()).await.unwrap();
        created.map(|_| ())
    }

    async fn image(&self) -> String {
        let request = CreateImageRequest {
            name: "its own".to_owned(),
            url: format!("file://{}", self.file.path().display()),
            backup_storage_uuid: self.ready.backup_storage.clone(),
            ..Default::default()
        };
        let images = ImageClient::new(self.cloud.mesh());
        let made = result(images.create_image(request).await.unwrap()).await;
        made.unwrap().uuid
    }

    async fn create(&self, image: &str) -> Result<String, Fault> {
        let request = CreateVmInstanceRequest {
            image_uuid: image.to_owned(),
            ..self.ready.vm_request("web")
        };
        let vms = VmInstanceClient::new(self.cloud.mesh());
        let made = result(vms.create_vm_instance(request).await.unwrap()).await;
        let made = made.map_err(|status| Fault::from_status(&status))?;
        assert_eq!(made.state(), State::Running);
        Ok(made.uuid)
    }

    /// How many operations are as these fields say.
    async fn operations(&self, fields: &[(&str, &str)]) -> u64 {
        let conditions = fields.iter().map(|(field, value)| Condition {
            field: (*field).to_owned(),
            operator: Operator::Eq.into(),
            values: vec![(*value).to_owned()],
        });
        let query = Some(Query {
            conditions: conditions.collect(),
            count: true,
            ..Default::default()
        });
        let operations = OperationClient::new(self.cloud.mesh());
        let found = operations.query_operation(QueryOperationRequest { query });
        found.await.unwrap().total.unwrap()
    }
}

impl Bed {
    async fn new() -> Self {
        let mut cloud = Cloud::prepare().await;
        // No pings: what the node knows of a new agent is what that says.
        cloud.ping_interval_ms = 60_000;
        let script = Arc::new(Script::default());
        cloud.failpoints = Some(script.clone());
        cloud.start_node().await;
        let (mesh, folder) = (cloud.mesh(), tempfile::tempdir().unwrap());
        let mut site = Site::empty(&mesh).await;
        let at = folder.path().join("host");
        let mut host = HeldHost::add(AGENT, &mesh, &site.cluster, at).await;
        host.start().await;
        let connected = host_in(&mesh, &host.uuid, HostStatus::Connected).await;
        site.hosts.push(connected);
        let ready = Ready::at(&mesh, site, (&cloud.sftp, &cloud.data_directory())).await;
        let file = NamedTempFile::new().unwrap();
        std::fs::write(file.path(), qcow2(2 << 30)).unwrap();
        Self {
            user: User { cloud, ready, file },
            host,
            script,
            rules: Vec::new(),
            _folder: folder,
        }
    }

    /// Waits until the node has heard of the agent's last start, and nothing is under way. Then
    /// there is nothing of a virtual machine, and the doctor is content. Returns the effects.
    async fn sound(&self) -> Effects {
        let user = &self.user;
        let read = async || {
            let connected = [("name", "ReconnectHost"), ("state", "Succeeded")];
            (
                user.operations(&connected).await,
                user.operations(&[("state", "Accepted")]).await,
                user.cloud.count("gc-job").await,
                self.host.kept_outcomes(),
            )
        };
        let expected = (self.host.starts(), 0, 0, 0);
        let what = "the agent is known, and nothing is under way";
        wait_until(what, read, |now| *now == expected, LIMIT).await;

        let hosts = [self.host.uuid.clone()];
        assert_sound(&user.cloud.mesh(), &hosts, &BTreeSet::new()).await;
        for resource in ["vm-instance", "volume", "vm-nic"] {
            assert_eq!(user.cloud.count(resource).await, 0, "{resource}");
        }
        let state = self.host.state();
        assert_eq!(
            (state.vms.len(), state.volumes.len(), state.images.len()),
            (0, 0, 0),
            "{state:?}"
        );
        state.effects
    }

    /// The effects of a life during which `befalls` happens to the host, and what it came to.
    async fn life(
        &mut self,
        befalls: impl AsyncFnOnce(&mut HeldHost),
    ) -> (Effects, Result<(), Fault>) {
        let before = self.sound().await;
        self.script.write(self.rules.clone());
        let came_to = {
            let mut life = pin!(self.user.life());
            select! {
                biased;
                () = befalls(&mut self.host) => {}
                came_to = &mut life => panic!("nothing befell it: {came_to:?}"),
            }
            life.await
        };
        let mut effects = self.sound().await;
        for (command, before) in before {
            let now = effects.entry(command).or_default();
            *now = now.checked_sub(before).unwrap();
        }
        assert!(effects.remove(ABSOLUTE).is_some(), "{effects:?}");
        (effects, came_to)
    }

    /// A life in which nothing befalls the host, as what others are compared with.
    async fn quiet_life(&mut self) -> Effects {
        let (effects, came_to) = self.life(async |_| {}).await;
        assert_eq!(came_to.is_err(), !self.rules.is_empty(), "{came_to:?}");
        effects
    }

    /// That a kill at each of these points of these commands changes nothing of what a life does
    /// to the host, and of what it comes to.
    async fn bears_kills(&mut self, points: &[Point], commands: &[&str]) {
        let expected = self.quiet_life().await;
        for command in commands {
            let has_effect = *command == ABSOLUTE || expected[*command] > 0;
            assert!(has_effect, "{command}: {expected:?}");
            for point in points {
                let place = HoldAt::agent(*point, command);
                self.host.agent().hold(&place).await;
                let kill = async |host: &mut HeldHost| {
                    assert_eq!(host.agent().held().await.held, place);
                    host.kill().await;
                    host.start().await;
                };
                let (effects, came_to) = self.life(kill).await;
                assert_eq!(
                    came_to.is_err(),
                    !self.rules.is_empty(),
                    "{place}: {came_to:?}"
                );
                assert_eq!(effects, expected, "{place}");
            }
        }
    }
}

fn at(flow: &str, step: &str, direction: &'static str) -> Visit {
    Visit {
        flow: flow.to_owned(),
        step: step.to_owned(),
        direction,
        point: At::AfterEffect,
    }
}

/// The last step of a creation with an effect on the host fails after that.
fn failing() -> Rule {
    Rule {
        at: at("create-vm-instance", "create-on-hypervisor", "run"),
        deed: Deed::Fail,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_is_killed_before_it_does_something_does_it_once() {
    let mut bed = Bed::new().await;
    bed.bears_kills(&[Point::BeforeEffect], &COMMANDS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_is_killed_after_it_did_something_does_it_once() {
    let mut bed = Bed::new().await;
    bed.bears_kills(&[Point::AfterEffect], &COMMANDS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_is_killed_before_it_tells_an_outcome_tells_it_later() {
    let mut bed = Bed::new().await;
    bed.bears_kills(&[Point::AfterKept], &COMMANDS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_is_killed_while_a_creation_is_undone_leaves_nothing() {
    let mut bed = Bed::new().await;
    bed.rules = vec![failing()];
    let points = [Point::BeforeEffect, Point::AfterEffect, Point::AfterKept];
    let commands = ["destroy-vm", "apply-dhcp", "delete-volume"];
    bed.bears_kills(&points, &commands).await;
}

/// The node has the outcome and has not committed it: the agent still waits for the answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_is_killed_before_its_callback_is_answered_asks_again() {
    let mut bed = Bed::new().await;
    let places = [
        at("create-vm-instance", "create-on-hypervisor", "run"),
        at("create-vm-instance", "create-on-hypervisor", "rollback"),
        at("stop-vm-instance", "stop-on-hypervisor", "run"),
        at("start-vm-instance", "create-on-hypervisor", "run"),
        at("destroy-vm-instance", "destroy-on-hypervisor", "run"),
    ];
    for place in places {
        let fails = (place.direction == "rollback").then(failing);
        bed.rules = fails.into_iter().collect();
        let expected = bed.quiet_life().await;
        let deed = Deed::Hold;
        bed.rules.push(Rule { at: place, deed });
        let script = Arc::clone(&bed.script);
        let (effects, _) = bed
            .life(async |host| {
                script.held().await;
                host.kill().await;
                assert!(host.kept_outcomes() > 0, "what is not taken is kept");
                host.start().await;
                script.let_go();
            })
            .await;
        assert_eq!(effects, expected);
        assert!(bed.script.open().is_empty(), "{:?}", bed.script.open());
    }
}
