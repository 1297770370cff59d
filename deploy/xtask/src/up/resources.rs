//! What the cloud has: each resource by its name, made where it is not there.

use std::time::Duration;

use serde_json::Value;

use crate::error::XtaskError;

use super::{
    api::{Api, text},
    cloud::{Cloud, HostPlace},
    guests, hosts, programs, sftp,
    steps::{Done, Look, Steps, wait_until},
};

const ZONE: &str = "zone-1";
const CLUSTER: &str = "cluster-1";
const STORAGE: &str = "local";
const BACKUP_STORAGE: &str = "sftp";
const IMAGE: &str = "guest";
const OFFERING: &str = "small";
/// Of the L2 network, the L3 network and the range of addresses.
const NETWORK: &str = "flat";

/// How long an operation that an earlier run began may take to end.
const SETTLE_LIMIT: Duration = Duration::from_secs(120);

/// What the cloud has so far.
pub(crate) struct Made<'a> {
    api: &'a Api,
    rows: Vec<(&'static str, Value)>,
}

impl<'a> Made<'a> {
    pub(crate) fn new(api: &'a Api) -> Self {
        let rows = Vec::new();
        Self { api, rows }
    }

    /// The zone and the cluster.
    pub(crate) fn racks(&mut self, steps: &mut Steps) -> Result<(), XtaskError> {
        let zone = self.create(steps, "zone", ZONE, &[])?;
        let more = ["--zone-uuid", &zone, "--hypervisor-type", "Kvm"];
        self.create(steps, "cluster", CLUSTER, &more).map(drop)
    }

    /// A host, which has no agent yet.
    pub(crate) fn host(&mut self, steps: &mut Steps, host: &HostPlace) -> Result<(), XtaskError> {
        let cluster = self.uuid("cluster")?;
        let address = format!("127.0.0.1:{}", host.port);
        let more = ["--cluster-uuid", &cluster, "--address", &address];
        self.create(steps, "host", &host.name, &more).map(drop)
    }

    /// The storages, the image and the offering.
    pub(crate) fn storage(&mut self, steps: &mut Steps, cloud: &Cloud) -> Result<(), XtaskError> {
        let zone = self.uuid("zone")?;
        let pool = cloud.pool().display().to_string();
        let more = ["--zone-uuid", &zone, "--type", "Local", "--path", &pool];
        let storage = self.create(steps, "primary-storage", STORAGE, &more)?;
        self.attach(steps, "primary-storage", "primaryStorageUuid", &storage)?;

        let (key, path) = sftp::seen(cloud);
        let (key, address) = (format!("@{}", key.display()), Self::sftp(cloud));
        let more = [
            "--type",
            "Sftp",
            "--address",
            &address,
            "--username",
            "root",
        ];
        let more = [&more[..], &["--path", &path, "--host-key", &key]].concat();
        let backup = self.create(steps, "backup-storage", BACKUP_STORAGE, &more)?;

        let file = cloud.image();
        let (sha256, url) = (
            programs::sha256(&file)?,
            format!("file://{}", file.display()),
        );
        let more = [
            "--url",
            &url,
            "--sha256",
            &sha256,
            "--backup-storage-uuid",
            &backup,
        ];
        self.create(steps, "image", IMAGE, &more)?;
        let more = ["--cpu-count", "1", "--memory-bytes", "128MiB"];
        self.create(steps, "instance-offering", OFFERING, &more)
            .map(drop)
    }

    /// Where the SFTP server is.
    fn sftp(cloud: &Cloud) -> String {
        format!("127.0.0.1:{}", cloud.sftp_port())
    }

    /// The networks and their addresses.
    pub(crate) fn network(&mut self, steps: &mut Steps) -> Result<(), XtaskError> {
        let zone = self.uuid("zone")?;
        let more = [
            "--zone-uuid",
            &zone,
            "--type",
            "NoVlan",
            "--physical-interface",
            "eth0",
        ];
        let l2 = self.create(steps, "l2-network", NETWORK, &more)?;
        self.attach(steps, "l2-network", "l2NetworkUuid", &l2)?;
        let l3 = self.create(steps, "l3-network", NETWORK, &["--l2-network-uuid", &l2])?;
        let more = [
            "--l3-network-uuid",
            &l3,
            "--start-ip",
            "192.168.100.10",
            "--end-ip",
            "192.168.100.99",
            "--prefix-length",
            "24",
            "--gateway",
            "192.168.100.1",
        ];
        self.create(steps, "ip-range", NETWORK, &more).map(drop)
    }

    /// A virtual machine that runs on the host.
    pub(crate) fn vm(&mut self, steps: &mut Steps, host: &HostPlace) -> Result<(), XtaskError> {
        let api = self.api;
        let on = api.expect("host", &host.name)?;
        let (image, offering) = (self.uuid("image")?, self.uuid("instance-offering")?);
        let l3 = self.uuid("l3-network")?;
        let more = [
            "--image-uuid",
            &image,
            "--instance-offering-uuid",
            &offering,
            "--l3-network-uuids",
            &l3,
            "--host-uuid",
            text(&on, "uuid"),
        ];
        self.create(steps, "vm-instance", &host.vm, &more)?;
        let name = format!("{} runs", host.vm);
        steps.run(&name, || has_run(host, api))?;
        // As it is now.
        self.rows.pop();
        self.rows
            .push(("vm-instance", api.expect("vm-instance", &host.vm)?));
        Ok(())
    }

    /// Says what there is.
    pub(crate) fn print(&self, cloud: &Cloud) -> Result<(), XtaskError> {
        println!();
        for (noun, row) in &self.rows {
            let more = match *noun {
                "host" | "backup-storage" => text(row, "address").to_owned(),
                "vm-instance" => guests::address(self.api, text(row, "uuid"))?,
                "image" => cloud.image().display().to_string(),
                "primary-storage" => cloud.pool().display().to_string(),
                _ => String::new(),
            };
            let (name, uuid) = (text(row, "name"), text(row, "uuid"));
            println!(
                "{}",
                format!("{noun:<18} {name:<10} {uuid} {more}").trim_end()
            );
        }
        Ok(())
    }

    /// The resource of that name; gives its uuid.
    fn create(
        &mut self,
        steps: &mut Steps,
        noun: &'static str,
        name: &str,
        more: &[&str],
    ) -> Result<String, XtaskError> {
        let (api, mut row) = (self.api, Value::Null);
        steps.run(&format!("{noun} {name}"), || {
            if let Some(found) = api.named(noun, name)? {
                row = found;
                return Ok(Done::There);
            }
            row = api.call(&[&["create", noun, "--name", name], more].concat())?;
            Ok(Done::Made)
        })?;
        let uuid = text(&row, "uuid").to_owned();
        self.rows.push((noun, row));
        Ok(uuid)
    }

    fn attach(
        &self,
        steps: &mut Steps,
        noun: &str,
        field: &str,
        uuid: &str,
    ) -> Result<(), XtaskError> {
        let (api, cluster) = (self.api, self.uuid("cluster")?);
        let attached = || {
            let attachment = format!("{noun}-attachment");
            let conditions = [format!("{field}={uuid}"), format!("clusterUuid={cluster}")];
            let conditions = conditions.each_ref().map(String::as_str);
            if !api.query(&attachment, &conditions)?.is_empty() {
                return Ok(Done::There);
            }
            let more = ["--cluster-uuid", &cluster];
            api.call(&[&[noun, "attach-to-cluster", uuid], &more[..]].concat())?;
            Ok(Done::Made)
        };
        let name = format!("{noun} in {CLUSTER}");
        steps.run(&name, attached).map(drop)
    }

    /// Of the only one that there is of its kind.
    fn uuid(&self, noun: &str) -> Result<String, XtaskError> {
        let row = self.rows.iter().find(|(kind, _)| *kind == noun);
        row.map(|(_, row)| text(row, "uuid").to_owned())
            .ok_or_else(|| XtaskError::Refused(format!("there is no {noun} yet")))
    }
}

/// Has a virtual machine run that may have stopped, or ended with nobody noticing.
fn has_run(host: &HostPlace, api: &Api) -> Result<Done, XtaskError> {
    let what = format!("{} runs", host.vm);
    let mut done = Done::There;
    wait_until(&what, SETTLE_LIMIT, || {
        let vm = api.expect("vm-instance", &host.vm)?;
        let (uuid, state) = (text(&vm, "uuid"), text(&vm, "state"));
        match state {
            "VM_INSTANCE_STATE_RUNNING" if guests::is_there(host, uuid) => {
                return Ok(Look::Is(done));
            }
            // Nobody has told the node what became of it.
            "VM_INSTANCE_STATE_RUNNING" | "VM_INSTANCE_STATE_UNKNOWN" => {
                hosts::connect(host, api, true)?;
                let place = &host.namespace;
                return Ok(Look::Not(format!(
                    "{state}, and no such process in {place}"
                )));
            }
            "VM_INSTANCE_STATE_STOPPED" => {
                api.call(&["start", "vm-instance", uuid])?;
                done = Done::Made;
            }
            // An operation is under way.
            _ => {}
        }
        Ok(Look::Not(state.to_owned()))
    })
}
