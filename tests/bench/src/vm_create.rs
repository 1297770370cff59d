//! Creations of virtual machines on simulated hosts: rate, latency, and what each costs.

use std::time::{Duration, Instant};

use cairn_e2e::{Access, VM_MEMORY};
use cairn_proto::{
    call::Mesh,
    compute::v1alpha1::VmInstanceClient,
    event::result,
    operation::v1alpha1::{GetOperationRequest, OperationClient, QueryOperationRequest},
    query::v1alpha1::{Condition, Operator, Query},
};
use cairn_testkit::PostgresServer;
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};

use crate::{
    process::{cpu_of, file_system},
    running::Running,
};

/// How many virtual machines a simulated host has room for, with some to spare.
const VMS_OF_A_HOST: usize = 200;

pub(crate) async fn run(vms: usize, open: usize, hosts: Option<usize>, database: &str) -> Value {
    let hosts = hosts.unwrap_or(vms.div_ceil(VMS_OF_A_HOST).max(50));
    let database = Place::of(database).await;
    let site = Running::start(hosts, vms, VM_MEMORY, database.url.as_deref()).await;
    let (mesh, ready) = (site.mesh.clone(), &site.ready);
    let client = VmInstanceClient::new(mesh.clone());
    // The first one brings the image to a host and opens connections.
    let first = client
        .create_vm_instance(ready.vm_request("first"))
        .await
        .unwrap();
    let first = result(first).await.unwrap();

    let cpu = |site: &Running| [site.node.cpu(), site.simulator.cpu(), cpu_of("self")];
    let cpu_before = cpu(&site);
    let counted_before = counted(&site.access).await;
    let started = Instant::now();
    let creations = stream::iter(0..vms).map(|number| {
        let request = ready.vm_request(&format!("vm-{number}"));
        let client = client.clone();
        async move {
            let started = Instant::now();
            let events = client.create_vm_instance(request).await.unwrap();
            result(events).await.unwrap();
            started.elapsed()
        }
    });
    let mut latencies: Vec<Duration> = creations.buffer_unordered(open).collect().await;
    let elapsed = started.elapsed();
    let cpu_after = cpu(&site);
    let counted_after = counted(&site.access).await;
    let per_vm = |index: usize| (counted_after[index] - counted_before[index]) / vms as f64;
    let cpu_ms_per_vm = |index: usize| {
        let used: Duration = cpu_after[index] - cpu_before[index];
        used.as_secs_f64() * 1e3 / vms as f64
    };
    let steps = steps_of_creation(&mesh, &first.uuid).await;
    latencies.sort_unstable();
    let percentile = |share: f64| {
        let index = ((latencies.len() - 1) as f64 * share).round() as usize;
        latencies[index].as_secs_f64() * 1e3
    };
    let figures = json!({
        "vms": vms,
        "database": database.name,
        "hosts": hosts,
        "synchronous": database.synchronous,
        "committed": database.committed,
        "file_system": file_system(site.folder.path()).await,
        "vms_per_s": vms as f64 / elapsed.as_secs_f64(),
        "p50_ms": percentile(0.5),
        "p99_ms": percentile(0.99),
        "cpu_ms_per_vm": cpu_ms_per_vm(0),
        "simulator_cpu_ms_per_vm": cpu_ms_per_vm(1),
        "client_cpu_ms_per_vm": cpu_ms_per_vm(2),
        "node_mib": site.node.resident_mib(),
        "steps": steps,
        "commits": per_vm(0),
        "log_records": per_vm(1),
        "agent_commands": per_vm(2),
    });
    site.node.stop().await;
    figures
}

/// Where the node keeps the cloud.
struct Place {
    name: &'static str,
    synchronous: &'static str,
    /// What is true when a write is answered.
    committed: &'static str,
    /// None for SQLite.
    url: Option<String>,
    _server: Option<PostgresServer>,
}

impl Place {
    async fn of(database: &str) -> Self {
        let (name, synchronous) = ("postgres", "on");
        let committed = "answered when the server has synced it; a transaction for each write";
        match database {
            "sqlite" => Self {
                name: "sqlite",
                synchronous: "FULL",
                committed: "answered when the log is synced; writes that wait share a transaction",
                url: None,
                _server: None,
            },
            "postgres" => {
                let server = PostgresServer::start_durable().await;
                Self {
                    name,
                    synchronous,
                    committed,
                    url: Some(server.url()),
                    _server: Some(server),
                }
            }
            url => Self {
                name,
                // The node sets it for each of its connections.
                synchronous,
                committed,
                url: Some(url.to_owned()),
                _server: None,
            },
        }
    }
}

/// How many steps the creation of a virtual machine had.
async fn steps_of_creation(mesh: &Mesh, vm: &str) -> usize {
    let operations = OperationClient::new(mesh.clone());
    let about = Condition {
        field: "resourceUuid".to_owned(),
        operator: Operator::Eq.into(),
        values: vec![vm.to_owned()],
    };
    let query = Some(Query {
        conditions: vec![about],
        ..Default::default()
    });
    let found = operations
        .query_operation(QueryOperationRequest { query })
        .await
        .unwrap();
    let uuid = found.operations[0].uuid.clone();
    operations
        .get_operation(GetOperationRequest { uuid })
        .await
        .unwrap()
        .steps
        .len()
}

/// How many commits the node made so far, how many records of flows, and how many commands to hosts
/// have ended.
async fn counted(access: &Access) -> [f64; 3] {
    let (_, metrics) = access.metrics().await;
    [
        "cairn_store_commits_total",
        "cairn_flow_log_records_total",
        "cairn_agent_commands_total",
    ]
    .map(|name| {
        let of_name = |line: &&str| line.split(['{', ' ']).next() == Some(name);
        let values = metrics.lines().filter(of_name);
        let values = values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        values.sum()
    })
}
