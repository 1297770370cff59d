//! The cloud's programs and the guests' image, and how programs of the system are run.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use crate::{
    command::{cargo, command, hear, root, run},
    error::XtaskError,
};

use super::{cloud::Cloud, steps::Done};

/// The programs of the cloud, by package.
const PACKAGES: [(&str, &str); 3] = [
    ("cairn-node", "cairn-node"),
    ("cairn-kvm", "cairn-kvm"),
    ("cairn-cli", "cairn"),
];

/// Where the cloud's programs are.
#[derive(Debug)]
pub(crate) struct Programs {
    folder: PathBuf,
    release: bool,
}

impl Programs {
    /// Those that are built beside this program.
    pub(crate) fn of(release: bool) -> Result<Self, XtaskError> {
        let this = env::current_exe().map_err(XtaskError::file("/proc/self/exe"))?;
        // <target>/<profile>/cairn-xtask
        let target = this.ancestors().nth(2).unwrap_or(Path::new("/"));
        let folder = target.join(if release { "release" } else { "debug" });
        Ok(Self { folder, release })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn node(&self) -> PathBuf {
        self.folder.join("cairn-node")
    }

    pub(crate) fn agent(&self) -> PathBuf {
        self.folder.join("cairn-kvm")
    }

    pub(crate) fn cli(&self) -> PathBuf {
        self.folder.join("cairn")
    }

    /// Builds them.
    pub(crate) fn build(&self) -> Result<Done, XtaskError> {
        let before = self.times();
        let mut build = cargo(&["build"]);
        for (package, _) in PACKAGES {
            build.args(["-p", package]);
        }
        if self.release {
            build.arg("--release");
        }
        run(&mut build)?;
        Ok(Done::of(self.times() != before))
    }

    fn times(&self) -> [Option<SystemTime>; 3] {
        PACKAGES.map(|(_, program)| {
            let file = fs::metadata(self.folder.join(program)).ok()?;
            file.modified().ok()
        })
    }
}

/// Makes the guests' image: the one that the tests use, built if it is not there or is old.
pub(crate) fn guest_image(cloud: &Cloud) -> Result<Done, XtaskError> {
    let image = cloud.image();
    if image.exists() {
        return Ok(Done::There);
    }
    let built = root().join("target/guest-image/guest.qcow2");
    let script = root().join("deploy/guest-image/build.sh");
    hear(command(script, &[]).arg(&built))?;
    let folder = cloud.directory().join("images");
    fs::create_dir_all(&folder).map_err(XtaskError::file(&folder))?;
    let part = folder.join("guest.part");
    fs::copy(&built, &part).map_err(XtaskError::file(&part))?;
    fs::rename(&part, &image).map_err(XtaskError::file(&image))?;
    Ok(Done::Made)
}

/// The SHA-256 of a file, in hex.
pub(crate) fn sha256(path: &Path) -> Result<String, XtaskError> {
    let line = hear(command("sha256sum", &["--"]).arg(path))?;
    let digest = line.split(' ').next().unwrap_or_default();
    Ok(digest.to_owned())
}

/// A program of the system, also of the folders that not everybody's path has.
pub(crate) fn system(program: &str, arguments: &[&str]) -> Command {
    let mut command = command(program, arguments);
    command.env("PATH", path());
    command
}

/// The search path of whatever we start.
pub(crate) fn path() -> String {
    let path = env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/sbin:/sbin")
}
