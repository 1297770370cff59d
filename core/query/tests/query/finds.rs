//! What queries find.

use cairn_proto::query::v1alpha1::{Operator::*, Query, SortDirection};
use cairn_testkit::{Database, on_both_databases};
use prost_reflect::DynamicMessage;

use crate::{condition, found, having, resource, run, small_library};

on_both_databases!(
    each_operator_on_each_kind,
    a_condition_on_those_who_refer_holds_if_it_does_for_one,
    rows_come_in_order_and_in_pages,
    a_row_is_skipped_once_however_many_refer_to_it,
    the_count_is_of_all_that_fulfil_the_conditions,
    only_the_fields_that_were_asked_for_are_filled,
    the_longest_path_and_the_most_conditions_and_values_are_fine,
);

async fn each_operator_on_each_kind(database: Database) {
    let store = small_library(database).await;
    for (field, operator, values, expected) in [
        ("name", Eq, &["Dune"][..], "a"),
        ("name", Eq, &["dune"], ""),
        ("name", Ne, &["Dune"], "bcd"),
        ("name", Gt, &["Dune"], "b"),
        ("name", In, &["Dune", "", "x"], "ad"),
        ("name", NotIn, &["Dune", "x"], "bcd"),
        ("name", IsNull, &[], ""),
        ("name", IsNotNull, &[], "abcd"),
        ("name", Like, &["dune%"], "ab"),
        ("name", Like, &["DUN_"], "a"),
        ("name", Like, &["%übermut%"], ""),
        ("name", Like, &["%\\%%"], "c"),
        ("name", Like, &["%\\_"], "c"),
        ("name", NotLike, &["d%"], "cd"),
        ("order", Eq, &["first"], "a"),
        ("lentTo", IsNull, &[], "ac"),
        ("lent_to", Eq, &[""], "d"),
        ("lent_to", Ne, &["ann"], "d"),
        ("lent_to", NotIn, &["ann"], "d"),
        ("lent_to", NotLike, &["a%"], "d"),
        ("genre", Eq, &["sciencefiction"], "ab"),
        ("genre", Ne, &["Novel"], "abd"),
        ("genre", In, &["Novel", "ScienceFiction"], "abc"),
        ("pages", Gt, &["256"], "a"),
        ("pages", Ge, &["256"], "ab"),
        ("pages", Lt, &["0"], "d"),
        ("pages", Le, &["90"], "cd"),
        ("copies", NotIn, &["1"], "a"),
        ("isbn", Eq, &["9780441013593"], "a"),
        ("signed", Eq, &["true"], "b"),
        ("signed", Ne, &["true"], "acd"),
        ("price", Gt, &["9.25"], "c"),
        ("weight", Eq, &["0.1"], "a"),
        ("cover", IsNull, &[], "abd"),
        ("cover", IsNotNull, &[], "c"),
        ("printed", Lt, &["1970-01-01T00:00:00Z"], "a"),
        ("printed", Eq, &["1965-08-01T02:00:00+02:00"], "a"),
        ("createTime", Ge, &["2026-01-02T00:00:00.000001Z"], "a"),
        // Forward.
        ("bookShelf.name", Eq, &["south"], "ab"),
        ("book_shelf.room", IsNull, &[], "c"),
        ("bookShelf.name", Ne, &["south"], "c"),
        ("sequel.name", Like, &["%messiah"], "a"),
        // Back, by one of two references; and there and back again.
        ("books_via_sequel.name", Eq, &["Dune"], "b"),
        ("booksViaOriginal.lentTo", Eq, &["ann"], "a"),
        (
            "sequel.books_via_sequel.sequel.original.pages",
            Eq,
            &["412"],
            "a",
        ),
        ("bookShelf.books.bookShelf.books.uuid", Eq, &["b"], "ab"),
        ("bookShelf.booksViaBookShelf.signed", Eq, &["true"], "ab"),
    ] {
        let mut query = having([condition(field, operator, values)]);
        query.sort_by = "uuid".to_owned();
        let uuids = found(&store, "book", &query).await.concat();
        assert_eq!(uuids, expected, "{field} {operator:?} {values:?}");
    }
}

async fn a_condition_on_those_who_refer_holds_if_it_does_for_one(database: Database) {
    let store = small_library(database).await;
    for (conditions, expected) in [
        (vec![], "ns"),
        (vec![condition("books.pages", Gt, &["400"])], "s"),
        // South has a book that is lent and one that is not.
        (vec![condition("books.lent_to", IsNull, &[])], "ns"),
        (vec![condition("books.lent_to", IsNotNull, &[])], "s"),
        (vec![condition("books.name", Ne, &["Dune"])], "ns"),
        // By two different books.
        (
            vec![
                condition("books.name", Eq, &["Dune"]),
                condition("books.signed", Eq, &["true"]),
            ],
            "s",
        ),
        (
            vec![
                condition("books.name", Eq, &["Dune"]),
                condition("name", Eq, &["north"]),
            ],
            "",
        ),
    ] {
        let query = having(conditions);
        let uuids = found(&store, "book-shelf", &query).await.concat();
        assert_eq!(uuids, expected, "{query:?}");
    }
}

async fn rows_come_in_order_and_in_pages(database: Database) {
    let store = small_library(database).await;
    let (asc, desc) = (SortDirection::Asc, SortDirection::Desc);
    for (sort_by, direction, start, limit, expected) in [
        // Without a time first, the same time by uuid.
        ("", asc, 0, None, "dbca"),
        ("createTime", desc, 0, None, "acbd"),
        ("pages", asc, 0, None, "dcba"),
        ("pages", desc, 1, Some(2), "bc"),
        ("uuid", desc, 0, Some(1), "d"),
        ("lent_to", asc, 0, None, "acdb"),
        ("pages", asc, 3, Some(0), ""),
        ("pages", asc, 9, None, ""),
        ("order", desc, 0, Some(1), "a"),
    ] {
        let query = Query {
            sort_by: sort_by.to_owned(),
            sort_direction: direction.into(),
            start,
            limit,
            ..Query::default()
        };
        let uuids = found(&store, "book", &query).await.concat();
        assert_eq!(uuids, expected, "{query:?}");
    }
}

async fn a_row_is_skipped_once_however_many_refer_to_it(database: Database) {
    let store = small_library(database).await;
    for (start, expected) in [(0, "ns"), (1, "s"), (2, "")] {
        let query = Query {
            sort_by: "uuid".to_owned(),
            start,
            ..having([condition("books.pages", Gt, &["0"])])
        };
        assert_eq!(found(&store, "book-shelf", &query).await.concat(), expected);
    }
}

async fn the_count_is_of_all_that_fulfil_the_conditions(database: Database) {
    let store = small_library(database).await;
    let lent = having([condition("lentTo", IsNotNull, &[])]);
    for (query, rows, total) in [
        (lent.clone(), 2, None),
        (
            Query {
                count: true,
                limit: Some(1),
                ..lent.clone()
            },
            0,
            Some(2),
        ),
        (
            Query {
                reply_with_count: true,
                limit: Some(1),
                ..lent.clone()
            },
            1,
            Some(2),
        ),
        (
            Query {
                reply_with_count: true,
                start: 5,
                ..lent
            },
            0,
            Some(2),
        ),
    ] {
        let found = run(&store, "book", &query).await.unwrap();
        assert_eq!((found.rows.len(), found.total), (rows, total), "{query:?}");
    }
}

async fn only_the_fields_that_were_asked_for_are_filled(database: Database) {
    let store = small_library(database).await;
    let book = resource(&store, "book");
    for (fields, expected) in [
        (
            &["pages", "bookShelfUuid", "pages"][..],
            vec!["uuid", "book_shelf_uuid", "pages"],
        ),
        (&["uuid"], vec!["uuid"]),
        (
            &[],
            vec![
                "uuid",
                "name",
                "create_time",
                "book_shelf_uuid",
                "genre",
                "pages",
                "copies",
                "isbn",
                "weight",
                "printed",
                "sequel_uuid",
                "order",
            ],
        ),
    ] {
        let query = Query {
            fields: fields.iter().map(|field| (*field).to_owned()).collect(),
            ..having([condition("uuid", Eq, &["a"])])
        };
        let found = run(&store, "book", &query).await.unwrap();
        let row = DynamicMessage::decode(book.message.clone(), found.rows[0].clone()).unwrap();
        let mut filled: Vec<_> = row.fields().map(|(field, _)| field).collect();
        filled.sort_by_key(|field| field.number());
        let filled: Vec<_> = filled.iter().map(|field| field.name().to_owned()).collect();
        assert_eq!(filled, expected);
    }
}

async fn the_longest_path_and_the_most_conditions_and_values_are_fine(database: Database) {
    let store = small_library(database).await;
    let there_and_back = "sequel.original.".repeat(16) + "name";
    let values = (1..1_000).map(|n| n.to_string());
    let values = values.chain(["Dune".to_owned()]).collect();
    let mut query = having(vec![condition(&there_and_back, Eq, &["Dune"]); 31]);
    let mut many = condition("name", In, &[]);
    many.values = values;
    query.conditions.push(many);
    assert_eq!(found(&store, "book", &query).await, ["a"]);
}
