//! The addresses of ranges: each is free, a nic's, or a host's to serve from, and one of these only.

use std::collections::BTreeMap;

use cairn_inspect::Suspect;
use cairn_proto::{fault::Fault, meta::Resource as _, network::v1alpha1::IpRange};
use cairn_store::{Row, Store};

use crate::address;

/// All that has a part of a range, in one statement: an address changes hands in one transaction.
const PARTS: &str = "SELECT 'range' AS what, uuid AS ip_range, start_ip AS first_ip, \
    end_ip AS last_ip, CAST(0 AS BIGINT) AS first_number, CAST(0 AS BIGINT) AS last_number \
    FROM ip_range \
    UNION ALL SELECT 'a nic', ip_range_uuid, ip, ip, 0, 0 FROM vm_nic \
    UNION ALL SELECT 'a host', ip_range_uuid, ip, ip, 0, 0 FROM dhcp_server \
    UNION ALL SELECT 'nobody', ip_range_uuid, '', '', first_number, last_number FROM free_address";

/// A part of a range, and who has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Part {
    first: i64,
    last: i64,
    whose: String,
}

/// Where ranges are not divided among those who have a part.
pub(super) async fn check(store: &Store) -> Result<Vec<Suspect>, Fault> {
    let mut ranges: BTreeMap<String, Vec<Part>> = BTreeMap::new();
    for row in store.rows(PARTS, Vec::new()).await? {
        let part = read(&row)?;
        ranges.entry(row.text(1)?).or_default().push(part);
    }
    let ranges = ranges.into_iter();
    Ok(ranges
        .flat_map(|(range, parts)| divided(&range, parts))
        .collect())
}

fn read(row: &Row) -> Result<Part, Fault> {
    let whose = row.text(0)?;
    let (mut first, mut last) = (row.int(4)?, row.int(5)?);
    if whose != "nobody" {
        // An address that is none is at no place, where it stands out.
        let number = |text: String| address::number(&text).map_or(-1, i64::from);
        (first, last) = (number(row.text(2)?), number(row.text(3)?));
    }
    Ok(Part { first, last, whose })
}

fn divided(range: &str, mut parts: Vec<Part>) -> Vec<Suspect> {
    parts.sort();
    let whole = parts.iter().position(|part| part.whose == "range");
    let whole = whole.map(|at| parts.remove(at));
    let mut suspects = Vec::new();
    let mut differs = |first, last, detail: String| {
        let suspect = Suspect::differs("address", identity(first, last), detail);
        suspects.push(suspect.of(IpRange::NOUN, range));
    };
    let (begin, end) = whole.map_or((i64::MAX, i64::MIN), |it| (it.first, it.last));
    let mut next = begin;
    for part in &parts {
        let Part { first, last, whose } = part;
        if *first < begin || *last > end {
            differs(
                *first,
                *last,
                format!("it is {whose}'s, and not in the range"),
            );
            continue;
        }
        if *first > next {
            let detail = "it is reserved, and nobody has it".to_owned();
            differs(next, first - 1, detail);
        }
        if *first < next {
            let both = (next - 1).min(*last);
            differs(*first, both, format!("it is {whose}'s, and another's too"));
        }
        next = next.max(last + 1);
    }
    if next <= end {
        differs(next, end, "it is reserved, and nobody has it".to_owned());
    }
    suspects
}

fn identity(first: i64, last: i64) -> String {
    let text = |number: i64| u32::try_from(number).map(address::text).unwrap_or_default();
    match first == last {
        true => text(first),
        false => format!("{} to {}", text(first), text(last)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_divided_without_rest() {
        let check = |parts: &[(&str, i64, i64)], expected: &[&str]| {
            let range = ("range", 10, 19);
            let parts = parts
                .iter()
                .chain([&range])
                .map(|(whose, first, last)| Part {
                    first: *first,
                    last: *last,
                    whose: (*whose).to_owned(),
                });
            let found = divided("r", parts.collect());
            let found: Vec<_> = found.iter().map(|it| &*it.finding().identity).collect();
            assert_eq!(found, expected);
        };
        check(&[("nobody", 10, 19)], &[]);
        let whole = [
            ("nobody", 12, 18),
            ("a nic", 10, 10),
            ("a host", 11, 11),
            ("a nic", 19, 19),
        ];
        check(&whole, &[]);
        // Reserved, and nobody's: at the begin, in the middle, at the end, all.
        check(&[("nobody", 11, 19)], &["0.0.0.10"]);
        check(
            &[("nobody", 10, 12), ("a nic", 15, 19)],
            &["0.0.0.13 to 0.0.0.14"],
        );
        check(&[("nobody", 10, 18)], &["0.0.0.19"]);
        check(&[], &["0.0.0.10 to 0.0.0.19"]);
        // Twice.
        check(&[("nobody", 10, 19), ("a nic", 12, 12)], &["0.0.0.12"]);
        check(
            &[("nobody", 10, 15), ("nobody", 14, 19)],
            &["0.0.0.14 to 0.0.0.15"],
        );
        // Not in it.
        check(&[("nobody", 10, 19), ("a nic", 20, 20)], &["0.0.0.20"]);
    }
}
