//! The program: a host's identity, its enrolment, and a process that starts and stops.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Output, Stdio},
};

use cairn_agent_protocol::Enrollment;
use cairn_tls::Ca;
use cairn_types::HostUuid;

use crate::bed::run;

fn cairn_kvm(words: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_cairn-kvm"))
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    child.wait_with_output().unwrap()
}

fn success(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Makes the host's identity and installs what the CA gives for it.
fn enroll(directory: &str, host: HostUuid, ca: &Ca) {
    let identity = ["identity", "--directory", directory, "--host"];
    let name = host.to_string();
    let request = success(cairn_kvm(&[&identity[..], &[&name]].concat(), ""));
    let enrollment = Enrollment {
        certificate: ca.sign_host(&request, host).unwrap().certificate_pem,
        ca_certificate: ca.pem().to_owned(),
        // Nobody: its hello waits for as long as it runs.
        callback_addresses: vec!["https://127.0.0.1:1".to_owned()],
    };
    let text = serde_json::to_string(&enrollment).unwrap();
    let said = success(cairn_kvm(&["install", "--directory", directory], &text));
    assert_eq!(said, format!("host {host} is enrolled\n"));
}

#[test]
fn a_host_is_enrolled_and_served() {
    let dir = tempfile::tempdir().unwrap();
    let directory = dir.path().to_str().unwrap();
    let ca_folder = tempfile::tempdir().unwrap();
    let ca = Ca::load_or_create(ca_folder.path()).unwrap();
    let host = HostUuid::generate();
    let config = dir.path().join("kvm.toml");
    let text = format!("directory = '{directory}'\nlisten = '127.0.0.1:0'\nhost = '{host}'\n");
    std::fs::write(&config, text).unwrap();
    let run_it = ["run", "--config", config.to_str().unwrap()];
    let early = cairn_kvm(&run_it, "");
    let words = String::from_utf8(early.stderr).unwrap();
    assert!(
        !early.status.success() && words.contains("does not have the enrolment"),
        "{words}"
    );

    let refused = cairn_kvm(&["install", "--directory", directory], "{}");
    assert!(!refused.status.success());
    enroll(directory, host, &ca);
    serve_until_asked_to_stop(&config);
    enroll(directory, host, &ca);
}

fn serve_until_asked_to_stop(config: &Path) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_cairn-kvm"))
        .args(["run", "--config", config.to_str().unwrap()])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    let listens = log.find(|line| line.as_ref().unwrap().contains("listening"));
    assert!(listens.is_some(), "it ended: {:?}", child.wait());
    run("kill", &[&child.id().to_string()]);
    // Read to the end, so that it can write until then.
    log.for_each(drop);
    assert!(child.wait().unwrap().success());
}
