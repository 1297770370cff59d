//! Rules that a file's text alone can break.

/// The longest a source file may be, in lines.
const LONGEST: usize = 500;

/// Files with lines of text, by how their names end.
const TEXTS: &[&str] = &[
    ".rs", ".proto", ".toml", ".md", ".yaml", ".yml", ".sh", "/run",
];

/// Every rule that the file breaks, as `file:line: what is wrong`.
pub(super) fn check(path: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    if !TEXTS.iter().any(|end| path.ends_with(end)) {
        return findings;
    }
    let mut find = |line: usize, what: &str| findings.push(format!("{path}:{line}: {what}"));
    let rust = path.ends_with(".rs");
    let lines = text.lines().count();
    if (rust || path.ends_with(".proto")) && lines > LONGEST {
        find(
            lines,
            "the file is longer than 500 lines; split it by responsibility",
        );
    }
    if rust && path.ends_with("/mod.rs") {
        find(1, "a module `foo` is `foo.rs`, with its parts in `foo/`");
    }
    if rust && !text.starts_with("//!") {
        find(1, "the first line says, after `//!`, what the file is for");
    }
    let mut in_tests = is_test(path);
    let mut after_cfg_test = false;
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        if line.ends_with([' ', '\t', '\r']) {
            find(number, "white space at the end of the line");
        }
        if !rust {
            continue;
        }
        let code = line.split("//").next().unwrap_or_default();
        in_tests |= after_cfg_test && code.trim_start().starts_with("mod ");
        after_cfg_test = code.trim() == "#[cfg(test)]";
        // In two parts, so that this file does not break its own rules.
        if code.contains(concat!("#[", "allow(")) || code.contains(concat!("#![", "allow(")) {
            find(
                number,
                "use `#[expect(lint, reason = \"…\")]`, which goes when its cause does",
            );
        }
        if calls(code, concat!("todo", "!")) || calls(code, concat!("unimplemented", "!")) {
            find(
                number,
                "what is not built is not there, or is an error that says so",
            );
        }
        if in_tests && calls(code, concat!("sleep", "(")) {
            find(number, "a test waits for a state, never for time");
        }
    }
    findings
}

/// Whether the whole file is there for tests.
fn is_test(path: &str) -> bool {
    path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("/tests.rs")
}

/// Whether the code has the call under exactly that name.
fn calls(code: &str, call: &str) -> bool {
    code.match_indices(call).any(|(at, _)| {
        !code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of the lines that break a rule.
    fn lines(path: &str, text: &str) -> Vec<usize> {
        let found = check(path, text);
        found
            .iter()
            .map(|f| f.split(':').nth(1).unwrap().parse().unwrap())
            .collect()
    }

    #[test]
    fn each_rule_finds_its_lines_and_no_others() {
        let header = "//! What it is.\n";
        let long = format!("{header}{}", "fn f() {}\n".repeat(LONGEST));
        for (path, text, expected) in [
            ("core/a/src/lib.rs", header, &[][..]),
            ("core/a/src/lib.rs", "", &[1]),
            ("core/a/build.rs", "use std::fs;\n", &[1]),
            ("core/a/src/b/mod.rs", header, &[1]),
            ("core/a/src/remod.rs", header, &[]),
            ("core/a/src/lib.rs", &long, &[501]),
            ("proto/a.proto", &long, &[501]),
            ("README.md", &long, &[]),
            ("core/a/src/lib.rs", "//! A. \n\tx\t\n", &[1, 2]),
            ("deny.toml", "a = 1 \n", &[1]),
            (".ci/run", "set -e\t\n", &[1]),
            ("logo.svg", "x \n", &[]),
            ("a/src/lib.rs", concat!("//! A.\n#![", "allow(x)]\n"), &[2]),
            (
                "a/src/lib.rs",
                concat!("//! A.\n// never #[", "allow(x)]\n"),
                &[],
            ),
            (
                "a/src/lib.rs",
                concat!("//! A.\nfn f() { todo", "!() }\n"),
                &[2],
            ),
            (
                "a/src/lib.rs",
                concat!("//! A.\nfn f() { mytodo", "!() }\n"),
                &[],
            ),
            (
                "a/src/lib.rs",
                concat!("//! A.\nfn f() { unimplemented", "!() }\n"),
                &[2],
            ),
        ] {
            assert_eq!(lines(path, text), expected, "{path}:\n{text}");
        }
    }

    #[test]
    fn only_tests_must_not_wait_for_time() {
        let wait = concat!("//! A.\ntokio::time::sleep", "(x).await;\nusleep(1);\n");
        assert!(lines("core/a/src/lib.rs", wait).is_empty());
        for path in [
            "tests/e2e/src/lib.rs",
            "core/a/tests/b.rs",
            "core/a/src/b/tests.rs",
        ] {
            assert_eq!(lines(path, wait), [2]);
        }
        let within = concat!(
            "//! A.\n#[cfg(test)]\nuse x;\nsleep",
            "(x);\n#[cfg(test)]\nmod tests {\n    sleep",
            "(x);\n"
        );
        assert_eq!(lines("core/a/src/lib.rs", within), [7]);
    }
}
