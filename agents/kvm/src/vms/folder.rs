//! The folder of a virtual machine: what it is, where its console and monitor are, and which
//! process runs it.
//!
//! | file           | what                                                   | while         |
//! |----------------|--------------------------------------------------------|---------------|
//! | `vm.json`      | its specification, from before its first tap           | it exists     |
//! | `console`      | what it wrote to its serial console, over all its runs | it exists     |
//! | `qemu.pid`     | QEMU's number, by QEMU                                 | it runs       |
//! | `process.json` | the process, so that no other is taken for it          | it runs       |
//! | `qmp`          | the monitor's socket                                   | it runs       |

use std::{
    fs,
    io::{self, ErrorKind, SeekFrom},
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncReadExt as _, AsyncSeekExt as _},
    task::spawn_blocking,
};

use crate::{
    KvmError,
    process::{Process, ProcessId},
};
use cairn_agent_protocol::{ConsolePart, ReadConsole, StartVm, tap_name};
use cairn_tls::write_private_file;
use cairn_types::Uuid;

/// The folders of all virtual machines.
pub(super) struct Folders {
    path: PathBuf,
}

impl Folders {
    pub(super) fn in_directory(directory: &Path) -> Result<Self, KvmError> {
        let path = directory.join("vms");
        fs::create_dir_all(&path).map_err(KvmError::file(&path))?;
        Ok(Self { path })
    }

    pub(super) fn of(&self, vm: Uuid) -> Folder {
        Folder {
            vm,
            path: self.path.join(vm.to_string()),
        }
    }

    pub(super) fn all(&self) -> Result<Vec<Folder>, KvmError> {
        let mut folders = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(KvmError::file(&self.path))? {
            let name = entry.map_err(KvmError::file(&self.path))?.file_name();
            let vm = name.to_str().and_then(|name| name.parse().ok());
            folders.extend(vm.map(|vm| self.of(vm)));
        }
        Ok(folders)
    }
}

/// The folder of one virtual machine, which need not be there.
pub(super) struct Folder {
    pub(super) vm: Uuid,
    path: PathBuf,
}

impl Folder {
    pub(super) fn console(&self) -> PathBuf {
        self.path.join("console")
    }

    /// A part of the console log; none if QEMU never began one.
    pub(super) async fn read_console(
        &self,
        command: &ReadConsole,
    ) -> Result<Option<ConsolePart>, KvmError> {
        let path = self.console();
        let failed = |cause| KvmError::file(&path)(cause);
        let mut file = match tokio::fs::File::open(&path).await {
            Ok(file) => file,
            Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(failed(cause)),
        };
        let total_bytes = file.metadata().await.map_err(failed)?.len();
        let (offset, length) = command.part_of(total_bytes);
        file.seek(SeekFrom::Start(offset)).await.map_err(failed)?;
        let mut content = Vec::new();
        let mut part = file.take(length);
        part.read_to_end(&mut content).await.map_err(failed)?;
        Ok(Some(ConsolePart {
            content,
            offset,
            total_bytes,
        }))
    }

    pub(super) fn monitor(&self) -> PathBuf {
        self.path.join("qmp")
    }

    pub(super) fn pid(&self) -> PathBuf {
        self.path.join("qemu.pid")
    }

    pub(super) fn exists(&self) -> Result<bool, KvmError> {
        self.path.try_exists().map_err(KvmError::file(&self.path))
    }

    pub(super) async fn write_spec(&self, spec: &StartVm) -> Result<(), KvmError> {
        fs::create_dir_all(&self.path).map_err(KvmError::file(&self.path))?;
        write_json(self.path.join("vm.json"), spec).await
    }

    /// The taps that it has, or had.
    pub(super) fn taps(&self) -> Result<Vec<String>, KvmError> {
        let spec: Option<StartVm> = read_json(&self.path.join("vm.json"))?;
        let nics = spec.map(|spec| spec.nics).unwrap_or_default();
        Ok(nics.iter().map(|nic| tap_name(nic.nic)).collect())
    }

    /// Its process, if it runs.
    pub(super) async fn process(&self) -> Result<Option<Process>, KvmError> {
        let known_path = self.path.join("process.json");
        if let Some(known) = read_json::<ProcessId>(&known_path)? {
            return Process::known_as(&known);
        }
        // Noted by nobody yet: the agent that started it just did so, or ended before it could.
        // The number alone proves nothing, but only this QEMU was told of this file.
        let path = self.pid();
        let Some(pid) = read(&path)?.and_then(|text| text.trim().parse().ok()) else {
            return Ok(None);
        };
        let process = Process::open(pid)?.filter(|process| process.was_told(&path));
        if let Some(process) = &process {
            write_json(known_path, process.id()).await?;
        }
        Ok(process)
    }

    /// Whether a process of it was known, that need not run any more, and nobody has cleared it.
    pub(super) fn knew_process(&self) -> Result<bool, KvmError> {
        let path = self.path.join("process.json");
        path.try_exists().map_err(KvmError::file(&path))
    }

    /// Removes what is there only while it runs.
    pub(super) fn clear(&self) -> Result<(), KvmError> {
        for path in [self.path.join("process.json"), self.pid(), self.monitor()] {
            match fs::remove_file(&path) {
                Err(cause) if cause.kind() != ErrorKind::NotFound => {
                    return Err(KvmError::File { path, cause });
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) async fn remove(&self) -> Result<(), KvmError> {
        match tokio::fs::remove_dir_all(&self.path).await {
            Err(cause) if cause.kind() != ErrorKind::NotFound => {
                Err(KvmError::file(&self.path)(cause))
            }
            _ => Ok(()),
        }
    }
}

fn read(path: &Path) -> Result<Option<String>, KvmError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(KvmError::file(path)(cause)),
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, KvmError> {
    let parse = |text: String| {
        serde_json::from_str(&text).map_err(|cause| KvmError::Damaged {
            path: path.to_owned(),
            cause,
        })
    };
    read(path)?.map(parse).transpose()
}

/// Apart from the workers: it waits for the disk.
async fn write_json(path: PathBuf, value: &impl Serialize) -> Result<(), KvmError> {
    let text = match serde_json::to_vec(value) {
        Ok(text) => text,
        Err(cause) => return Err(KvmError::Damaged { path, cause }),
    };
    let to = path.clone();
    match spawn_blocking(move || write_private_file(&to, &text)).await {
        Ok(written) => written.map_err(KvmError::file(path)),
        Err(stopped) => Err(KvmError::file(path)(io::Error::other(stopped))),
    }
}

#[cfg(test)]
mod tests {
    use std::{process::Command, time::Duration};

    use cairn_testkit::wait_for;

    use super::*;

    #[tokio::test]
    async fn only_the_process_that_was_started_is_taken_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let folders = Folders::in_directory(dir.path()).unwrap();
        let folder = folders.of(Uuid::from_u128(7));
        assert!(!folder.exists().unwrap());
        assert!(folder.process().await.unwrap().is_none());
        fs::create_dir_all(&folder.path).unwrap();

        // Another process under the number that QEMU had.
        let mut other = Command::new("sleep").arg("600").spawn().unwrap();
        fs::write(folder.pid(), format!("{}\n", other.id())).unwrap();
        assert!(folder.process().await.unwrap().is_none());
        other.kill().unwrap();
        other.wait().unwrap();

        // One that was told of the file, as QEMU is.
        let mut own = Command::new("sh")
            .args(["-c", "read line", "sh"])
            .arg(folder.pid())
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        fs::write(folder.pid(), format!("{}\n", own.id())).unwrap();
        // Its start returns a moment before its command line is there.
        let found = async || folder.process().await.unwrap();
        let process = wait_for("the process", found, Duration::from_secs(10)).await;
        assert_eq!(process.id().pid, own.id());
        // From then on it is known without the number's file.
        fs::remove_file(folder.pid()).unwrap();
        assert_eq!(folder.process().await.unwrap().unwrap().id(), process.id());
        own.kill().unwrap();
        own.wait().unwrap();
        assert!(folder.process().await.unwrap().is_none());
        assert_eq!(folders.all().unwrap().len(), 1);

        let last = ReadConsole {
            vm: folder.vm,
            offset: None,
            limit_bytes: 4,
        };
        assert_eq!(folder.read_console(&last).await.unwrap(), None);
        fs::write(folder.console(), b"booted\xff").unwrap();
        let part = folder.read_console(&last).await.unwrap().unwrap();
        assert_eq!((part.content.as_slice(), part.offset), (&b"ted\xff"[..], 3));
        assert_eq!(part.total_bytes, 7);

        folder.clear().unwrap();
        folder.remove().await.unwrap();
        folder.remove().await.unwrap();
        assert!(!folder.exists().unwrap());
    }
}
