//! Hosts that become part of the cloud: enrolment and connection.

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
    time::Duration,
};

use crate::{
    command::{command, hear, start},
    error::XtaskError,
    stage::chain,
};

use super::{
    api::{Api, text},
    cloud::{HostPlace, write},
    programs::Programs,
    steps::{Done, Look, wait_until},
};

/// How long a host may take to connect: its agent may still find out what runs guests.
const CONNECT_LIMIT: Duration = Duration::from_secs(60);

/// Gives the agent of a host its certificate.
pub(crate) fn enrol(host: &HostPlace, programs: &Programs, api: &Api) -> Result<Done, XtaskError> {
    let row = api.expect("host", &host.name)?;
    let uuid = text(&row, "uuid");
    // The fingerprint of what is installed; the node's may be of a later one that was not.
    let marker = host.directory.join("enrolled");
    let installed = fs::read_to_string(&marker).unwrap_or_default();
    let fingerprint = text(&row, "certificateFingerprint");
    if !fingerprint.is_empty() && installed == fingerprint {
        return Ok(Done::There);
    }
    let directory = host.directory.display().to_string();
    let identity = ["identity", "--directory", &directory, "--host", uuid];
    let request = hear(&mut command(programs.agent(), &identity))?;
    let file = host.directory.join("request.pem");
    write(&file, &request)?;
    let request = format!("@{}", file.display());
    let enrolment = api.call(&["host", "enroll", uuid, "--certificate-request", &request])?;
    let mut install = command(programs.agent(), &["install", "--directory", &directory]);
    tell(&mut install, &enrolment.to_string())?;
    let row = api.expect("host", &host.name)?;
    write(&marker, text(&row, "certificateFingerprint"))?;
    Ok(Done::Made)
}

/// Has the node and the host know each other; anew if one of them has just begun, for what is in
/// the database may then be of another time.
pub(crate) fn connect(host: &HostPlace, api: &Api, anew: bool) -> Result<Done, XtaskError> {
    let row = api.expect("host", &host.name)?;
    if !anew && text(&row, "status") == "HOST_STATUS_CONNECTED" {
        return Ok(Done::There);
    }
    let uuid = text(&row, "uuid");
    let what = format!("{} is connected", host.name);
    wait_until(&what, CONNECT_LIMIT, || {
        match api.call(&["host", "reconnect", uuid]) {
            Ok(_) => Ok(Look::Is(Done::Made)),
            Err(error) => Ok(Look::Not(chain(&error))),
        }
    })
}

/// Runs a program with this on its standard input.
fn tell(command: &mut Command, input: &str) -> Result<(), XtaskError> {
    command.stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|cause| start(command, cause))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not listen has its reason in its words.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child
        .wait_with_output()
        .map_err(|cause| start(command, cause))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(XtaskError::Said {
            command: crate::command::text(command),
            status: output.status,
            words: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        }),
    }
}
