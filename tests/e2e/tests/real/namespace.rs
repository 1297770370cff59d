//! Network namespaces: the machines that hosts are.

use std::{path::PathBuf, process::Command};

use cairn_types::Uuid;

/// Runs a program to its end, which must be a success; gives what it wrote.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {output:?}"
    );
    String::from_utf8(output.stdout).unwrap()
}

/// A network namespace, which goes with everything that runs in it.
pub(crate) struct Namespace {
    pub(crate) name: String,
}

impl Namespace {
    pub(crate) fn new() -> Self {
        let name = format!("cairn-{}", &Uuid::new_v4().simple().to_string()[..8]);
        let namespace = Self { name };
        namespace.make();
        namespace
    }

    fn make(&self) {
        run("ip", &["netns", "add", &self.name]);
        self.ip("link set lo up");
    }

    /// Ends it with all that is in it, and makes it anew: what a reboot leaves of a machine.
    pub(crate) fn make_anew(&self) {
        self.end();
        assert!(!self.path().exists(), "{} is still there", self.name);
        self.make();
    }

    /// Connects `eth0` here with `eth0` there.
    pub(crate) fn plug_into(&self, other: &Self) {
        let cable = format!(
            "link add eth0 type veth peer name eth0 netns {}",
            other.name
        );
        self.ip(&cable);
        self.ip("link set eth0 up");
        other.ip("link set eth0 up");
    }

    fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// Runs `ip` in it.
    pub(crate) fn ip(&self, words: &str) -> String {
        let mut arguments = vec!["-netns", &*self.name];
        arguments.extend(words.split(' '));
        run("ip", &arguments)
    }

    /// A program that will run in it.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name));
        command.args(["--", program]);
        command
    }

    /// The names of its interfaces that begin like this.
    pub(crate) fn links(&self, begin: &str) -> Vec<String> {
        let text = self.ip("-brief link show");
        let names = text
            .lines()
            .filter_map(|line| line.split([' ', '@']).next());
        let found = names.filter(|name| name.starts_with(begin));
        found.map(str::to_owned).collect()
    }

    /// What runs in it: number and command line of each.
    pub(crate) fn processes(&self) -> Vec<(u32, String)> {
        let text = run("ip", &["netns", "pids", &self.name]);
        let pids = text.lines().map(|line| line.parse().unwrap());
        let with_words = pids.map(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words = String::from_utf8_lossy(&line).replace('\0', " ");
            (pid, words)
        });
        with_words.collect()
    }

    fn end(&self) {
        let pids = Command::new("ip")
            .args(["netns", "pids", &self.name])
            .output();
        let pids = pids.map(|output| output.stdout).unwrap_or_default();
        for pid in String::from_utf8_lossy(&pids).lines() {
            let _ = Command::new("kill").args(["-9", pid]).status();
        }
        let _ = Command::new("ip")
            .args(["netns", "delete", &self.name])
            .status();
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.end();
    }
}
