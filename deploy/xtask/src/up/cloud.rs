//! Where a cloud of `up` is: its directory, its file of choices, its names.

use std::{
    fs::{self, File},
    net::TcpListener,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    command::{command, try_ask},
    error::XtaskError,
};

/// The agent's state folder has at most 62 bytes, and is `/host-1` below.
const LONGEST: usize = 62 - "/host-1".len();

/// How long the name may be: an interface's, or a file's in /run/netns, is no problem then.
const LONGEST_NAME: usize = 24;

/// The ports of the node, if they are free.
const PUBLIC: u16 = 7070;
const CALLBACK: u16 = 7072;

/// What was chosen once: `up.json`. Its presence says that the directory is ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Choices {
    name: String,
    public_port: u16,
    callback_port: u16,
    host_ports: [u16; 2],
    /// Of the SFTP server; 0 in a cloud from before there was one.
    #[serde(default)]
    sftp_port: u16,
}

/// A cloud of `up`. Whoever has it is alone with it.
#[derive(Debug)]
pub(crate) struct Cloud {
    directory: PathBuf,
    choices: Choices,
    hosts: [HostPlace; 2],
    _lock: File,
}

/// Where one of its hosts is.
#[derive(Debug)]
pub(crate) struct HostPlace {
    /// `host-1`
    pub(crate) name: String,
    /// `vm-1`
    pub(crate) vm: String,
    /// The network namespace.
    pub(crate) namespace: String,
    /// The agent's state folder.
    pub(crate) directory: PathBuf,
    /// Where the agent listens.
    pub(crate) port: u16,
}

impl Cloud {
    /// Refuses a directory or a name that a cloud cannot have, and makes nothing.
    pub(crate) fn check(directory: &Path, name: &str) -> Result<(), XtaskError> {
        check(directory, name)?;
        let path = directory.join("up.json");
        if !path.exists() && directory.exists() {
            let mut entries = fs::read_dir(directory).map_err(XtaskError::file(directory))?;
            let foreign = entries.find_map(|entry| {
                let name = entry.ok()?.file_name();
                (name != "lock").then_some(name)
            });
            if let Some(foreign) = foreign {
                return Err(XtaskError::Refused(format!(
                    "{} was not made by `cargo xtask up`: it has {}; name another with \
                     --data-directory",
                    directory.display(),
                    foreign.display(),
                )));
            }
        }
        Ok(())
    }

    /// The cloud in this directory; if there is none, its place is made.
    pub(crate) fn open(directory: &Path, name: &str) -> Result<Self, XtaskError> {
        Self::check(directory, name)?;
        let lock = lock(directory)?;
        let path = directory.join("up.json");
        if !path.exists() {
            write(&path, &to_json(&Choices::new(name)?)?)?;
        }
        Self::read(directory, lock)
    }

    /// The cloud in this directory, if there is one.
    pub(crate) fn find(directory: &Path) -> Result<Option<Self>, XtaskError> {
        if !directory.join("up.json").exists() {
            return Ok(None);
        }
        let lock = lock(directory)?;
        Self::read(directory, lock).map(Some)
    }

    fn read(directory: &Path, lock: File) -> Result<Self, XtaskError> {
        let path = directory.join("up.json");
        let text = fs::read_to_string(&path).map_err(XtaskError::file(&path))?;
        let parsed = serde_json::from_str(&text).map_err(|cause| XtaskError::Parse {
            what: path.display().to_string(),
            cause: cause.into(),
        });
        let mut choices: Choices = parsed?;
        if choices.sftp_port == 0 {
            choices.sftp_port = Choices::new(&choices.name)?.sftp_port;
            write(&path, &to_json(&choices)?)?;
        }
        let hosts = [1, 2].map(|number| HostPlace {
            name: format!("host-{number}"),
            vm: format!("vm-{number}"),
            namespace: format!("{}-host-{number}", choices.name),
            directory: directory.join(format!("host-{number}")),
            port: choices.host_ports[number - 1],
        });
        Ok(Self {
            // Without a slash at its end, as processes are found by what they were told.
            directory: directory.components().collect(),
            choices,
            hosts,
            _lock: lock,
        })
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn hosts(&self) -> &[HostPlace; 2] {
        &self.hosts
    }

    /// Of the node: the public listener's and the callback listener's.
    pub(crate) fn ports(&self) -> (u16, u16) {
        (self.choices.public_port, self.choices.callback_port)
    }

    /// The SFTP server's files are beside this and in it: `sshd.toml`, `sshd/host_key`.
    pub(crate) fn sshd(&self) -> PathBuf {
        self.directory.join("sshd")
    }

    /// Where the SFTP server listens.
    pub(crate) fn sftp_port(&self) -> u16 {
        self.choices.sftp_port
    }

    /// What the SFTP server's user sees.
    pub(crate) fn sftp(&self) -> PathBuf {
        self.directory.join("sftp")
    }

    /// The node's own directory.
    pub(crate) fn node(&self) -> PathBuf {
        self.directory.join("node")
    }

    /// The administrator's.
    pub(crate) fn credential(&self) -> PathBuf {
        self.node().join("admin.json")
    }

    /// The image of the guests.
    pub(crate) fn image(&self) -> PathBuf {
        self.directory.join("images/guest.qcow2")
    }

    /// The pool of the local storage. Both hosts are this machine: each sees its own disk there.
    pub(crate) fn pool(&self) -> PathBuf {
        self.directory.join("pool")
    }
}

impl Choices {
    fn new(name: &str) -> Result<Self, XtaskError> {
        // Held until all are chosen, so that they differ.
        let held = [PUBLIC, CALLBACK, 0, 0, 0].map(|port| {
            let listen = |port| TcpListener::bind(("127.0.0.1", port));
            let listener = listen(port).or_else(|_| listen(0))?;
            Ok((listener.local_addr()?.port(), listener))
        });
        let mut ports = Vec::new();
        for listener in &held {
            match listener {
                Ok((port, _)) => ports.push(*port),
                Err::<_, std::io::Error>(cause) => {
                    return Err(XtaskError::Refused(format!("no free port: {cause}")));
                }
            }
        }
        Ok(Self {
            name: name.to_owned(),
            public_port: ports[0],
            callback_port: ports[1],
            host_ports: [ports[2], ports[3]],
            sftp_port: ports[4],
        })
    }
}

/// Refuses to go on as anybody else.
pub(crate) fn need_root() -> Result<(), XtaskError> {
    match try_ask(&mut command("id", &["-u"])).as_deref() {
        Some("0") => Ok(()),
        _ => Err(XtaskError::Refused(
            "network namespaces and virtual machines are root's: run it as root".to_owned(),
        )),
    }
}

/// Writes a file whole or not at all.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), XtaskError> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    fs::write(&part, text).map_err(XtaskError::file(&part))?;
    fs::rename(&part, path).map_err(XtaskError::file(path))
}

pub(crate) fn to_json<T: Serialize>(value: &T) -> Result<String, XtaskError> {
    serde_json::to_string(value).map_err(|cause| XtaskError::Parse {
        what: "a file of our own".to_owned(),
        cause: cause.into(),
    })
}

fn check(directory: &Path, name: &str) -> Result<(), XtaskError> {
    let text = directory.display();
    let length = directory.as_os_str().len();
    // Written into files of TOML between quotes.
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if !directory.is_absolute() || !text.to_string().chars().all(plain) {
        return Err(XtaskError::Refused(format!(
            "--data-directory {text}: use an absolute path of letters, digits, `/`, `.`, `_`, `-`"
        )));
    }
    if length > LONGEST {
        return Err(XtaskError::Refused(format!(
            "--data-directory {text} is {length} bytes long: use at most {LONGEST}"
        )));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(plain) {
        return Err(XtaskError::Refused(format!(
            "--name {name}: use 1 to {LONGEST_NAME} letters, digits or `-`"
        )));
    }
    Ok(())
}

fn lock(directory: &Path) -> Result<File, XtaskError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder
        .create(directory)
        .map_err(XtaskError::file(directory))?;
    let path = directory.join("lock");
    let file = File::create(&path).map_err(XtaskError::file(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(XtaskError::Refused(format!(
            "another `cargo xtask up` or `down` is at work in {}",
            directory.display()
        ))),
        Err(fs::TryLockError::Error(cause)) => Err(XtaskError::File { path, cause }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_and_a_name_are_taken_or_explained() {
        let long = format!("/{}", "x".repeat(LONGEST));
        for (directory, name, right) in [
            ("/var/lib/cairn", "cairn", true),
            (&long[1..], "cairn", false),
            (&long, "cairn", false),
            (&long[..LONGEST], "cairn", true),
            ("/var/li'b", "cairn", false),
            ("/d", "", false),
            ("/d", "a/b", false),
        ] {
            let taken = check(Path::new(directory), name);
            assert_eq!(taken.is_ok(), right, "{directory} {name}");
        }
    }

    #[test]
    fn ports_differ() {
        let choices = Choices::new("cairn").unwrap();
        let [one, two] = choices.host_ports;
        let mut ports = vec![choices.public_port, choices.callback_port, one, two];
        ports.push(choices.sftp_port);
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 5);
    }
}
