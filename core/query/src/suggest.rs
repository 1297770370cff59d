//! What somebody may have meant.

use std::cmp::min;

/// How many are worth reading.
const FEW: usize = 3;
const LIST: usize = 24;

/// The end of a sentence about a word that is none of the candidates: those that are near to it,
/// or all if none is.
#[must_use]
pub fn suggest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    let candidates: Vec<_> = candidates.into_iter().collect();
    let given = plain(word);
    let mut near: Vec<_> = candidates
        .iter()
        .map(|candidate| (distance(&given, &plain(candidate)), *candidate))
        .filter(|(distance, _)| *distance <= min(3, given.len().div_ceil(3)))
        .collect();
    near.sort();
    if near.is_empty() {
        let more = if candidates.len() > LIST { ", …" } else { "" };
        let all: Vec<_> = candidates.into_iter().take(LIST).collect();
        return format!("; there are {}{more}", all.join(", "));
    }
    let near: Vec<_> = near
        .iter()
        .take(FEW)
        .map(|(_, near)| format!("`{near}`"))
        .collect();
    format!("; did you mean {}?", near.join(" or "))
}

/// `vmInstance`, `vm_instance` and `vm-instance` are the same to a person.
fn plain(word: &str) -> Vec<char> {
    let letters = word.chars().filter(|c| c.is_alphanumeric());
    letters.flat_map(char::to_lowercase).take(64).collect()
}

/// How many letters must be put in, taken out or changed (Levenshtein).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<_> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = min(changed, min(row[j], row[j + 1]) + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_come_first_and_all_if_none_is_near() {
        let fields = ["uuid", "name", "create_time", "names"];
        for (word, expected) in [
            ("nmae", "; did you mean `name`?"),
            ("nam", "; did you mean `name`?"),
            ("createTime", "; did you mean `create_time`?"),
            ("colour", "; there are uuid, name, create_time, names"),
        ] {
            assert_eq!(suggest(word, fields), expected);
        }
    }
}
