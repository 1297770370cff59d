//! What bash needs besides: it takes a word apart at `=` and `:`, so that `state=En` and
//! `--zone=ea` come as three words, and wants only what follows the last of these signs.

use std::{ffi::OsString, io};

use clap::Command;
use clap_complete::engine;

/// As the script is generated, and as it must be for `state=` to come whole.
const CURRENT: (&str, &str) = (
    r#"words[COMP_CWORD]="$2""#,
    r#"if [[ -n "$2" ]]; then words[COMP_CWORD]="$2"; fi"#,
);

/// The script, changed so that a sign at the end of the line is not lost.
pub(super) fn script(generated: &str) -> String {
    generated.replace(CURRENT.0, CURRENT.1)
}

/// Writes the candidates.
pub(super) fn write(
    command: &mut Command,
    words: &[String],
    out: &mut dyn io::Write,
) -> io::Result<()> {
    let variable = |name| std::env::var(name).ok();
    let index = variable("_CLAP_COMPLETE_INDEX").and_then(|index| index.parse().ok());
    let joined = Joined::of(words, index.unwrap_or(words.len().saturating_sub(1)));
    let separator = variable("_CLAP_IFS").unwrap_or_else(|| "\n".to_owned());
    let words = joined.words.iter().map(OsString::from).collect();
    let candidates = engine::complete(command, words, joined.index, None)?;
    let values = candidates.iter().filter_map(|candidate| {
        let value = candidate.get_value().to_string_lossy();
        Some(value.strip_prefix(&joined.before)?.to_owned())
    });
    write!(out, "{}", values.collect::<Vec<_>>().join(&separator))
}

/// The words as the person typed them.
#[derive(Debug, PartialEq, Eq)]
struct Joined {
    words: Vec<String>,
    /// Which of them is completed.
    index: usize,
    /// What bash has of that word already.
    before: String,
}

impl Joined {
    fn of(split: &[String], index: usize) -> Self {
        let is_sign = |word: &str| !word.is_empty() && word.chars().all(|c| matches!(c, '=' | ':'));
        let mut joined = Self {
            words: Vec::new(),
            index: 0,
            before: String::new(),
        };
        let mut goes_on = false;
        for (place, word) in split.iter().enumerate() {
            // Neither the program nor what follows it is a part of what came before.
            let sign = place > 1 && is_sign(word);
            let last = joined.words.last_mut();
            match last.filter(|_| sign || goes_on) {
                // The value of a flag may be a word of its own.
                Some(flag) if sign && flag.starts_with("--") => {
                    joined.words.push(String::new());
                }
                Some(last) => last.push_str(word),
                None => joined.words.push(word.clone()),
            }
            goes_on = sign;
            if place == index {
                joined.index = joined.words.len() - 1;
                let whole = joined.words.last().map_or("", String::as_str);
                let before = if sign {
                    whole
                } else {
                    whole.strip_suffix(word.as_str()).unwrap_or("")
                };
                before.clone_into(&mut joined.before);
                // What is behind the cursor has no part in it.
                break;
            }
        }
        joined
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::words;

    #[test]
    fn what_bash_took_apart_is_joined() {
        for (split, index, expected, current, before) in [
            ("cairn get", 1, "cairn get", 1, ""),
            (
                "cairn query zone state =",
                4,
                "cairn query zone state=",
                3,
                "state=",
            ),
            (
                "cairn query zone state = En",
                5,
                "cairn query zone state=En",
                3,
                "state=",
            ),
            (
                "cairn query zone state = En name",
                6,
                "cairn query zone state=En name",
                4,
                "",
            ),
            (
                "cairn query zone state = En ",
                6,
                "cairn query zone state=En ",
                4,
                "",
            ),
            (
                "cairn create host --cluster = r",
                5,
                "cairn create host --cluster r",
                4,
                "",
            ),
            (
                "cairn create host --cluster =",
                4,
                "cairn create host --cluster ",
                4,
                "",
            ),
            (
                "cairn get zone name : ea",
                5,
                "cairn get zone name:ea",
                3,
                "name:",
            ),
            ("cairn get zo behind", 2, "cairn get zo", 2, ""),
            ("cairn =", 1, "cairn =", 1, ""),
        ] {
            let joined = Joined::of(&words(split), index);
            let expected = Joined {
                words: words(expected),
                index: current,
                before: before.to_owned(),
            };
            assert_eq!(joined, expected, "{split}");
        }
    }
}
