//! `cairn-node --check`: what is wrong is told with its place, and nothing is touched.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by failing")]

use std::{fs, path::Path, process::Command};

/// What a check of a configuration with these flows says, and whether it is content.
fn check(directory: &Path, flow: &str) -> (bool, String) {
    let flows = directory.join("flows");
    fs::create_dir_all(&flows).unwrap();
    fs::write(flows.join("stop-vm-instance.toml"), flow).unwrap();
    let config = directory.join("node.toml");
    let data = directory.join("data");
    let text = format!(
        "data_directory = '{}'\n[flows]\ndirectory = '{}'\n",
        data.display(),
        flows.display()
    );
    fs::write(&config, text).unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_cairn-node"));
    let checked = program.arg("--check").arg("--config").arg(&config);
    let checked = checked.env("TMPDIR", directory).output().unwrap();
    assert!(!data.exists(), "a check makes no data directory");
    let mut left = fs::read_dir(directory).unwrap().flatten();
    let left = left.find(|entry| {
        entry
            .file_name()
            .to_string_lossy()
            .starts_with("cairn-check")
    });
    assert!(left.is_none(), "a check leaves nothing: {left:?}");
    let told = String::from_utf8_lossy(&checked.stderr);
    let told = told.replace(&format!("{}/", flows.display()), "");
    assert!(checked.stdout.is_empty());
    let code = checked.status.code();
    assert!(code == Some(0) || code == Some(1), "{code:?}: {told}");
    (code == Some(0), told)
}

#[test]
fn flows_are_checked_with_the_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let extends = "flow = 'stop-vm-instance'\nextends = 'stop-vm-instance'\n";
    let (content, told) = check(directory.path(), extends);
    assert!(content && told.is_empty(), "{told}");
    for (change, expected) in [
        (
            "[[change]]\nreplace = 'stop-on-hypervisor'\nwith = ['pull-the-plug']\n",
            "stop-vm-instance.toml:5:9: flow stop-vm-instance, step pull-the-plug: no service has \
             registered a step of that name",
        ),
        (
            "[[change]]\nremove = 'enter-stopping'\n",
            "step stop-on-hypervisor: needs cairn.compute.v1alpha1.VmInstance",
        ),
        (
            "[[change]]\nreplace = 'stop-on-hypervisor'\nwith = [{ step = 'stop-on-hypervisor', \
             skip_if = { message = 'cairn.compute.v1alpha1.VmInstance', field = 'hots', set = true \
             } }]\n",
            "stop-vm-instance.toml:5:",
        ),
        (
            "forward_aftr = 'x'\n",
            "stop-vm-instance.toml:3:1: flow stop-vm-instance",
        ),
    ] {
        let (content, told) = check(directory.path(), &format!("{extends}{change}"));
        assert!(!content, "{change}");
        assert!(told.contains(expected), "{expected} is not in {told}");
    }
    let whole = "flow = 'stop-vm-instance'\ninputs = ['cairn.compute.v1alpha1.Zone']\nsteps = []\n";
    let (content, told) = check(directory.path(), whole);
    let expected = "takes cairn.compute.v1alpha1.Zone; /cairn.compute.v1alpha1.VmInstanceService/";
    assert!(!content && told.contains(expected), "{told}");
}
