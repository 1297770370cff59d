//! The addresses of ranges: each is free, a nic's, or a host's to serve from, and one of these only.

use std::collections::{BTreeMap, BTreeSet};

use cairn_inspect::Suspect;
use cairn_proto::{fault::Fault, meta::Resource as _, network::v1alpha1::IpRange};
use cairn_store::{Row, Store, StoreError, Tx};
use cairn_types::ErrorCode;

use crate::address;

/// Whose a free address is.
const NOBODY: &str = "nobody";
/// What a person does about an address that two have.
const TWO: &str = "detach the nic of one of the two, or stop or delete its virtual machine";
/// What a person does about an address that belongs to no range.
const ELSEWHERE: &str = "detach the nic that has it, or delete its virtual machine";

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
    if whose != NOBODY {
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
    let mut differs = |first, last, detail: String, advice: Option<&str>| {
        let suspect = Suspect::differs("address", identity(first, last), detail);
        let suspect = match advice {
            Some(advice) => suspect.advise(advice),
            None => suspect.repair(),
        };
        suspects.push(suspect.of(IpRange::NOUN, range));
    };
    let (begin, end) = whole.map_or((i64::MAX, i64::MIN), |it| (it.first, it.last));
    let mut next = begin;
    // Who has what is free by the books, too, keeps it.
    let is_free = |whose: &str| whose == NOBODY;
    let mut before = NOBODY;
    for part in &parts {
        let Part { first, last, whose } = part;
        if *first < begin || *last > end {
            let detail = format!("it is {whose}'s, and not in the range");
            let advice = (!is_free(whose)).then_some(ELSEWHERE);
            differs(*first, *last, detail, advice);
            continue;
        }
        if *first > next {
            let detail = "it is reserved, and nobody has it".to_owned();
            differs(next, first - 1, detail, None);
        }
        if *first < next {
            let both = (next - 1).min(*last);
            let detail = format!("it is {whose}'s, and another's too");
            let advice = (!is_free(whose) && !is_free(before)).then_some(TWO);
            differs(*first, both, detail, advice);
        }
        if *last >= next {
            (next, before) = (last + 1, whose);
        }
    }
    if next <= end {
        let detail = "it is reserved, and nobody has it".to_owned();
        differs(next, end, detail, None);
    }
    suspects
}

/// Makes free of a range what nobody has, and nothing else. Of one that is not there, nothing is.
pub(super) async fn correct(store: &Store, range: &str) -> Result<(), Fault> {
    let range = range.to_owned();
    let corrected = store.write(move |tx| {
        let range = range.clone();
        Box::pin(async move { divide(tx, &range).await })
    });
    corrected.await
}

async fn divide(tx: &mut Tx, range: &str) -> Result<(), Fault> {
    address::remove(tx, range).await?;
    let Some(row) = tx.get::<IpRange>(range).await? else {
        return Ok(());
    };
    let (Some(start), Some(end)) = (address::number(&row.start_ip), address::number(&row.end_ip))
    else {
        let message = format!("ip-range {range} has addresses that are none");
        return Err(Fault::new(ErrorCode::Internal, message).on(IpRange::NOUN, range));
    };
    let sql = "SELECT ip FROM vm_nic WHERE ip_range_uuid = ? \
               UNION SELECT ip FROM dhcp_server WHERE ip_range_uuid = ?";
    let taken = tx.rows(sql, vec![range.into(), range.into()]).await?;
    let taken = taken.iter().map(|row| Ok(address::number(&row.text(0)?)));
    let taken = taken.collect::<Result<Vec<_>, StoreError>>()?;
    let taken: BTreeSet<_> = taken.into_iter().flatten().collect();
    for free in gaps(&taken, start, end) {
        address::add(tx, &row.l3_network_uuid, range, free).await?;
    }
    Ok(())
}

/// What is between the numbers that are taken, from `start` to `end`.
fn gaps(taken: &BTreeSet<u32>, start: u32, end: u32) -> Vec<(u32, u32)> {
    let mut gaps = Vec::new();
    let mut next = start;
    for number in taken.range(start..=end) {
        if *number > next {
            gaps.push((next, number - 1));
        }
        next = number.saturating_add(1);
    }
    if next <= end && !taken.contains(&end) {
        gaps.push((next, end));
    }
    gaps
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
    fn what_nobody_has_is_free() {
        let check = |taken: &[u32], expected: &[(u32, u32)]| {
            let taken = taken.iter().copied().collect();
            assert_eq!(gaps(&taken, 10, 19), expected, "{taken:?}");
        };
        check(&[], &[(10, 19)]);
        check(&[10, 11, 19], &[(12, 18)]);
        check(&[12, 15, 25], &[(10, 11), (13, 14), (16, 19)]);
        check(&(10..20).collect::<Vec<_>>(), &[]);
        assert_eq!(gaps(&[u32::MAX].into(), u32::MAX, u32::MAX), []);
    }

    #[test]
    fn a_person_decides_where_two_have_the_same() {
        let part = |whose: &str, first, last| Part {
            first,
            last,
            whose: whose.to_owned(),
        };
        let advice = |one: &str, other: &str| {
            let parts = [part("range", 1, 1), part(one, 1, 1), part(other, 1, 1)];
            let found = divided("r", parts.to_vec());
            !found[0].finding().advice.is_empty()
        };
        assert!(advice("a nic", "a host") && advice("a nic", "a nic"));
        assert!(!advice("a nic", "nobody") && !advice("nobody", "a host"));
    }

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
