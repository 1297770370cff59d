//! Reading a log: the flags that such a call has besides the fields of its request.

use clap::{Arg, ArgAction, ArgMatches, value_parser};

/// What of a log is shown.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogArgs {
    /// Only so many lines, from the end.
    pub(crate) lines: Option<usize>,
    /// And then what is written to it.
    pub(crate) follow: bool,
}

/// The arguments that every log has.
pub(crate) fn args() -> [Arg; 2] {
    [
        Arg::new("lines")
            .long("lines")
            .value_name("NUMBER")
            .value_parser(value_parser!(u32).range(1..))
            .help("Only the last lines, as far as --limit-bytes goes: 1MiB with this flag."),
        Arg::new("follow")
            .long("follow")
            .action(ArgAction::SetTrue)
            .help("Go on with what is written, until Ctrl-C."),
    ]
}

impl LogArgs {
    pub(crate) fn read(matches: &ArgMatches) -> Self {
        let lines = matches.get_one::<u32>("lines");
        Self {
            lines: lines.and_then(|lines| usize::try_from(*lines).ok()),
            follow: matches.get_flag("follow"),
        }
    }
}

/// The last lines of a text; all of it if it has no more.
pub(crate) fn last_lines(text: &[u8], lines: usize) -> &[u8] {
    // What is behind the last line break is a line that is being written.
    let whole = text.strip_suffix(b"\n").unwrap_or(text);
    let breaks = whole.iter().enumerate().rev().filter(|(_, b)| **b == b'\n');
    let begin = breaks
        .map(|(place, _)| place + 1)
        .nth(lines.saturating_sub(1));
    &text[begin.unwrap_or(0)..]
}

/// The text from its first whole line on; all of it if it has no line break.
pub(crate) fn whole_lines(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|byte| *byte == b'\n');
    end.map_or(text, |end| &text[end + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_from_the_end() {
        for (text, lines, expected) in [
            ("", 3, ""),
            ("a", 1, "a"),
            ("a\nb\nc\n", 1, "c\n"),
            ("a\nb\nc\n", 2, "b\nc\n"),
            ("a\nb\nc", 2, "b\nc"),
            ("a\nb\nc\n", 3, "a\nb\nc\n"),
            ("a\nb\nc\n", 9, "a\nb\nc\n"),
            ("a\n\n\n", 2, "\n\n"),
        ] {
            let last = last_lines(text.as_bytes(), lines);
            assert_eq!(last, expected.as_bytes(), "{text:?} {lines}");
        }
        assert_eq!(whole_lines(b"lf\nwhole\n"), b"whole\n");
        assert_eq!(whole_lines(b"no break"), b"no break");
    }
}
