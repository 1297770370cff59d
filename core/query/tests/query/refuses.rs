//! What is refused: which part, what is wrong with it, and what would be right.

use cairn_proto::{
    fault::Fault,
    query::v1alpha1::{Condition, Operator, Operator::*, Query},
};
use cairn_store::StoreError;
use cairn_testkit::{Database, on_both_databases};
use cairn_types::{Coded as _, ErrorCode};

use crate::{condition, having, run, small_library};

on_both_databases!(
    a_wrong_query_is_told_what_would_be_right,
    everything_that_is_wrong_is_told_at_once,
    a_resource_without_a_table_here_is_named,
);

fn field(name: &str) -> Query {
    having([condition(name, Eq, &["x"])])
}

fn compared(name: &str, operator: Operator, values: &[&str]) -> Query {
    having([condition(name, operator, values)])
}

async fn a_wrong_query_is_told_what_would_be_right(database: Database) {
    let store = small_library(database).await;
    let long = "x".repeat(1_001);
    let deep = "sequel.".repeat(33) + "name";
    let cases = [
        // Fields and paths.
        (
            field("nmae"),
            "conditions[0].field: book has no field `nmae`; did you mean `name`?",
        ),
        (
            field("bookShelf.rom"),
            "conditions[0].field: book-shelf has no field `rom`; did you mean `room`?",
        ),
        (
            field("bookShelf"),
            "conditions[0].field: `bookShelf` is a reference: go on to a field, as in \
             `bookShelf.name`",
        ),
        (
            field("shelf.name"),
            "conditions[0].field: book has no reference `shelf`; there are book_shelf, sequel, \
             original, books_via_sequel, books_via_original",
        ),
        (
            field("books.name"),
            "conditions[0].field: `books` can be reached in several ways: write \
             `books_via_sequel` or `books_via_original`",
        ),
        (
            field("pages.name"),
            "conditions[0].field: field `pages` of book leads no further",
        ),
        (
            field("password"),
            "conditions[0].field: `password` is secret: it is never returned or compared",
        ),
        (
            field(&deep),
            "conditions[0].field: goes along 33 references; at most 32",
        ),
        (
            having(vec![condition("name", Eq, &["x"]); 33]),
            "conditions: are 33; at most 32",
        ),
        // Operators.
        (
            having([Condition {
                operator: 0,
                ..condition("name", Eq, &["x"])
            }]),
            "conditions[0].operator: is missing; EQ, for instance",
        ),
        (
            having([Condition {
                operator: 77,
                ..condition("name", Eq, &["x"])
            }]),
            "conditions[0].operator: 77 is no operator; they are 1 to 12",
        ),
        (
            compared("pages", Like, &["1%"]),
            "conditions[0].operator: `~=` does not compare `pages`, which is a number; use = != > \
             >= < <= ?= !?= =null !=null",
        ),
        (
            compared("genre", Gt, &["Novel"]),
            "conditions[0].operator: `>` does not compare `genre`, which is one of a few names; \
             use = != ?= !?= =null !=null",
        ),
        (
            compared("cover", Eq, &["x"]),
            "conditions[0].operator: `=` does not compare `cover`, which is bytes; use =null \
             !=null",
        ),
        // Values.
        (
            compared("name", Eq, &[]),
            "conditions[0].values: `=` takes one value, 0 given",
        ),
        (
            compared("name", Ne, &["a", "b"]),
            "conditions[0].values: `!=` takes one value, 2 given",
        ),
        (
            compared("lentTo", IsNull, &["x"]),
            "conditions[0].values: `=null` takes no value, 1 given",
        ),
        (
            compared("name", In, &[]),
            "conditions[0].values: `?=` takes 1 to 1000 values, 0 given",
        ),
        (
            compared("name", NotIn, &["x"; 1_001]),
            "conditions[0].values: `!?=` takes 1 to 1000 values, 1001 given",
        ),
        (
            compared("genre", In, &["Novel", "Crime"]),
            "conditions[0].values: `Crime` is no value of `genre`; use Novel, ScienceFiction",
        ),
        (
            compared("pages", Eq, &["2147483648"]),
            "conditions[0].values: `2147483648` is not right for `pages`; write a whole number \
             from -2147483648 to 2147483647",
        ),
        (
            compared("isbn", Eq, &["-1"]),
            "conditions[0].values: `-1` is not right for `isbn`; write a whole number from 0 to \
             9223372036854775807",
        ),
        (
            compared("signed", Eq, &["yes"]),
            "conditions[0].values: `yes` is not right for `signed`; write true or false",
        ),
        (
            compared("price", Eq, &["NaN"]),
            "conditions[0].values: `NaN` is not right for `price`; write a number, such as 0.5",
        ),
        (
            compared("createTime", Eq, &["now"]),
            "conditions[0].values: `now` is not right for `create_time`; write a time as in \
             2026-01-31T23:59:59Z",
        ),
        (
            compared("name", Like, &[&long]),
            "conditions[0].values: the pattern has 1001 bytes; at most 1000",
        ),
        (
            compared("name", Like, &[r"a\\\"]),
            r"conditions[0].values: the pattern ends in a single `\`; write `\\` for the character",
        ),
        (
            compared("name", Eq, &["a\0"]),
            "conditions[0].values: contains a zero character, which no text does",
        ),
        // The rest.
        (
            Query {
                limit: Some(10_001),
                ..Query::default()
            },
            "limit: is 10001; at most 10000",
        ),
        (
            Query {
                sort_by: "bookShelf.name".to_owned(),
                ..Query::default()
            },
            "sort_by: `bookShelf.name` is a path; only fields of book itself can stand here",
        ),
        (
            Query {
                sort_direction: 5,
                ..Query::default()
            },
            "sort_direction: 5 is no direction; ASC or DESC",
        ),
        (
            Query {
                fields: vec!["uuid".to_owned(), "password".to_owned()],
                ..Query::default()
            },
            "fields[1]: `password` is secret: it is never returned or compared",
        ),
    ];
    for (query, expected) in cases {
        let error = run(&store, "book", &query).await.unwrap_err();
        assert_eq!(error.to_string(), expected, "{query:?}");
        assert_eq!(error.code(), ErrorCode::InvalidArgument);
    }
}

async fn everything_that_is_wrong_is_told_at_once(database: Database) {
    let store = small_library(database).await;
    let query = Query {
        limit: Some(20_000),
        ..having([
            condition("name", Eq, &["x"]),
            condition("nam", Eq, &["x"]),
            condition("pages", Eq, &["x"]),
        ])
    };
    let error = run(&store, "book", &query).await.unwrap_err();
    let fault = Fault::from(error);
    let fields: Vec<_> = fault
        .fields
        .iter()
        .map(|(field, _)| field.as_str())
        .collect();
    assert_eq!(
        fields,
        ["conditions[1].field", "conditions[2].values", "limit"]
    );
}

async fn a_resource_without_a_table_here_is_named(database: Database) {
    let store = small_library(database).await;
    let error = run(&store, "zone", &Query::default()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Store);
    let cause = std::error::Error::source(&error).unwrap();
    assert_eq!(
        cause.to_string(),
        StoreError::NoTable("zone".to_owned()).to_string()
    );
}
