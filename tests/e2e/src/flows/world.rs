//! Clouds in which a flow may begin, and the way back to how they were.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use cairn_node::PolicyName;
use cairn_proto::{
    call::{Answer, Call, Context, Method, Payload},
    compute::v1alpha1::{DeleteVmInstanceRequest, StopVmInstanceRequest, VmInstanceClient},
    doctor::v1alpha1::Problem,
    event::result,
    meta::Catalog,
    operation::v1alpha1::{GetOperationRequest, Operation, OperationClient, OperationState},
    storage::v1alpha1::{
        CreateImageRequest, DeleteImageRequest, GetImageRequest, ImageClient,
        UploadImageChunkRequest,
    },
};
use cairn_simulator::{HostState, RecordOutcome};
use cairn_testkit::wait_for;
use cairn_types::AccountUuid;
use futures::{StreamExt as _, stream::BoxStream};
use prost::Message as _;
use prost_reflect::{DynamicMessage, Value};
use tempfile::{NamedTempFile, TempDir};
use tokio::time::timeout;
use tonic::Status;

use super::{Dump, Known, Script, request::accepted};
use crate::{Cloud, Ready, qcow2};

/// How long a test waits for a state.
const LIMIT: Duration = Duration::from_secs(30);

/// How long what follows the end of an operation may take: to let go of what waits for it.
const SOON: Duration = Duration::from_secs(5);

/// Longer than a test takes.
const KEPT_SECS: u64 = 24 * 60 * 60;

/// How commands begin that do nothing the second time.
const ABSOLUTE: [&str; 3] = ["ensure-", "delete-", "pool-facts"];

/// What there is in a cloud to begin with, beside a zone, a host, a storage, a network and an
/// image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing else; a virtual machine was there, so the host has the image.
    Ready,
    /// A virtual machine that runs.
    Running,
    /// A virtual machine that is stopped.
    Stopped,
    /// An image whose file is uploaded, and not yet looked at.
    Uploaded,
    /// A virtual machine that runs, where what is deleted is kept for a while.
    Keeping,
    /// A virtual machine and an image that were deleted there.
    Kept,
    /// A virtual machine that runs, and on its host a tap that is nobody's.
    Stray,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Ready,
        Self::Running,
        Self::Stopped,
        Self::Uploaded,
        Self::Keeping,
        Self::Kept,
        Self::Stray,
    ];
}

/// A cloud with a script.
pub struct World {
    /// The cloud.
    pub cloud: Cloud,
    /// What goes wrong in it.
    pub script: Arc<Script>,
    catalog: Arc<Catalog>,
    known: Known,
    host: String,
    template: Template,
    _file: NamedTempFile,
}

/// How it was in the beginning.
struct Template {
    folder: TempDir,
    hosts: Vec<HostState>,
    dump: Dump,
}

/// A call that became an operation.
pub struct Accepted {
    /// The operation.
    pub operation: String,
    /// The rest of its events; dropped with this.
    pub events: BoxStream<'static, Result<Payload, Status>>,
}

impl World {
    /// A cloud of that kind.
    pub async fn new(kind: Kind) -> Self {
        let script = Arc::new(Script::default());
        let mut cloud = Cloud::prepare().await;
        cloud.failpoints = Some(script.clone());
        if kind == Kind::Stray {
            cloud.leaves(&["tap"]);
        }
        if matches!(kind, Kind::Keeping | Kind::Kept) {
            cloud.deletion = (PolicyName::Delay, KEPT_SECS);
        }
        cloud.start_node().await;
        let ready = cloud.ready(1).await;
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(&qcow2(2 << 30)).unwrap();
        let known = furnish(&cloud, &ready, kind, file.path()).await;
        let host = ready.site.hosts[0].uuid.clone();

        let folder = tempfile::tempdir().unwrap();
        cloud.stop_node().await;
        copy(&cloud.data_directory(), &folder.path().join("node"));
        copy(cloud.sftp.root(), &folder.path().join("files"));
        cloud.start_node().await;
        cloud.connected(&host).await;
        let hosts = cloud.simulator.hosts();
        let dump = Dump::of(cloud.node(), &hosts, &cloud.sftp).await;
        Self {
            template: Template {
                folder,
                hosts,
                dump,
            },
            cloud,
            script,
            catalog: Catalog::built_in(),
            known,
            host,
            _file: file,
        }
    }

    /// How it was in the beginning.
    #[must_use]
    pub fn before(&self) -> &Dump {
        &self.template.dump
    }

    /// How it is now.
    pub async fn dump(&self) -> Dump {
        Dump::of(
            self.cloud.node(),
            &self.cloud.simulator.hosts(),
            &self.cloud.sftp,
        )
        .await
    }

    /// Has everything be as it was in the beginning.
    pub async fn restore(&mut self) {
        self.script.write(Vec::new());
        self.cloud.stop_node().await;
        let template = self.template.folder.path();
        replace(&template.join("node"), &self.cloud.data_directory());
        replace(&template.join("files"), self.cloud.sftp.root());
        self.cloud.simulator.restore(self.template.hosts.clone());
        self.cloud.start_node().await;
    }

    /// The process dies where it is, and another one starts.
    pub async fn crash(&mut self) {
        self.cloud.kill_node().await;
        self.script.write(Vec::new());
        self.cloud.start_node().await;
    }

    /// Calls an rpc with a request that is made for it.
    ///
    /// # Errors
    /// Why there is no such request, or why the call was refused.
    pub async fn call(&mut self, method: &'static Method) -> Result<Accepted, String> {
        let pool = self.catalog.pool();
        let service = pool.get_service_by_name(method.service).unwrap();
        let rpc = service
            .methods()
            .find(|rpc| rpc.name() == method.name)
            .unwrap();
        let request = self
            .known
            .request(self.cloud.node(), &self.catalog, rpc.input());
        let call = Call {
            method,
            key: None,
            implementer: None,
            context: Context::of(AccountUuid::ADMIN),
            payload: Payload::Encoded(request.await?.encode_to_vec().into()),
        };
        let answer = self.cloud.mesh().call(call).await;
        let Answer::Stream(mut events) = answer.map_err(|status| status.message().to_owned())?
        else {
            return Err("it answers at once".to_owned());
        };
        let first = events.next().await.ok_or("there is no first event")?;
        let first = first.map_err(|status| status.message().to_owned())?;
        let first = DynamicMessage::decode(rpc.output(), first.into_bytes()).unwrap();
        Ok(Accepted {
            operation: accepted(&first).ok_or("the first event is not `accepted`")?,
            events,
        })
    }

    /// Waits for the end of an operation.
    pub async fn end(&self, operation: &str) -> Operation {
        let operations = OperationClient::new(self.cloud.mesh());
        let look = async || {
            let request = GetOperationRequest {
                uuid: operation.to_owned(),
            };
            let found = operations.get_operation(request).await.ok()?.operation?;
            (found.state() != OperationState::Accepted).then_some(found)
        };
        wait_for("the operation ends", look, LIMIT).await
    }

    /// How it is once the node has heard of its host again, if that is still there.
    pub async fn settled(&self) -> Dump {
        let there = "SELECT uuid FROM host";
        let hosts = self
            .cloud
            .node()
            .store()
            .rows(there, Vec::new())
            .await
            .unwrap();
        if !hosts.is_empty() {
            self.cloud.connected(&self.host).await;
        }
        let last = Mutex::new(None);
        let read = async || {
            let now = self.dump().await;
            let before = last.lock().unwrap().replace(now.clone());
            (before.as_ref() == Some(&now)).then_some(now)
        };
        wait_for("nothing changes any more", read, LIMIT).await
    }

    /// Waits until it is as one of `expected`; how it is instead, if it does not come to that.
    ///
    /// # Errors
    /// What differs from the first of them.
    pub async fn becomes(&self, expected: &[&Dump]) -> Result<(), String> {
        let look = async || {
            let now = self.dump().await.relative_to(self.before());
            expected.contains(&&now).then_some(())
        };
        let became = timeout(SOON, wait_for("it is as it must be", look, LIMIT)).await;
        match became {
            Ok(()) => Ok(()),
            Err(_) => {
                let now = self.dump().await.relative_to(self.before());
                Err(expected[0].difference(&now))
            }
        }
    }

    /// The commands of an operation that took place more than once under one id. Not those that
    /// say how it must be, or ask how it is: such a one does nothing the second time.
    #[must_use]
    pub fn doubled(&self, operation: &str) -> Vec<String> {
        let records = self.cloud.simulator.records();
        let done = records.iter().filter(|record| {
            let took_place = record.outcome == Some(RecordOutcome::Ok);
            let absolute = ABSOLUTE
                .iter()
                .any(|start| record.command.starts_with(start));
            took_place && !absolute && record.operation.to_string() == operation
        });
        let mut tasks = HashSet::new();
        let twice = done.filter(|record| !tasks.insert((record.host, record.task)));
        twice.map(|record| record.command.to_owned()).collect()
    }
}

/// Makes what is in a cloud of that kind, and says what requests may be filled with.
async fn furnish(cloud: &Cloud, ready: &Ready, kind: Kind, file: &Path) -> Known {
    let vms = VmInstanceClient::new(cloud.mesh());
    let vm = cloud.create_vm(ready, "first").await.unwrap().uuid;
    match kind {
        Kind::Running | Kind::Keeping | Kind::Stray => {}
        Kind::Stopped => {
            let stop = StopVmInstanceRequest {
                uuid: vm,
                ..Default::default()
            };
            result(vms.stop_vm_instance(stop).await.unwrap())
                .await
                .unwrap();
        }
        Kind::Ready | Kind::Uploaded | Kind::Kept => {
            let delete = DeleteVmInstanceRequest { uuid: vm };
            result(vms.delete_vm_instance(delete).await.unwrap())
                .await
                .unwrap();
        }
    }
    let images = ImageClient::new(cloud.mesh());
    let data = fs::read(file).unwrap();
    if kind == Kind::Uploaded {
        let create = CreateImageRequest {
            name: "uploaded".to_owned(),
            backup_storage_uuid: ready.backup_storage.clone(),
            ..Default::default()
        };
        let made = result(images.create_image(create).await.unwrap());
        let chunk = UploadImageChunkRequest {
            uuid: made.await.unwrap().uuid,
            offset: 0,
            data: data.clone().into(),
        };
        images.upload_image_chunk(chunk).await.unwrap();
    }
    if kind == Kind::Kept {
        let create = CreateImageRequest {
            name: "kept".to_owned(),
            backup_storage_uuid: ready.backup_storage.clone(),
            url: format!("file://{}", file.display()),
            ..Default::default()
        };
        let made = result(images.create_image(create).await.unwrap());
        let uuid = made.await.unwrap().uuid;
        let delete = images.delete_image(DeleteImageRequest { uuid });
        result(delete.await.unwrap()).await.unwrap();
    }
    let get = GetImageRequest {
        uuid: ready.image.clone(),
    };
    let image = images.get_image(get).await.unwrap().image.unwrap();
    let url = format!("file://{}", file.display());
    let fields = [
        ("url", Value::String(url)),
        ("sha256", Value::String(image.sha256)),
        ("file_size_bytes", Value::U64(data.len() as u64)),
    ];
    let mut fields: BTreeMap<_, _> = fields.into_iter().collect();
    if kind == Kind::Stray {
        fields.extend(stray(cloud, &ready.site.hosts[0].uuid));
    }
    Known { fields }
}

/// Puts a tap on a host that is nobody's, and says how it is found.
fn stray(cloud: &Cloud, host: &str) -> [(&'static str, Value); 5] {
    let tap = "tap0123456789ab".to_owned();
    let into = ("br_eth0".to_owned(), tap.clone());
    cloud.simulator.tamper(host.parse().unwrap(), |state| {
        state.strays.taps.insert(into.1, into.0);
    });
    [
        ("queue_uuid", Value::String(host.to_owned())),
        ("queue_type", Value::String("host".to_owned())),
        ("kind", Value::String("tap".to_owned())),
        ("problem", Value::EnumNumber(Problem::Extra.into())),
        ("identity", Value::String(tap)),
    ]
}

fn replace(from: &Path, to: &Path) {
    for entry in fs::read_dir(to).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
    }
    copy(from, to);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}
