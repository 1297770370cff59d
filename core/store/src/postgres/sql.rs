//! Statements as PostgreSQL wants them, from how they are written for both databases.

use std::fmt::Write as _;

/// `?` becomes `$1`, `$2` and so on, and LIKE becomes ILIKE, which does not tell `A` from `a`
/// either. What stands in quotes or in a comment is left as it is.
pub(super) fn translate(sql: &str) -> String {
    let mut out = String::with_capacity(sql.len() + 16);
    let (mut rest, mut places) = (sql, 0);
    while let Some(first) = rest.chars().next() {
        let length = match first {
            // A quote within is doubled: two parts that follow each other.
            '\'' | '"' => end_of(rest, 1, first),
            '-' if rest.starts_with("--") => end_of(rest, 2, '\n'),
            c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            c => c.len_utf8(),
        };
        let (part, after) = rest.split_at(length);
        match part {
            "?" => {
                places += 1;
                // Writing to a String does not fail.
                let _ = write!(out, "${places}");
            }
            word if word.eq_ignore_ascii_case("like") => out.push_str("ILIKE"),
            other => out.push_str(other),
        }
        rest = after;
    }
    out
}

/// Where the part ends that `last` closes, searched from `from` on.
fn end_of(text: &str, from: usize, last: char) -> usize {
    text[from..]
        .find(last)
        .map_or(text.len(), |at| from + at + last.len_utf8())
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::translate;

    #[test]
    fn places_are_numbered_and_quotes_are_left_alone() {
        for (sql, expected) in [
            ("", ""),
            ("SELECT 1", "SELECT 1"),
            ("a = ? AND b IN (?, ?)", "a = $1 AND b IN ($2, $3)"),
            ("a = '?' AND b = ?", "a = '?' AND b = $1"),
            ("a = 'it''s ?' OR \"?\" = ?", "a = 'it''s ?' OR \"?\" = $1"),
            ("\"a\"\"?\" = ?", "\"a\"\"?\" = $1"),
            ("a = ? -- why?\n AND b = ?", "a = $1 -- why?\n AND b = $2"),
            ("a = ? -- why?", "a = $1 -- why?"),
            ("a - ? > b -?", "a - $1 > b -$2"),
            ("a = 'open ?", "a = 'open ?"),
            ("ü = ? AND 'ü?' = ?", "ü = $1 AND 'ü?' = $2"),
            (
                r"a LIKE ? ESCAPE '\' AND b NOT like ?",
                r"a ILIKE $1 ESCAPE '\' AND b NOT ILIKE $2",
            ),
            (
                "likely = 'like' AND \"like\" = ?",
                "likely = 'like' AND \"like\" = $1",
            ),
        ] {
            assert_eq!(translate(sql), expected);
        }
    }
}
