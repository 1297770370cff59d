//! Nodes and agents in processes of their own, to be killed.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Stdio,
};

use cairn_agent_runtime::{install, request};
use cairn_proto::call::Mesh;
use cairn_simulator::HostState;
use cairn_types::{HostUuid, Uuid};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::{create_host, enroll_host};

/// A program that tells on its standard output when it serves and where it is held, in lines.
pub struct HeldProgram {
    process: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

#[derive(Deserialize)]
struct Holding {
    holding: String,
}

/// A place where a program is held.
#[derive(Debug, Deserialize)]
pub struct Held {
    /// As [`HoldAt`](crate::HoldAt) has it.
    pub held: String,
}

impl HeldProgram {
    /// Starts it. Its standard input and output are ours.
    pub fn start(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.kill_on_drop(true).spawn().unwrap();
        let input = process.stdin.take().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self {
            process,
            input,
            lines,
        }
    }

    /// Has a program that listens to that be held at a place from now on.
    pub async fn hold(&mut self, place: &str) {
        let line = format!("{place}\n");
        self.input.write_all(line.as_bytes()).await.unwrap();
        let Holding { holding } = self.line().await;
        assert_eq!(holding, place);
    }

    async fn line<T: DeserializeOwned>(&mut self) -> T {
        let line = self.lines.next_line().await.unwrap();
        serde_json::from_str(&line.expect("the program ended")).unwrap()
    }

    /// Waits until it is held.
    pub async fn held(&mut self) -> Held {
        self.line().await
    }

    /// Kills it, as nothing can be warned of.
    pub async fn kill(mut self) {
        self.process.kill().await.unwrap();
    }
}

/// A running `held-node`.
pub struct HeldNode {
    program: HeldProgram,
    /// Its public listener.
    pub public: SocketAddr,
    /// Its callback listener.
    pub callback: SocketAddr,
}

#[derive(Deserialize)]
struct Serving {
    public: SocketAddr,
    callback: SocketAddr,
}

impl HeldNode {
    /// Starts the node and waits until it serves.
    pub async fn start(binary: &str, config: &Path, hold: Option<&str>) -> Self {
        let mut program = HeldProgram::start(Command::new(binary).arg(config).args(hold));
        let Serving { public, callback } = program.line().await;
        Self {
            program,
            public,
            callback,
        }
    }

    /// Waits until the node is held.
    pub async fn held(&mut self) -> Held {
        self.program.held().await
    }

    /// Kills it, as nothing can be warned of.
    pub async fn kill(self) {
        self.program.kill().await;
    }
}

/// A simulated host whose agent is a `held-agent`, once it is started.
pub struct HeldHost {
    /// The host.
    pub uuid: String,
    binary: String,
    directory: PathBuf,
    address: SocketAddr,
    agent: Option<HeldProgram>,
    starts: u64,
}

#[derive(Deserialize)]
struct Listening {
    #[serde(rename = "listening")]
    _at: SocketAddr,
}

impl HeldHost {
    /// Adds the host to a cluster and enrols its agent, with a folder of its own.
    pub async fn add(binary: &str, mesh: &Mesh, cluster: &str, directory: PathBuf) -> Self {
        let [ip, ..] = own_addresses();
        let address = SocketAddr::new(ip, 7443);
        let host: HostUuid = create_host(mesh, cluster, "host", address).await;
        let asked = request(&directory, host).unwrap();
        install(&directory, &enroll_host(mesh, host, asked).await).unwrap();
        Self {
            uuid: host.to_string(),
            binary: binary.to_owned(),
            directory,
            address,
            agent: None,
            starts: 0,
        }
    }

    /// Starts the agent and waits until it listens.
    pub async fn start(&mut self) {
        let mut command = Command::new(&self.binary);
        command.arg(&self.directory).arg(self.address.to_string());
        let mut agent = HeldProgram::start(&mut command);
        let Listening { .. } = agent.line().await;
        self.agent = Some(agent);
        self.starts += 1;
    }

    /// How often the agent was started.
    #[must_use]
    pub fn starts(&self) -> u64 {
        self.starts
    }

    /// The running agent.
    pub fn agent(&mut self) -> &mut HeldProgram {
        self.agent.as_mut().unwrap()
    }

    /// Kills the agent, as nothing can be warned of.
    pub async fn kill(&mut self) {
        self.agent.take().unwrap().kill().await;
    }

    /// What the host has, as it keeps it.
    #[must_use]
    pub fn state(&self) -> HostState {
        let path = self.directory.join(&self.uuid).join("simulated.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    /// How many outcomes the agent keeps until a node has them.
    #[must_use]
    pub fn kept_outcomes(&self) -> usize {
        let folder = self.directory.join(&self.uuid).join("tasks");
        let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let kept = files.filter(|file| file.file_name().as_encoded_bytes().ends_with(b".json"));
        kept.count()
    }
}

/// Addresses of this machine's own network that are nobody else's, so that their ports are free.
#[must_use]
pub fn own_addresses() -> [IpAddr; 3] {
    let [one, two, ..] = *Uuid::new_v4().as_bytes();
    [1, 2, 3].map(|last| Ipv4Addr::new(127, one.max(1), two, last).into())
}
