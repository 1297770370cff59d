//! Every scenario runs, and says what it promises to say.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by failing")]

use std::process::Command;

fn figures(arguments: &[&str], keys: &[&str]) {
    let run = Command::new(env!("CARGO_BIN_EXE_cairn-bench"))
        .args(arguments)
        .output()
        .unwrap();
    let out = String::from_utf8(run.stdout).unwrap();
    assert!(
        run.status.success(),
        "{out}{}",
        String::from_utf8_lossy(&run.stderr)
    );
    let last: serde_json::Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    for key in keys {
        assert!(!last[key].is_null(), "{key} is not in {last}");
    }
}

#[test]
fn startup() {
    figures(&["startup"], &["serving_ms", "rss_mib"]);
}

#[test]
fn vm_create() {
    let keys = [
        "vms_per_s",
        "p50_ms",
        "p99_ms",
        "cpu_ms_per_vm",
        "simulator_cpu_ms_per_vm",
        "client_cpu_ms_per_vm",
        "node_mib",
        "hosts",
        "synchronous",
        "committed",
        "steps",
        "commits",
        "log_records",
        "agent_commands",
    ];
    figures(
        &["vm-create", "--vms", "20", "--hosts", "2", "--json"],
        &keys,
    );
}

#[test]
fn flow() {
    figures(
        &["flow", "--flows", "20", "--open", "4"],
        &["cpu_us_per_flow", "cpu_us_per_flow_without_log", "ratio"],
    );
}

#[test]
fn cascade() {
    figures(
        &["cascade", "--vms", "20", "--hosts", "2"],
        &["plan_ms", "delete_s", "delete_cpu_ms_per_vm", "resources"],
    );
}

#[test]
fn local_call() {
    figures(
        &["local-call", "--calls", "1000"],
        &["cpu_us_per_call", "plain_fn_cpu_us"],
    );
}

#[test]
fn queue() {
    let keys = [
        "ns_per_task_hot",
        "ns_per_task_10k",
        "ns_per_task_1m",
        "mutex_ns",
        "ratio",
        "bytes_per_task_hot",
        "bytes_per_task_10k",
        "bytes_per_task_1m",
        "idle_bytes_per_key",
    ];
    figures(&["queue", "--tasks", "2000"], &keys);
}
