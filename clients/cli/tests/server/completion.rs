//! Completion, by the program itself and bash, which runs the script as it does for a person.

use std::process::Output;

use serde_json::json;
use tokio::process::Command;

use crate::{
    cairn,
    fake::{Fake, Step},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_cairn");

/// What bash offers for the last word of a line.
async fn offered(credential: &str, line: &str) -> Vec<String> {
    // As bash splits the line: at blanks and before and after `=`; the last word is empty after
    // a blank, and what is completed is empty after a `=`.
    let script = r#"
        source <(cairn completion bash)
        IFS=' ' read -ra COMP_WORDS <<< "${1//=/ = }"
        if [[ "$1" == *' ' ]]; then COMP_WORDS+=(''); fi
        COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
        COMP_TYPE=9
        current="${COMP_WORDS[COMP_CWORD]}"
        if [[ "$current" == '=' ]]; then current=''; fi
        _clap_complete_cairn cairn "$current" ''
        for word in "${COMPREPLY[@]}"; do printf '%s\n' "$word"; done
    "#;
    let folder = std::path::Path::new(PROGRAM).parent().unwrap().display();
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", script, "bash", line])
        .env(
            "PATH",
            format!("{folder}:{}", std::env::var("PATH").unwrap()),
        )
        .env("CAIRN_CREDENTIAL", credential);
    let Output { stdout, stderr, .. } = bash.output().await.unwrap();
    assert_eq!(String::from_utf8_lossy(&stderr), "", "{line}");
    let text = String::from_utf8(stdout).unwrap();
    // The flags that every command has are offered wherever a word may be one.
    let words = text.lines().filter(|word| !word.starts_with("--"));
    words.map(str::to_owned).collect()
}

#[tokio::test]
async fn bash_completes_what_the_server_has() {
    let fake = Fake::start().await;
    let credential = fake.credential.display().to_string();
    for (line, expected) in [
        ("cairn gadg", &["gadget"][..]),
        (
            "cairn gadget ",
            &["attach-to-widget", "create", "get", "log", "query"],
        ),
        ("cairn create gad", &["gadget"]),
        ("cairn create gadget --colour ", &["Red", "LightGreen"]),
        ("cairn create gadget --colour l", &["LightGreen"]),
        ("cairn resources wid", &["widget"]),
        ("cairn completion ", &["bash", "fish", "zsh"]),
        ("cairn query gadget --fields leg", &["legs"]),
        ("cairn query gadget --sort memory", &["memoryBytes"]),
        ("cairn query gadget le", &["legs="]),
        ("cairn query gadget colour=", &["Red", "LightGreen"]),
        ("cairn query gadget name=x colour=l", &["LightGreen"]),
        ("cairn create gadget --colour=l", &["LightGreen"]),
    ] {
        assert_eq!(offered(&credential, line).await, expected, "{line}");
    }
    assert_eq!(fake.calls().len(), 0, "nothing of that needs a call");
}

#[tokio::test]
async fn bash_completes_names() {
    let fake = Fake::start().await;
    let credential = fake.credential.display().to_string();
    let rows = json!({"gadgets": [
        {"uuid": "0189-1", "name": "drill"},
        {"uuid": "0189-2", "name": "drum"},
        {"uuid": "0189-3", "name": "saw"},
        // Two of one name, and names that would mean something to a shell.
        {"uuid": "0189-4", "name": "twin"},
        {"uuid": "0189-5", "name": "twin"},
        {"uuid": "0189-6", "name": "dr $(reboot)"},
    ]});
    for (line, expected) in [
        (
            "cairn get gadget ",
            &["drill", "drum", "saw", "0189-4", "0189-5", "0189-6"][..],
        ),
        ("cairn get gadget dr", &["drill", "drum"]),
        ("cairn gadget get 0189-1", &["0189-1"]),
        ("cairn create gadget --friend s", &["saw"]),
        ("cairn create gadget --friend-uuids s", &["saw"]),
        ("cairn create gadget --friend=s", &["saw"]),
    ] {
        fake.script("QueryGadget", [Step::Send(rows.clone())]);
        let mut words = offered(&credential, line).await;
        words.sort();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(words, expected, "{line}");
    }
    let operations = json!({"operations": [{"uuid": "o1", "name": "CreateGadget"}]});
    fake.script("QueryOperation", [Step::Send(operations)]);
    assert_eq!(offered(&credential, "cairn show operation ").await, ["o1"]);
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_not_waited_for() {
    let fake = Fake::start().await;
    let credential = fake.credential.display().to_string();
    fake.script("QueryGadget", [Step::Hang]);
    assert_eq!(offered(&credential, "cairn get gadget ").await, [""; 0]);
    // Without a credential there is what is built in.
    let none = offered("/nowhere/at/all", "cairn create zo").await;
    assert_eq!(none, ["zone"]);
    drop(fake);
    assert_eq!(offered(&credential, "cairn create zo").await, ["zone"]);
}

#[tokio::test]
async fn each_shell_has_a_script() {
    let fake = Fake::start().await;
    for (shell, part) in [
        ("bash", "complete -o nospace"),
        ("zsh", "#compdef cairn"),
        ("fish", "complete --keep-order --exclusive --command cairn"),
    ] {
        let ran = cairn(&fake, &format!("completion {shell}")).await;
        assert_eq!(ran.code, 0);
        assert!(
            ran.out.contains(part) && ran.out.contains("CAIRN_COMPLETE"),
            "{ran:?}"
        );
    }
    let ran = cairn(&fake, "completion tcsh").await;
    assert_eq!(ran.code, 2);
    assert!(
        ran.err.contains("[possible values: bash, fish, zsh]"),
        "{ran:?}"
    );
}
