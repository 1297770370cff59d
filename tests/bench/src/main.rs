//! `cairn-bench SCENARIO`: what Cairn costs. The last line of output is one JSON object.
//!
//! A node and the simulated hosts run in processes of their own, started from this binary, so
//! that the CPU time of each is its own. Times are of this machine at this moment; CPU time per
//! operation is the steadier figure.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark that fails says where"
)]

mod cascade;
mod flow;
mod local_call;
mod process;
mod queue;
mod roles;
mod running;
mod startup;
mod vm_create;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// As the node has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(about = "What Cairn costs, measured on this machine.")]
struct Arguments {
    #[command(subcommand)]
    scenario: Scenario,
    /// Only the JSON line.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Scenario {
    /// The second start on an existing data directory: time until it serves, memory then.
    Startup,
    /// Creations of virtual machines on simulated hosts, everything durable.
    VmCreate {
        /// How many.
        #[arg(long, default_value_t = 1_000)]
        vms: usize,
        /// How many calls the client holds open.
        #[arg(long, default_value_t = 256)]
        open: usize,
        /// How many hosts; without it 50, or as many as that many machines need.
        #[arg(long)]
        hosts: Option<usize>,
        /// Where: `sqlite`, `postgres` for a server that is started for this, or its URL.
        #[arg(long, default_value = "sqlite")]
        database: String,
    },
    /// The deletion of a zone with virtual machines on simulated hosts: planned, and carried out.
    Cascade {
        /// How many virtual machines.
        #[arg(long, default_value_t = 10_000)]
        vms: usize,
        /// How many hosts.
        #[arg(long, default_value_t = 100)]
        hosts: usize,
    },
    /// A unary call of 200 bytes through the whole stack in one process.
    LocalCall {
        /// How many calls a round makes.
        #[arg(long, default_value_t = 200_000)]
        calls: usize,
    },
    /// Tasks in work queues: on one key, on 10,000, on as many as there are tasks.
    Queue {
        /// How many tasks a round has.
        #[arg(long, default_value_t = 1_000_000)]
        tasks: usize,
    },
    /// Flows with their log, beside the same transactions without one.
    Flow {
        /// How many in a round.
        #[arg(long, default_value_t = 8_000)]
        flows: usize,
        /// How many are under way at once.
        #[arg(long, default_value_t = 256)]
        open: usize,
    },
    /// Runs a node. For this program itself.
    #[command(hide = true)]
    Node { config: PathBuf },
    /// Runs simulated hosts. For this program itself.
    #[command(hide = true)]
    Simulator { folder: PathBuf },
}

fn main() {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let figures = match arguments.scenario {
        Scenario::Startup => runtime.block_on(startup::run()),
        Scenario::VmCreate {
            vms,
            open,
            hosts,
            database,
        } => runtime.block_on(vm_create::run(vms, open, hosts, &database)),
        Scenario::Flow { flows, open } => runtime.block_on(flow::run(flows, open)),
        Scenario::Cascade { vms, hosts } => runtime.block_on(cascade::run(vms, hosts)),
        Scenario::LocalCall { calls } => runtime.block_on(local_call::run(calls)),
        Scenario::Queue { tasks } => runtime.block_on(queue::run(tasks)),
        Scenario::Node { config } => return runtime.block_on(roles::node(config)),
        Scenario::Simulator { folder } => return runtime.block_on(roles::simulator(folder)),
    };
    if !arguments.json {
        for (name, value) in figures.as_object().unwrap() {
            println!("{name:<22} {value}");
        }
    }
    println!("{figures}");
}
