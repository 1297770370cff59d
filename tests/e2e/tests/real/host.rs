//! A real host: a network namespace, and the agent's process.

use std::{
    fs,
    path::{Path, PathBuf},
};

use cairn_agent_runtime::{install, request};
use cairn_e2e::{HeldProgram, create_host, enroll_host};
use cairn_proto::call::Mesh;
use cairn_testkit::wait_until;
use cairn_types::{HostUuid, Uuid};
use tokio::process::Command;

use crate::{cloud::LIMIT, namespace::Namespace};

const AGENT: &str = env!("CARGO_BIN_EXE_real-agent");

/// Has the agent see what its machine has, and not this one: a boot id, so that the host can be of
/// another boot, and a disk. The shell becomes the agent.
const SCRIPT: &str = r#"mount --bind "$1/boot_id" /proc/sys/kernel/random/boot_id &&
mount --bind "$1/disk" "$2" && exec "$3" "$1/agent.toml""#;

pub(crate) struct RealHost {
    pub(crate) uuid: String,
    // Before the namespace, which it looks at.
    agent: Option<HeldProgram>,
    starts: usize,
    pub(crate) namespace: Namespace,
    directory: PathBuf,
    pool: PathBuf,
}

impl RealHost {
    /// Adds the host to a cluster, enrols its agent and has it run. `address` is the agent's alone.
    pub(crate) async fn add(
        mesh: &Mesh,
        cluster: &str,
        (name, address): (&str, std::net::SocketAddr),
        namespace: Namespace,
        (folder, pool): (&Path, &Path),
    ) -> Self {
        let host: HostUuid = create_host(mesh, cluster, name, address).await;
        let directory = folder.join(name);
        let asked = request(&directory, host).unwrap();
        install(&directory, &enroll_host(mesh, host, asked).await).unwrap();
        let config = format!(
            "directory = '{}'\nlisten = '{address}'\nhost = '{host}'\naccelerator = 'tcg'\n\
             network_namespace = '{}'\n",
            directory.display(),
            namespace.name,
        );
        fs::write(directory.join("agent.toml"), config).unwrap();
        let mut this = Self {
            uuid: host.to_string(),
            agent: None,
            starts: 0,
            namespace,
            directory,
            pool: pool.to_owned(),
        };
        for folder in [&this.directory.join("disk"), &this.pool] {
            fs::create_dir_all(folder).unwrap();
        }
        this.new_boot();
        this.start_agent();
        this
    }

    fn new_boot(&self) {
        let id = Uuid::new_v4().to_string();
        fs::write(self.directory.join("boot_id"), id).unwrap();
    }

    pub(crate) fn boot_id(&self) -> String {
        fs::read_to_string(self.directory.join("boot_id")).unwrap()
    }

    pub(crate) fn start_agent(&mut self) {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.directory.join("agent.log"));
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", SCRIPT, "sh"]);
        command.args([&*self.directory, &*self.pool, Path::new(AGENT)]);
        self.agent = Some(HeldProgram::start(command.stderr(log.unwrap())));
        self.starts += 1;
    }

    /// Waits until the node has heard of the agent's last start.
    pub(crate) async fn said_hello(&self) {
        let hellos = async || self.log().matches("said hello").count();
        let all = |hellos: &usize| *hellos == self.starts;
        wait_until("hellos", hellos, all, LIMIT).await;
    }

    /// Kills the agent, as nothing can be warned of.
    pub(crate) async fn kill_agent(&mut self) {
        self.agent.take().unwrap().kill().await;
    }

    /// Has the agent be held at a place from now on.
    pub(crate) async fn hold_agent(&mut self, place: &str) {
        self.agent.as_mut().unwrap().hold(place).await;
    }

    /// Waits until the agent is held there, and kills it.
    pub(crate) async fn kill_agent_at(&mut self, place: &str) {
        let held = self.agent.as_mut().unwrap().held().await;
        assert_eq!(held.held, place);
        self.kill_agent().await;
    }

    /// Has the machine lose its power and come back. Who plugs in the cable, and starts the agent,
    /// is the caller.
    pub(crate) async fn lose_power(&mut self) {
        self.kill_agent().await;
        self.namespace.make_anew();
        self.new_boot();
    }

    /// The number of the only process that runs a virtual machine; none if none does.
    pub(crate) fn pid_of(&self, vm: &str) -> Option<u32> {
        let of_it = format!("-uuid {vm} ");
        let mut all = self.namespace.processes();
        all.retain(|(_, words)| words.starts_with("qemu-") && words.contains(&of_it));
        assert!(all.len() <= 1, "{all:?}");
        all.pop().map(|(pid, _)| pid)
    }

    /// How many processes run virtual machines, and how many taps there are.
    pub(crate) fn count(&self) -> (usize, usize) {
        let all = self.namespace.processes().into_iter();
        let machines = all.filter(|(_, words)| words.starts_with("qemu-"));
        (machines.count(), self.namespace.links("tap").len())
    }

    /// What a virtual machine wrote to its serial console.
    pub(crate) fn console(&self, vm: &str) -> String {
        let path = self.directory.join("vms").join(vm).join("console");
        String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
    }

    /// The virtual machines that it has a folder of, and the volumes on its disk.
    pub(crate) fn files(&self) -> (usize, usize) {
        let number = |folder: &str| {
            let entries = fs::read_dir(self.directory.join(folder));
            entries.map_or(0, Iterator::count)
        };
        (number("vms"), number("disk/volumes"))
    }

    /// What is left of what a cloud has on a host: processes, interfaces, files.
    pub(crate) fn left(&self) -> Vec<String> {
        let processes = self.namespace.processes().into_iter();
        let mut left: Vec<_> = processes.map(|(_, words)| words).collect();
        left.extend(self.namespace.links("tap"));
        left.extend(self.namespace.links("br"));
        for folder in ["vms", "disk/volumes", "disk/images"] {
            let folder = self.directory.join(folder);
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            left.extend(entries.map(|entry| entry.path().display().to_string()));
        }
        left
    }

    /// What the agent logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.join("agent.log")).unwrap()
    }
}
