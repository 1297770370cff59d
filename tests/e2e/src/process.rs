//! A node in a process of its own, to be killed.

use std::{net::SocketAddr, path::Path, process::Stdio};

use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

/// A running `held-node`.
pub struct HeldNode {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
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

/// A place where the node is held.
#[derive(Debug, Deserialize)]
pub struct Held {
    /// `AfterEffect create-vm-instance allocate-nic run`
    pub held: String,
}

impl HeldNode {
    /// Starts the node and waits until it serves.
    pub async fn start(binary: &str, config: &Path, hold: Option<&str>) -> Self {
        let mut process = Command::new(binary)
            .arg(config)
            .args(hold)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let first = lines
            .next_line()
            .await
            .unwrap()
            .expect("the node ended before it served");
        let Serving { public, callback } = serde_json::from_str(&first).unwrap();
        Self {
            process,
            lines,
            public,
            callback,
        }
    }

    /// Waits until the node is held.
    pub async fn held(&mut self) -> Held {
        let line = self
            .lines
            .next_line()
            .await
            .unwrap()
            .expect("the node ended");
        serde_json::from_str(&line).unwrap()
    }

    /// Kills it, as nothing can be warned of.
    pub async fn kill(mut self) {
        self.process.kill().await.unwrap();
    }
}
