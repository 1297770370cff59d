//! A zone with everything in it: how long it takes to plan its deletion, and to carry that out.

use std::time::Instant;

use cairn_e2e::{execute_plan, plan};
use cairn_proto::{compute::v1alpha1::VmInstanceClient, event::result};
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};

use crate::{process::file_system, running::Running};

/// The memory of a virtual machine: many fit on a host.
const MEMORY: u64 = 64 << 20;
/// How many plans are made; the figure is the median.
const PLANS: usize = 5;
/// Creations under way at once, before it is measured.
const OPEN: usize = 128;

pub(crate) async fn run(vms: usize, hosts: usize) -> Value {
    let site = Running::start(hosts, vms, MEMORY, None).await;
    let (mesh, ready) = (site.mesh.clone(), &site.ready);
    let client = VmInstanceClient::new(mesh.clone());
    let made = Instant::now();
    let creations = stream::iter(0..vms).map(|number| {
        let request = ready.vm_request(&format!("vm-{number}"));
        let client = client.clone();
        async move {
            let events = client.create_vm_instance(request).await.unwrap();
            result(events).await.unwrap();
        }
    });
    creations.buffer_unordered(OPEN).collect::<Vec<_>>().await;
    let create_s = made.elapsed().as_secs_f64();

    let zone = &ready.site.zone;
    let mut times = Vec::with_capacity(PLANS);
    let mut last = None;
    for _ in 0..PLANS {
        let started = Instant::now();
        last = Some(plan(&mesh, "zone", zone).await.unwrap());
        times.push(started.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_unstable_by(f64::total_cmp);
    let last = last.unwrap();
    let cpu = site.node.cpu();
    let started = Instant::now();
    execute_plan(&mesh, &last).await.unwrap();
    let delete_s = started.elapsed().as_secs_f64();
    let cpu = site.node.cpu() - cpu;
    let figures = json!({
        "vms": vms,
        "hosts": hosts,
        "database": "sqlite",
        "synchronous": "FULL",
        "file_system": file_system(site.folder.path()).await,
        "resources": last.cascade_plan.unwrap_or_default().item_count,
        "create_s": create_s,
        "plan_ms": times[PLANS / 2],
        "delete_s": delete_s,
        "delete_cpu_ms_per_vm": cpu.as_secs_f64() * 1e3 / vms.max(1) as f64,
    });
    site.node.stop().await;
    figures
}
