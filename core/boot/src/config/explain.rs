//! serde's words about a misfit, in the words of the person who writes the file.
//!
//! serde's messages are text, so this reads text: a message that it does not know is passed on as
//! it is. Strings are not repeated, because one may be a secret; the exception is a word that was
//! to be one of a fixed list.

/// A misfit in a person's words.
pub(super) struct Explained {
    /// What is wrong.
    pub(super) wrong: String,
    /// What would be right; empty when not known.
    pub(super) right: String,
    /// The key that is not there, when that is the misfit.
    pub(super) missing: Option<String>,
}

pub(super) fn explain(message: &str) -> Explained {
    let (found, expected) = message.split_once(", expected ").unwrap_or((message, ""));
    let quoted = quoted_words(found).next();
    let mut missing = None;
    let (wrong, right) = if found.starts_with("missing field") {
        missing = quoted.map(str::to_owned);
        ("is missing".to_owned(), String::new())
    } else if found.starts_with("unknown field") {
        (
            "is not a key that exists".to_owned(),
            instead(quoted, expected, "keys"),
        )
    } else if found.starts_with("unknown variant") {
        let wrong = format!(
            "is `{}`, which is not a value that exists",
            quoted.unwrap_or_default()
        );
        (wrong, instead(quoted, expected, "values"))
    } else if let Some(kind) = found
        .strip_prefix("invalid type: ")
        .or_else(|| found.strip_prefix("invalid value: "))
    {
        (
            format!("is {}", what(kind)),
            format!("use {}", type_name(expected)),
        )
    } else {
        (message.to_owned(), String::new())
    };
    Explained {
        wrong,
        right,
        missing,
    }
}

/// ``integer `70000` `` → `70000`; `string "…"` → `a string`; `map` → `a table`.
fn what(kind: &str) -> String {
    match kind.split([' ', '`', '"']).next().unwrap_or_default() {
        "integer" | "boolean" | "floating" => quoted_words(kind).next().unwrap_or(kind).to_owned(),
        "string" => "a string".to_owned(),
        "sequence" => "an array".to_owned(),
        "map" => "a table".to_owned(),
        _ => kind.to_owned(),
    }
}

fn type_name(expected: &str) -> String {
    let range = match expected {
        "u8" => Some((0, u8::MAX.into())),
        "u16" => Some((0, u16::MAX.into())),
        "u32" => Some((0, u32::MAX.into())),
        "u64" | "usize" => Some((0, i64::MAX)),
        "i8" => Some((i8::MIN.into(), i8::MAX.into())),
        "i16" => Some((i16::MIN.into(), i16::MAX.into())),
        "i32" => Some((i32::MIN.into(), i32::MAX.into())),
        "i64" | "isize" => Some((i64::MIN, i64::MAX)),
        _ => None,
    };
    match (range, expected) {
        (Some((least, most)), _) => format!("a whole number from {least} to {most}"),
        (None, "a boolean") => "true or false".to_owned(),
        (None, "a sequence") => "an array".to_owned(),
        (None, "f32" | "f64") => "a number".to_owned(),
        (None, text) if text.starts_with("struct ") || text == "a map" => "a table".to_owned(),
        (None, text) => text.to_owned(),
    }
}

/// The nearest of the words that exist, or all of them when none is near.
fn instead(given: Option<&str>, expected: &str, kind: &str) -> String {
    let known: Vec<&str> = quoted_words(expected).collect();
    let given = given.unwrap_or_default();
    let near = known
        .iter()
        .map(|word| (distance(given, word), word))
        .min()
        .filter(|(distance, word)| *distance <= word.len().max(given.len()).div_ceil(3));
    match near {
        Some((_, word)) => format!("did you mean `{word}`?"),
        None if known.is_empty() => format!("there are no {kind} here"),
        None => format!("the {kind} here are {}", known.join(", ")),
    }
}

/// The words between backticks.
fn quoted_words(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// How many letters must be put in, taken out or changed to make one word of the other
/// (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for j in 0..b.len() {
            let change = diagonal + usize::from(letter != b[j]);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
