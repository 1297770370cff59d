//! `cargo xtask up` and `cargo xtask down`: a whole cloud on this machine, with real guests.
//!
//! Its two hosts are network namespaces that a cable joins, so nothing of the machine's own network
//! is touched. Everything is made through the public API by the command line that people have.
//! Each step looks first whether its result is there: `up` completes whatever an earlier one, or a
//! restart of the machine, has left.

mod api;
mod cloud;
mod daemon;
mod down;
mod guests;
mod hosts;
mod namespaces;
mod process;
mod programs;
mod rehearsal;
mod resources;
mod sftp;
mod steps;

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::{error::XtaskError, tools};

use self::{
    api::Api,
    cloud::Cloud,
    programs::Programs,
    resources::Made,
    steps::{Done, Steps},
};

pub(crate) use self::{down::down, rehearsal::rehearse};

/// What `up` is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct UpOptions {
    /// Where everything is kept: an absolute path of at most 55 bytes.
    #[arg(long, default_value = "/var/lib/cairn")]
    pub(crate) data_directory: PathBuf,
    /// What runs guests.
    #[arg(long, default_value = "auto")]
    pub(crate) accelerator: Accelerator,
    /// Builds the programs with optimisations.
    #[arg(long)]
    pub(crate) release: bool,
    /// What the names of the two network namespaces begin with: another one for each cloud on this
    /// machine. Kept from the first time on.
    #[arg(long, default_value = "cairn")]
    pub(crate) name: String,
}

/// What `down` is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct DownOptions {
    /// Where everything is kept.
    #[arg(long, default_value = "/var/lib/cairn")]
    pub(crate) data_directory: PathBuf,
    /// Removes the data directory, too.
    #[arg(long)]
    pub(crate) purge: bool,
}

/// What is to run guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Accelerator {
    /// KVM if it proves that it runs guests here, emulation otherwise.
    Auto,
    /// KVM.
    Kvm,
    /// Emulation.
    Tcg,
}

/// Sets the cloud up, or completes it. Whether anything was to do.
pub(crate) fn up(options: &UpOptions) -> Result<bool, XtaskError> {
    cloud::need_root()?;
    // Before anything is built.
    Cloud::check(&options.data_directory, &options.name)?;
    let mut steps = Steps::new(["there", "made"]);
    steps.run("install programs", || tools::host().map(Done::of))?;
    let programs = Programs::of(options.release)?;
    steps.run("build", || programs.build())?;

    let cloud = Cloud::open(&options.data_directory, &options.name)?;
    steps.run("guest image", || programs::guest_image(&cloud))?;
    steps.run("network namespaces", || namespaces::ensure(&cloud))?;
    let api = Api::new(&cloud, &programs);
    let mut fresh = steps.run("node", || daemon::node(&cloud, &programs, &api))?;

    steps.run("SFTP server", || sftp::server(&cloud))?;

    let mut made = Made::new(&api);
    made.racks(&mut steps)?;
    for host in cloud.hosts() {
        made.host(&mut steps, host)?;
        let name = format!("enrolment of {}", host.name);
        steps.run(&name, || hosts::enrol(host, &programs, &api))?;
        let name = format!("agent of {}", host.name);
        let agent = || daemon::agent(&cloud, host, &programs, &api, options.accelerator);
        fresh |= steps.run(&name, agent)?;
    }
    for host in cloud.hosts() {
        let name = format!("connection of {}", host.name);
        steps.run(&name, || hosts::connect(host, &api, fresh))?;
    }
    made.storage(&mut steps, &cloud)?;
    made.network(&mut steps)?;
    for host in cloud.hosts() {
        made.vm(&mut steps, host)?;
    }
    steps.run("page from guest to guest", || guests::see(&cloud, &api))?;

    made.print(&cloud)?;
    steps.print();
    println!("{}", what_next(options, &cloud, &programs));
    Ok(steps.did_something())
}

fn what_next(options: &UpOptions, cloud: &Cloud, programs: &Programs) -> String {
    let default = PathBuf::from("/var/lib/cairn");
    let down = match options.data_directory == default {
        true => String::new(),
        false => format!(" --data-directory {}", options.data_directory.display()),
    };
    format!(
        "\nNext:\n  export PATH=\"{}:$PATH\"\n  export CAIRN_CREDENTIAL={}\n  \
         cairn query vm-instance\n  tail {}/host-1/vms/*/console\n  cargo xtask down{down}",
        programs.folder().display(),
        cloud.credential().display(),
        cloud.directory().display(),
    )
}
