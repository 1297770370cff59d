//! The contract's checks: lint, format, and nothing broken since the change before.

use std::{fs, path::Path};

use crate::{
    command::{command, root, run, try_ask},
    error::XtaskError,
    tools,
};

/// Fails when the contract is not as buf wants it, or breaks those who use it.
pub(crate) fn check() -> Result<(), XtaskError> {
    let buf = tools::buf()?;
    run(&mut command(&buf, &["lint"]))?;
    run(&mut command(&buf, &["format", "--diff", "--exit-code"]))?;
    match earlier() {
        Ok(commit) => breaking(&buf, &commit),
        Err(why) => {
            println!("buf breaking has nothing to compare with: {why}");
            Ok(())
        }
    }
}

fn breaking(buf: &Path, commit: &str) -> Result<(), XtaskError> {
    // An archive and not a clone by buf: a clone of a shallow clone fails.
    let archive = root().join("target/xtask/contract-before.tar");
    let folder = archive.parent().unwrap_or(root());
    fs::create_dir_all(folder).map_err(|cause| XtaskError::File {
        path: folder.to_owned(),
        cause,
    })?;
    let archive = archive.display().to_string();
    let arguments = [
        "archive",
        "--format=tar",
        "--output",
        &archive,
        commit,
        "buf.yaml",
        "proto",
    ];
    run(&mut command("git", &arguments))?;
    run(&mut command(buf, &["breaking", "--against", &archive]))
}

/// The commit to compare with: where this branch left `main`, and on `main` the commit before;
/// otherwise why there is none.
fn earlier() -> Result<String, String> {
    let head = git(&["rev-parse", "--verify", "HEAD^{commit}"])
        .ok_or("there is no commit yet".to_owned())?;
    let commit = ["origin/main", "main"]
        .into_iter()
        .filter_map(|main| git(&["merge-base", &head, main]))
        .find(|base| *base != head)
        .or_else(|| git(&["rev-parse", "--verify", "HEAD^"]))
        .ok_or("there is no earlier commit here (the first one, or a shallow clone)".to_owned())?;
    match git(&["cat-file", "-t", &format!("{commit}:buf.yaml")]) {
        Some(_) => Ok(commit),
        None => Err(format!("commit {commit} has no buf.yaml")),
    }
}

fn git(arguments: &[&str]) -> Option<String> {
    try_ask(&mut command("git", arguments))
}
