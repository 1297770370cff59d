//! Programs that go on without us: the node, the agents, the SFTP server. Each has its configuration, its log
//! and its number beside the folder it works in.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Child,
    time::Duration,
};

use crate::{
    command::{command, start},
    error::XtaskError,
};

use super::{
    Accelerator,
    api::Api,
    cloud::{Cloud, HostPlace, to_json, write},
    process::{self, Process},
    programs::{Programs, path},
    steps::{Done, Look, wait_until},
};

/// How long a program may take until it serves.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long a program may take to end when it is asked to: as long as a node may, and some more.
pub(crate) const STOP_LIMIT: Duration = Duration::from_secs(40);

/// Has a program see a folder in the place of another one; what it starts sees it there, too.
const MOUNTED: &str = r#"mount --bind "$1" "$2" && shift 2 && exec "$@""#;

/// A program that goes on without us.
pub(crate) struct Daemon {
    pub(crate) program: PathBuf,
    /// The last one says that its configuration follows.
    pub(crate) words: &'static [&'static str],
    /// `<data>/node`: its files are `node.toml`, `node.log`, `node.pid`.
    pub(crate) place: PathBuf,
    pub(crate) config: String,
    /// A folder, and where this program sees it.
    pub(crate) mount: Option<[PathBuf; 2]>,
}

impl Daemon {
    fn file(&self, extension: &str) -> PathBuf {
        self.place.with_extension(extension)
    }

    /// Has it run, with this program and this configuration. `serves` looks whether it does.
    pub(crate) fn ensure(
        &self,
        mut serves: impl FnMut() -> Result<(), XtaskError>,
    ) -> Result<Done, XtaskError> {
        let config = self.file("toml");
        let running = running(&self.place);
        let same = fs::read_to_string(&config).is_ok_and(|text| text == self.config);
        let (mut child, done) = match running {
            Some(process) if same && process.is_of(&self.program) => (None, Done::There),
            running => {
                if let Some(process) = running {
                    process.end(STOP_LIMIT)?;
                }
                write(&config, &self.config)?;
                (Some(self.start(&config)?), Done::Made)
            }
        };
        let what = format!("{} serves", self.program.display());
        wait_until(&what, START_LIMIT, || {
            if let Some(child) = &mut child {
                let ended = child.try_wait();
                if let Some(status) = ended.map_err(XtaskError::file(&self.program))? {
                    return Err(XtaskError::Said {
                        command: format!("{}", self.program.display()),
                        status,
                        words: last_lines(&self.file("log")),
                    });
                }
            }
            match serves() {
                Ok(()) => Ok(Look::Is(())),
                Err(error) => Ok(Look::Not(format!(
                    "{}; its log is {}",
                    crate::stage::chain(&error),
                    self.file("log").display()
                ))),
            }
        })?;
        Ok(done)
    }

    fn start(&self, config: &Path) -> Result<Child, XtaskError> {
        let log = self.file("log");
        let open = || File::options().create(true).append(true).open(&log);
        let (out, err) = (open(), open());
        // It becomes the program, so the number is the program's.
        let mut command = command("setsid", &[]);
        if let Some(folders) = &self.mount {
            for folder in folders {
                fs::create_dir_all(folder).map_err(XtaskError::file(folder))?;
            }
            command.args(["unshare", "--mount", "sh", "-c", MOUNTED, "sh"]);
            command.args(folders);
        }
        command.arg(&self.program).args(self.words);
        command.arg(config);
        command.env("PATH", path());
        command.stdout(out.map_err(XtaskError::file(&log))?);
        command.stderr(err.map_err(XtaskError::file(&log))?);
        let child = command.spawn().map_err(|cause| start(&command, cause))?;
        if let Some(process) = Process::of(child.id()) {
            write(&self.file("pid"), &to_json(&process)?)?;
        }
        Ok(child)
    }
}

/// What runs at this place: as its file says, or, if that was not written any more, as it was told.
pub(crate) fn running(place: &Path) -> Option<Process> {
    let known = fs::read_to_string(place.with_extension("pid")).ok();
    let known = known.and_then(|text| serde_json::from_str::<Process>(&text).ok());
    if let Some(process) = known.filter(Process::runs) {
        return Some(process);
    }
    let config = place.with_extension("toml").display().to_string();
    process::all().into_iter().find(|process| {
        process.name().starts_with("cairn-")
            && process
                .words()
                .windows(2)
                .any(|pair| pair[0] == "--config" && pair[1] == config)
    })
}

/// Has the node run.
pub(crate) fn node(cloud: &Cloud, programs: &Programs, api: &Api) -> Result<Done, XtaskError> {
    let (public, callback) = cloud.ports();
    let daemon = Daemon {
        program: programs.node(),
        words: &["--config"],
        place: cloud.node(),
        config: format!(
            "data_directory = '{}'\n\n[public]\nlisten = '127.0.0.1:{public}'\n\n\
             [callback]\nlisten = '127.0.0.1:{callback}'\n",
            cloud.node().display(),
        ),
        mount: None,
    };
    daemon.ensure(|| {
        let words = ["query", "zone", "--limit", "1"];
        api.call_within(10, &words).map(drop)
    })
}

/// Has the agent of a host run.
pub(crate) fn agent(
    cloud: &Cloud,
    host: &HostPlace,
    programs: &Programs,
    api: &Api,
    accelerator: Accelerator,
) -> Result<Done, XtaskError> {
    let uuid = api.expect("host", &host.name)?;
    let daemon = Daemon {
        program: programs.agent(),
        words: &["run", "--config"],
        place: host.directory.clone(),
        config: format!(
            "directory = '{}'\nlisten = '127.0.0.1:{}'\nhost = '{}'\naccelerator = '{}'\n\
             network_namespace = '{}'\n",
            host.directory.display(),
            host.port,
            super::api::text(&uuid, "uuid"),
            match accelerator {
                Accelerator::Auto => "auto",
                Accelerator::Kvm => "kvm",
                Accelerator::Tcg => "tcg",
            },
            host.namespace,
        ),
        mount: Some([host.directory.join("disk"), cloud.pool()]),
    };
    let port = host.port;
    daemon.ensure(|| listens(&host.directory, port))
}

/// Whether the program at a place listens there. Not by a connection: somebody else may.
pub(crate) fn listens(place: &Path, port: u16) -> Result<(), XtaskError> {
    match running(place) {
        Some(process) if process.listens_on(port) => Ok(()),
        _ => {
            let text = format!("it does not listen on 127.0.0.1:{port}");
            Err(XtaskError::Refused(text))
        }
    }
}

fn last_lines(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().rev().take(5).collect();
    let lines: Vec<_> = lines.into_iter().rev().collect();
    lines.join("\n")
}
