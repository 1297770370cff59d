//! The stage `up`: a cloud of its own, up, completed and down, with nothing left in the end.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::id,
    time::Duration,
};

use crate::{error::XtaskError, stage::chain};

use super::{
    Accelerator, DownOptions, UpOptions, api::Api, cloud::Cloud, down, down::cut_off,
    process::in_namespace, programs::Programs, up,
};

/// Has a cloud come up and go.
pub(crate) fn rehearse() -> Result<(), XtaskError> {
    let name = format!("cairn-{}", id());
    let options = UpOptions {
        // Not below TMPDIR, which may be too long for the path of a socket, and where others may
        // write: there sshd confines nobody.
        data_directory: PathBuf::from(format!("/var/lib/{name}")),
        accelerator: Accelerator::Tcg,
        release: false,
        name,
    };
    let played = play(&options);
    // The logs of what failed stay.
    let gone = down(&DownOptions {
        data_directory: options.data_directory.clone(),
        purge: played.is_ok(),
    });
    if played.is_err() {
        let directory = options.data_directory.display();
        println!(
            "what it left is in {directory}: `cargo xtask down --purge --data-directory {directory}` removes it"
        );
    }
    played.and(gone)?;
    match options.data_directory.exists() {
        true => Err(refused("a purge leaves the data directory")),
        false => Ok(()),
    }
}

fn play(options: &UpOptions) -> Result<(), XtaskError> {
    println!("== an `up` that fails half-way, for somebody has the second agent's port");
    let taken = {
        let cloud = Cloud::open(&options.data_directory, &options.name)?;
        let [_, second] = cloud.hosts();
        let at = ("127.0.0.1", second.port);
        TcpListener::bind(at).map_err(XtaskError::file(&second.directory))?
    };
    match up(options) {
        Ok(_) => return Err(refused("an `up` did not see that a port was taken")),
        Err(error) => println!("as it should: {}", chain(&error)),
    }
    drop(taken);
    println!("== an `up` that completes it");
    if !up(options)? {
        return Err(refused("an `up` after a failure had nothing to do"));
    }
    if up(options)? {
        return Err(refused("an `up` of what was complete had something to do"));
    }
    println!("== the doctor finds nothing");
    doctor(options)?;
    println!("== a virtual machine ends with nobody noticing");
    let host = format!("{}-host-1", options.name);
    let mut guests = in_namespace(&host).into_iter();
    let guest = guests.find(|process| process.name().starts_with("qemu-"));
    let guest = guest.ok_or_else(|| refused("there is no virtual machine on host-1"))?;
    guest.end(Duration::ZERO)?;
    if !up(options)? {
        return Err(refused("an `up` did not see that a virtual machine ended"));
    }
    println!("== the machine loses its power");
    let cloud = Cloud::open(&options.data_directory, &options.name)?;
    cut_off(&cloud)?;
    drop(cloud);
    let host = Path::new("/run/netns").join(host);
    if host.exists() {
        return Err(refused("a network namespace outlives its machine"));
    }
    if !up(options)? {
        return Err(refused("an `up` did not see that nothing runs"));
    }
    if up(options)? {
        return Err(refused("an `up` of what was complete had something to do"));
    }
    doctor(options)?;
    down(&DownOptions {
        data_directory: options.data_directory.clone(),
        purge: false,
    })?;
    match host.exists() {
        true => Err(refused("`down` leaves a network namespace")),
        false => Ok(()),
    }
}

/// What the database says is what the hosts have.
fn doctor(options: &UpOptions) -> Result<(), XtaskError> {
    let cloud = Cloud::open(&options.data_directory, &options.name)?;
    let api = Api::new(&cloud, &Programs::of(options.release)?);
    api.call(&["doctor"]).map(drop)
}

fn refused(what: &str) -> XtaskError {
    XtaskError::Refused(what.to_owned())
}
