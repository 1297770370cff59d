//! `cargo xtask down`: ends what `up` began, and makes sure that nothing is left of it.

use std::{fs, time::Duration};

use crate::{error::XtaskError, stage::chain};

use super::{
    DownOptions,
    api::{Api, text},
    cloud::{self, Cloud},
    daemon::{STOP_LIMIT, running},
    namespaces,
    process::{self, Process, in_namespace},
    programs::Programs,
    steps::{Done, Steps},
};

/// How long a guest has to power off by itself, in seconds.
const GRACE_SECS: &str = "10";
/// How long a stop may take, in seconds. What has not ended by then is ended with its host.
const VM_LIMIT_SECS: u32 = 40;

/// What may run for a cloud, by how the names of programs begin.
const PROGRAMS: [&str; 5] = ["cairn-node", "cairn-kvm", "qemu-", "dnsmasq", "sshd"];

/// Takes the cloud down.
pub(crate) fn down(options: &DownOptions) -> Result<(), XtaskError> {
    cloud::need_root()?;
    let directory = &options.data_directory;
    let Some(cloud) = Cloud::find(directory)? else {
        if options.purge && directory.exists() {
            return Err(XtaskError::Refused(format!(
                "{} was not made by `cargo xtask up`; it stays",
                directory.display()
            )));
        }
        println!("Nothing is up in {}.", directory.display());
        return Ok(());
    };
    if left(&cloud).is_empty() {
        println!("Nothing is up in {}.", directory.display());
    } else {
        let mut steps = Steps::new(["none", "ended"]);
        stop(&cloud, &mut steps)?;
        println!("\nThe cloud in {} is down.", directory.display());
    }
    if options.purge {
        fs::remove_dir_all(directory).map_err(XtaskError::file(directory))?;
        println!("{} is removed.", directory.display());
    }
    Ok(())
}

fn stop(cloud: &Cloud, steps: &mut Steps) -> Result<(), XtaskError> {
    steps.run("virtual machines", || Ok(stop_vms(cloud)))?;
    for host in cloud.hosts() {
        let name = format!("agent of {}", host.name);
        let agent = || end(running(&host.directory), STOP_LIMIT);
        steps.run(&name, agent)?;
    }
    steps.run("node", || end(running(&cloud.node()), STOP_LIMIT))?;
    steps.run("SFTP server", || end(running(&cloud.sshd()), STOP_LIMIT))?;
    steps.run("what else runs", || end(processes(cloud), Duration::ZERO))?;
    steps.run("network namespaces", || delete_namespaces(cloud))?;
    steps.run("anything left", || {
        XtaskError::of_findings(left(cloud)).map(|()| Done::There)
    })?;
    Ok(())
}

/// Ends everything at once, as a machine that loses its power. Its directory stays.
pub(crate) fn cut_off(cloud: &Cloud) -> Result<(), XtaskError> {
    end(processes(cloud), Duration::ZERO)?;
    delete_namespaces(cloud).map(drop)
}

fn delete_namespaces(cloud: &Cloud) -> Result<Done, XtaskError> {
    let names = namespaces::present(cloud);
    for name in &names {
        namespaces::delete(name)?;
    }
    Ok(Done::of(!names.is_empty()))
}

/// Lets the guests power off. A node that does not answer must not keep a cloud up.
fn stop_vms(cloud: &Cloud) -> Done {
    if running(&cloud.node()).is_none() {
        return Done::There;
    }
    // Of the node that runs, whichever way it was built: both speak the same API.
    let built = [false, true].map(Programs::of).into_iter().flatten();
    let Some(programs) = built.into_iter().find(|it| it.cli().is_file()) else {
        println!("the command line is not built: virtual machines are cut off");
        return Done::There;
    };
    let api = Api::new(cloud, &programs);
    let mut done = Done::There;
    let vms = match api.query("vm-instance", &["state=Running"]) {
        Ok(vms) => vms,
        Err(error) => {
            println!("virtual machines are cut off: {}", chain(&error));
            return done;
        }
    };
    for vm in vms {
        let (uuid, name) = (text(&vm, "uuid"), text(&vm, "name"));
        let words = ["stop", "vm-instance", uuid, "--grace-secs", GRACE_SECS];
        match api.call_within(VM_LIMIT_SECS, &words) {
            Ok(_) => done = Done::Made,
            Err(error) => println!("{name} is cut off: {}", chain(&error)),
        }
    }
    done
}

fn end(
    processes: impl IntoIterator<Item = Process>,
    patience: Duration,
) -> Result<Done, XtaskError> {
    let mut done = Done::There;
    for process in processes {
        process.end(patience)?;
        done = Done::Made;
    }
    Ok(done)
}

/// Whatever runs for the cloud: in its namespaces, or told of its directory.
fn processes(cloud: &Cloud) -> Vec<Process> {
    let mut found = Vec::new();
    for name in namespaces::present(cloud) {
        found.extend(in_namespace(name));
    }
    let folder = format!("{}/", cloud.directory().display());
    for process in process::all() {
        let name = process.name();
        let ours = PROGRAMS.iter().any(|program| name.starts_with(program))
            && process.words().iter().any(|word| word.contains(&folder));
        if ours && !found.contains(&process) {
            found.push(process);
        }
    }
    found
}

/// What is left of the cloud, apart from its directory.
fn left(cloud: &Cloud) -> Vec<String> {
    let namespaces = namespaces::present(cloud);
    let namespaces = namespaces
        .iter()
        .map(|name| format!("network namespace {name}"));
    let processes = processes(cloud);
    let processes = processes.iter().map(Process::text);
    namespaces.chain(processes).collect()
}
