//! Processes that are started, asked, measured and ended.

use std::{ffi::OsStr, fs, net::SocketAddr, path::Path, process::Stdio, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

/// What the kernel counts CPU time in: USER_HZ, which is 100 on Linux.
const TICK: Duration = Duration::from_millis(10);

/// This program in another role.
pub(crate) struct Process {
    child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    /// Where it serves.
    pub(crate) address: SocketAddr,
}

impl Process {
    /// Starts the role and returns when it serves.
    pub(crate) async fn start(role: &str, argument: impl AsRef<OsStr>) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg(role)
            .arg(argument)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = lines.next_line().await.unwrap().expect("the process ended");
        let first: Value = serde_json::from_str(&first).unwrap();
        let address = first["serving"].as_str().unwrap().parse().unwrap();
        Self {
            child,
            input,
            lines,
            address,
        }
    }

    /// Asks it something on its standard input.
    pub(crate) async fn ask(&mut self, question: Value) -> Value {
        self.input
            .write_all(format!("{question}\n").as_bytes())
            .await
            .unwrap();
        let answer = self
            .lines
            .next_line()
            .await
            .unwrap()
            .expect("the process ended");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert!(answer.get("error").is_none(), "{question}: {answer}");
        answer
    }

    fn id(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// The CPU time it used so far.
    pub(crate) fn cpu(&self) -> Duration {
        cpu_of(&self.id().to_string())
    }

    /// The memory that is resident now.
    pub(crate) fn resident_mib(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib / 1024.0
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) async fn stop(mut self) {
        let id = self.id().to_string();
        assert!(
            Command::new("kill")
                .arg(&id)
                .status()
                .await
                .unwrap()
                .success()
        );
        self.child.wait().await.unwrap();
    }
}

/// The CPU time of a process, `self` for this one.
pub(crate) fn cpu_of(process: &str) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // The name, in parentheses, may hold spaces; what follows it does not.
    let fields: Vec<_> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    let ticks: u32 = fields[11].parse::<u32>().unwrap() + fields[12].parse::<u32>().unwrap();
    TICK * ticks
}

/// A node's configuration file over a data directory in `folder`.
pub(crate) fn node_config(folder: &Path, database: Option<&str>) -> std::path::PathBuf {
    let data = folder.join("node");
    let database = database.map(|url| format!("[database]\nurl = {url:?}\n"));
    let text = format!(
        "data_directory = {data:?}\n[public]\nlisten = \"127.0.0.1:0\"\n\
         [callback]\nlisten = \"127.0.0.1:0\"\n{}",
        database.unwrap_or_default()
    );
    let path = folder.join("node.toml");
    fs::write(&path, text).unwrap();
    path
}

/// The type of the file system that a folder is on.
pub(crate) async fn file_system(folder: &Path) -> Value {
    let stat = Command::new("stat")
        .args(["-f", "-c", "%T"])
        .arg(folder)
        .output()
        .await
        .unwrap();
    json!(String::from_utf8(stat.stdout).unwrap().trim())
}
