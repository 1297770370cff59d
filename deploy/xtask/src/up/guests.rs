//! The guests: whether they are there, and whether one sees the other.

use std::time::Duration;

use crate::{command::hear, error::XtaskError, stage::chain};

use super::{
    api::{Api, text},
    cloud::{Cloud, HostPlace},
    process::in_namespace,
    programs::system,
    steps::{Done, Look, wait_until},
};

/// How long two guests may take to boot and to get their addresses.
const BOOT_LIMIT: Duration = Duration::from_secs(120);

/// Whether the virtual machine's process is on its host.
pub(crate) fn is_there(host: &HostPlace, vm: &str) -> bool {
    in_namespace(&host.namespace).iter().any(|process| {
        let words = process.words();
        words
            .windows(2)
            .any(|pair| pair[0] == "-uuid" && pair[1] == vm)
    })
}

/// The address of a virtual machine's first nic.
pub(crate) fn address(api: &Api, vm: &str) -> Result<String, XtaskError> {
    let nics = api.query("vm-nic", &[&format!("vmInstanceUuid={vm}")])?;
    Ok(nics.first().map_or("", |nic| text(nic, "ip")).to_owned())
}

/// Has the first guest fetch a page from the second, over the cable between the hosts.
pub(crate) fn see(cloud: &Cloud, api: &Api) -> Result<Done, XtaskError> {
    let [one, two] = cloud.hosts();
    let ip = |host: &HostPlace| {
        let vm = api.expect("vm-instance", &host.vm)?;
        address(api, text(&vm, "uuid"))
    };
    let (from, to) = (ip(one)?, ip(two)?);
    let what = format!("{} ({from}) gets a page from {} ({to})", one.vm, two.vm);
    wait_until(&what, BOOT_LIMIT, || {
        // The guest's own `wget -T` does not work.
        let script = format!("timeout 5 wget -q -O - http://{to}/");
        let netns = format!("--net=/run/netns/{}", one.namespace);
        let (post, url) = (
            format!("--post-data={script}"),
            format!("http://{from}/cgi-bin/run"),
        );
        let words = [
            &netns, "--", "timeout", "10", "busybox", "wget", "-q", "-O", "-", &post, &url,
        ];
        Ok(match hear(&mut system("nsenter", &words)) {
            Ok(page) if page.starts_with(&format!("{to} ")) && page.contains("exit=0") => {
                Look::Is(Done::There)
            }
            Ok(page) => Look::Not(format!("{} said: {}", one.vm, page.trim())),
            Err(error) => Look::Not(chain(&error)),
        })
    })
}
