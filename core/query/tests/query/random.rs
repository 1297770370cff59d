//! Random rows and queries: what the database finds is what a simple evaluator finds.

use std::{cmp::Ordering, collections::BTreeMap};

use cairn_proto::query::v1alpha1::{Condition, Operator, Operator::*, Query, SortDirection};
use cairn_testkit::{Database, on_both_databases};
use proptest::{
    collection::vec,
    prelude::{Strategy, any, prop_assert_eq},
    sample::{Index, select},
    test_runner::{Config, TestRunner},
};
use serde_json::{Map, json};

use crate::{fill, found, library};

#[derive(Debug, Clone, PartialEq, PartialOrd)]
enum Cell {
    Null,
    Text(&'static str),
    Genre(&'static str),
    Int(i64),
    Double(f64),
    Bool(bool),
    /// Seconds since 1970.
    Time(i64),
}

use Cell::{Bool, Double, Genre, Int, Null, Text, Time};

on_both_databases!(blocking: random_queries_find_what_a_simple_evaluator_finds);

/// A field and the few values it has, so that conditions often hold.
type Domain = (&'static str, &'static [Cell]);

const TEXTS: &[Cell] = &[
    Text(""),
    Text("a"),
    Text("A"),
    Text("ab"),
    Text("a%b"),
    Text("é_"),
];
const PATTERNS: &[&str] = &[
    "%", "", "a%", "_", "%b", "A_", r"a\%b", r"%\_", "_%_", "a%%b",
];

const SHELF: &[Domain] = &[
    ("name", TEXTS),
    ("room", &[Null, Text(""), Text("hall"), Text("Hall")]),
    ("width", &[Null, Int(-80), Int(0), Int(80)]),
];

const BOOK: &[Domain] = &[
    (
        "bookShelfUuid",
        &[Null, Text("0"), Text("1"), Text("2"), Text("gone")],
    ),
    ("name", TEXTS),
    (
        "lentTo",
        &[Null, Text(""), Text("ann"), Text("Ann"), Text("bob")],
    ),
    (
        "genre",
        &[
            Genre("Unspecified"),
            Genre("Novel"),
            Genre("ScienceFiction"),
        ],
    ),
    ("pages", &[Int(-1), Int(0), Int(7), Int(i32::MAX as i64)]),
    ("copies", &[Null, Int(i64::MIN), Int(0), Int(i64::MAX)]),
    ("signed", &[Bool(false), Bool(true)]),
    (
        "price",
        &[Null, Double(-0.5), Double(0.0), Double(0.1), Double(1e300)],
    ),
    ("printed", &[Null, Time(-1), Time(0), Time(1_700_000_000)]),
];

type Row = BTreeMap<&'static str, Cell>;

fn row(domains: &'static [Domain]) -> impl Strategy<Value = Row> {
    vec(any::<Index>(), domains.len()).prop_map(move |picks| {
        let cells = domains.iter().zip(picks);
        cells
            .map(|((name, cells), pick)| (*name, pick.get(cells).clone()))
            .collect()
    })
}

fn rows(domains: &'static [Domain], most: usize) -> impl Strategy<Value = Vec<Row>> {
    vec(row(domains), 0..=most).prop_map(|mut rows| {
        const UUIDS: [&str; 8] = ["0", "1", "2", "3", "4", "5", "6", "7"];
        for (row, uuid) in rows.iter_mut().zip(UUIDS) {
            row.insert("uuid", Text(uuid));
        }
        rows
    })
}

/// The text of a cell as a query has it.
fn text(cell: &Cell) -> String {
    match cell {
        Null => unreachable!("no value of a condition"),
        Text(text) | Genre(text) => (*text).to_owned(),
        Int(int) => int.to_string(),
        Double(double) => double.to_string(),
        Bool(bool) => bool.to_string(),
        Time(seconds) => prost_types::Timestamp {
            seconds: *seconds,
            nanos: 0,
        }
        .to_string(),
    }
}

/// A condition on a field of one table, under a path.
fn condition(path: &'static str, domains: &'static [Domain]) -> impl Strategy<Value = Condition> {
    let all = [
        Eq, Ne, Gt, Ge, Lt, Le, In, NotIn, IsNull, IsNotNull, Like, NotLike,
    ];
    let picks = vec(any::<Index>(), 1..4);
    (select(domains), select(all.to_vec()), picks).prop_map(
        move |((name, cells), operator, picks)| {
            let values: Vec<_> = cells
                .iter()
                .filter(|cell| **cell != Null)
                .cloned()
                .collect();
            let compares = match values[0] {
                Text(_) => true,
                Genre(_) | Bool(_) => matches!(operator, Eq | Ne | In | NotIn | IsNull | IsNotNull),
                _ => !matches!(operator, Like | NotLike),
            };
            let operator = if compares { operator } else { Ne };
            let picks = match operator {
                IsNull | IsNotNull => &[],
                In | NotIn => &picks[..],
                _ => &picks[..1],
            };
            let values = picks.iter().map(|pick| match operator {
                Like | NotLike => (*pick.get(PATTERNS)).to_owned(),
                _ => text(pick.get(&values)),
            });
            Condition {
                field: format!("{path}{name}"),
                operator: operator.into(),
                values: values.collect(),
            }
        },
    )
}

fn asked(
    domains: &'static [Domain],
    path: &'static str,
    beyond: &'static [Domain],
) -> impl Strategy<Value = Query> {
    let condition = proptest::prop_oneof![condition("", domains), condition(path, beyond)];
    let direction = select(&[SortDirection::Asc, SortDirection::Desc][..]);
    let page = (0..4_u64, proptest::option::of(0..6_u32));
    (vec(condition, 0..4), select(domains), direction, page).prop_map(
        |(conditions, (sort_by, _), direction, (start, limit))| Query {
            conditions,
            sort_by: (*sort_by).to_owned(),
            sort_direction: direction.into(),
            start,
            limit,
            ..Query::default()
        },
    )
}

fn holds(cell: &Cell, condition: &Condition) -> bool {
    let operator = Operator::try_from(condition.operator).unwrap();
    if *cell == Null {
        return operator == IsNull;
    }
    let compare = |value: &String| match cell {
        Int(int) => int.cmp(&value.parse().unwrap()),
        Double(double) => double.total_cmp(&value.parse().unwrap()),
        Time(seconds) => seconds.cmp(&value.parse::<prost_types::Timestamp>().unwrap().seconds),
        other => text(other).as_bytes().cmp(value.as_bytes()),
    };
    let values = &condition.values;
    let any = |wanted: fn(Ordering) -> bool| values.iter().any(|value| wanted(compare(value)));
    let matches = || {
        let (text, pattern) = (
            text(cell).to_ascii_lowercase(),
            values[0].to_ascii_lowercase(),
        );
        like(
            &text.chars().collect::<Vec<_>>(),
            &pattern.chars().collect::<Vec<_>>(),
        )
    };
    match operator {
        Eq | In => any(Ordering::is_eq),
        Ne | NotIn => !any(Ordering::is_eq),
        Gt => any(Ordering::is_gt),
        Ge => any(Ordering::is_ge),
        Lt => any(Ordering::is_lt),
        Le => any(Ordering::is_le),
        Like => matches(),
        NotLike => !matches(),
        IsNull => false,
        IsNotNull => true,
        Unspecified => unreachable!("never asked"),
    }
}

fn like(text: &[char], pattern: &[char]) -> bool {
    match pattern {
        [] => text.is_empty(),
        ['%', rest @ ..] => (0..=text.len()).any(|skip| like(&text[skip..], rest)),
        ['_', rest @ ..] => !text.is_empty() && like(&text[1..], rest),
        ['\\', c, rest @ ..] | [c, rest @ ..] => text.first() == Some(c) && like(&text[1..], rest),
    }
}

/// Sorted and paged uuids of the rows that fulfil the conditions; `beyond` leads along the path.
fn evaluate(rows: &[Row], query: &Query, beyond: impl Fn(&Row) -> Vec<Row>) -> Vec<String> {
    let mut fulfil: Vec<_> = rows
        .iter()
        .filter(|row| {
            query
                .conditions
                .iter()
                .all(|condition| match condition.field.split_once('.') {
                    None => holds(&row[condition.field.as_str()], condition),
                    Some((_, field)) => beyond(row).iter().any(|row| holds(&row[field], condition)),
                })
        })
        .collect();
    fulfil.sort_by(|a, b| {
        let key = |row: &Row| (row[query.sort_by.as_str()].clone(), row["uuid"].clone());
        key(a).partial_cmp(&key(b)).unwrap()
    });
    if query.sort_direction == i32::from(SortDirection::Desc) {
        fulfil.reverse();
    }
    let page = fulfil
        .into_iter()
        .skip(usize::try_from(query.start).unwrap());
    let page = page.take(usize::try_from(query.limit.unwrap_or(1_000)).unwrap());
    page.map(|row| text(&row["uuid"])).collect()
}

fn json_of(row: &Row) -> serde_json::Value {
    let mut object = Map::new();
    for (name, cell) in row {
        let value = match cell {
            Null => continue,
            Genre("Novel") => json!("GENRE_NOVEL"),
            Genre("ScienceFiction") => json!("GENRE_SCIENCE_FICTION"),
            Genre(_) => json!("GENRE_UNSPECIFIED"),
            Int(int) => json!(int),
            Double(double) => json!(double),
            Bool(bool) => json!(bool),
            Text(_) | Time(_) => json!(text(cell)),
        };
        object.insert((*name).to_owned(), value);
    }
    object.into()
}

fn random_queries_find_what_a_simple_evaluator_finds(database: Database) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let store = runtime.block_on(library(database));
    let mut runner = TestRunner::new(Config {
        cases: 200,
        failure_persistence: None,
        ..Config::default()
    });
    let queries = (
        vec(asked(BOOK, "bookShelf.", SHELF), 5),
        vec(asked(SHELF, "books.", BOOK), 5),
    );
    let case = (rows(SHELF, 4), rows(BOOK, 8), queries);
    let outcome = runner.run(&case, |(shelves, books, (of_books, of_shelves))| {
        runtime.block_on(async {
            let json = |rows: &[Row]| rows.iter().map(json_of).collect();
            fill(&store, json(&shelves), json(&books)).await;
            for query in of_books {
                let expected = evaluate(&books, &query, |book| {
                    let refer = shelves
                        .iter()
                        .filter(|s| s["uuid"] == book["bookShelfUuid"]);
                    refer.cloned().collect()
                });
                prop_assert_eq!(found(&store, "book", &query).await, expected, "{:?}", query);
            }
            for query in of_shelves {
                let expected = evaluate(&shelves, &query, |shelf| {
                    let refer = books.iter().filter(|b| b["bookShelfUuid"] == shelf["uuid"]);
                    refer.cloned().collect()
                });
                prop_assert_eq!(
                    found(&store, "book-shelf", &query).await,
                    expected,
                    "{:?}",
                    query
                );
            }
            Ok(())
        })
    });
    outcome.unwrap();
}
