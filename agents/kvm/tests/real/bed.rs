//! A host to test on: a network namespace with a cable, DHCP at its far end, a folder, the image.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use cairn_agent_protocol::{NicSpec, StartVm, TaskContext};
use cairn_boot::config;
use cairn_kvm::KvmAgent;
use cairn_testkit::wait_for;
use cairn_types::{HostUuid, OperationUuid, TaskUuid, Uuid};
use tempfile::TempDir;

/// Far more than any of it takes.
const LIMIT: Duration = Duration::from_secs(60);

/// What the tests need, and what has it.
const INSTALL: &str = "as root: apt-get install --no-install-recommends --allow-downgrades \
    qemu-system-x86 qemu-utils/$(. /etc/os-release; echo $VERSION_CODENAME) iproute2 dnsmasq-base \
    busybox-static util-linux openssh-server";

/// Runs a program, which must succeed, and gives what it wrote.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("`{program}` is needed ({error}); {INSTALL}"));
    assert!(
        output.status.success(),
        "{program} {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// A network namespace, which goes with everything that runs in it.
pub(crate) struct Namespace(pub(crate) String);

impl Namespace {
    pub(crate) fn new() -> Self {
        let name = format!("cairn-{}", &Uuid::new_v4().simple().to_string()[..8]);
        run("ip", &["netns", "add", &name]);
        let namespace = Self(name);
        namespace.ip("link set lo up");
        // The host's physical interface, and the far end of the cable that is plugged into it.
        namespace.ip("link add phys0 type veth peer name cable0");
        namespace.ip("link set phys0 up");
        namespace.ip("link set cable0 up");
        namespace.ip("address add 192.168.77.1/24 dev cable0");
        namespace
    }

    /// Runs `ip` in it.
    pub(crate) fn ip(&self, words: &str) -> String {
        let mut arguments = vec!["-netns", &*self.0];
        arguments.extend(words.split(' '));
        run("ip", &arguments)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.0));
        command.args(["--", program]);
        command
    }

    /// The names of the interfaces that the test did not make itself.
    pub(crate) fn links(&self) -> Vec<String> {
        let text = self.ip("-brief link show");
        let names = text
            .lines()
            .filter_map(|line| line.split([' ', '@']).next());
        let own = ["lo", "phys0", "cable0"];
        let others = names.filter(|name| !own.contains(name));
        others.map(str::to_owned).collect()
    }

    /// The numbers of the processes that run in it.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let text = run("ip", &["netns", "pids", &self.0]);
        text.lines().map(|line| line.parse().unwrap()).collect()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        for pid in self.pids() {
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
        }
        let _ = Command::new("ip")
            .args(["netns", "delete", &self.0])
            .status();
    }
}

/// A host with DHCP in its network.
pub(crate) struct Bed {
    // In the order in which they go.
    dnsmasq: Child,
    pub(crate) namespace: Namespace,
    folder: TempDir,
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _ = self.dnsmasq.kill();
        let _ = self.dnsmasq.wait();
    }
}

impl Bed {
    /// `leases`: hardware address, address and host name of each guest.
    pub(crate) fn new(leases: &[(&str, &str, &str)]) -> Self {
        run("qemu-system-x86_64", &["--version"]);
        let namespace = Namespace::new();
        let folder = tempfile::tempdir().unwrap();
        let in_folder = |name: &str| folder.path().join(name).display().to_string();
        let mut dnsmasq = namespace.command("dnsmasq");
        dnsmasq.args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--user=root",
            "--pid-file=",
            "--port=0",
            "--interface=cable0",
            "--bind-interfaces",
            "--dhcp-range=192.168.77.10,static,255.255.255.0",
            "--dhcp-authoritative",
        ]);
        dnsmasq.arg(format!("--dhcp-leasefile={}", in_folder("leases")));
        dnsmasq.arg(format!("--log-facility={}", in_folder("dnsmasq.log")));
        for (mac, ip, name) in leases {
            dnsmasq.arg(format!("--dhcp-host={mac},{ip},{name}"));
        }
        run("dnsmasq", &["--version"]);
        let dnsmasq = dnsmasq.stdin(Stdio::null()).spawn().unwrap();
        Self {
            dnsmasq,
            namespace,
            folder,
        }
    }

    /// The image of the guest, built if it is not there or is old.
    pub(crate) fn image() -> PathBuf {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        let image = target.join("guest-image/guest.qcow2");
        let build = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../deploy/guest-image/build.sh"
        );
        run(build, &[image.to_str().unwrap()]);
        image
    }

    pub(crate) async fn agent(&self) -> KvmAgent {
        let text = format!(
            "directory = '{}'\nlisten = '127.0.0.1:0'\nhost = '{}'\naccelerator = 'tcg'\n\
             network_namespace = '{}'\n",
            self.folder.path().display(),
            HostUuid::generate(),
            self.namespace.0,
        );
        let config = config::parse(&text, "test").unwrap();
        KvmAgent::open(&config).await.unwrap()
    }

    /// The host's folder, which is the agent's state folder.
    pub(crate) fn directory(&self) -> &Path {
        self.folder.path()
    }

    /// A path in the pool, which is in the host's folder.
    pub(crate) fn pool(&self, name: &str) -> String {
        self.folder
            .path()
            .join("pool")
            .join(name)
            .display()
            .to_string()
    }

    /// All files of virtual machines and pool.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let (mut folders, mut files) = (vec![self.folder.path().join("vms")], Vec::new());
        folders.push(self.pool("").into());
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => files.push(path),
                }
            }
        }
        files
    }

    /// Waits until the virtual machine wrote `count` lines with these words; gives the last.
    pub(crate) async fn console(&self, vm: Uuid, words: &str, count: usize) -> String {
        let path = self.folder.path().join(format!("vms/{vm}/console"));
        let read = || {
            let bytes = std::fs::read(&path).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let what = format!("line {count} with `{words}` on the console of {vm}");
        let look = async || {
            let text = read();
            // Only lines that are whole.
            let whole = text
                .split_inclusive('\n')
                .filter(|line| line.ends_with('\n'));
            let mut found = whole.filter(|line| line.contains(words));
            found.nth(count - 1).map(|line| line.trim().to_owned())
        };
        wait_for(&what, look, LIMIT).await
    }

    /// The address that a client at the far end of the cable is told, if any.
    pub(crate) fn address_by_dhcp(&self) -> Option<String> {
        let mut command = self.namespace.command("busybox");
        command.args(["udhcpc", "-i", "cable0", "-s", "/bin/true"]);
        // Once, in the foreground, and three attempts of a second each.
        command.args(["-q", "-f", "-n", "-t", "3", "-T", "1"]);
        let output = command.stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let (_, after) = text.split_once("lease of ")?;
        Some(after.split([' ', ',']).next()?.to_owned())
    }

    /// Runs a script in the guest that has this address.
    pub(crate) fn in_guest(&self, ip: &str, script: &str) -> String {
        let mut command = self.namespace.command("timeout");
        command.args(["20", "busybox", "wget", "-q", "-O", "-"]);
        command.arg(format!("--post-data={script}"));
        command.arg(format!("http://{ip}/cgi-bin/run"));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{script} in {ip}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

/// The context of a command, of a task of its own.
pub(crate) fn context() -> TaskContext {
    TaskContext {
        host: HostUuid::generate(),
        task: TaskUuid::generate(),
        operation: OperationUuid::generate(),
        resource: Uuid::new_v4(),
        token: 1,
        agent_incarnation: Uuid::new_v4(),
    }
}

/// A small virtual machine with one interface in `br_test`.
pub(crate) fn small_vm(name: &str, root_volume_path: &str, mac: &str) -> StartVm {
    StartVm {
        vm: Uuid::now_v7(),
        name: name.to_owned(),
        cpu_count: 1,
        memory_bytes: 128 << 20,
        root_volume_path: root_volume_path.to_owned(),
        nics: vec![NicSpec {
            nic: Uuid::now_v7(),
            mac: mac.to_owned(),
            bridge: "br_test".to_owned(),
            ip: None,
        }],
    }
}
