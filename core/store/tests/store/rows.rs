//! Rows keep what messages hold, of every kind, for a resource that exists in this test only.

use std::sync::Arc;

use bytes::Bytes;
use cairn_proto::meta::{Catalog, ResourceType};
use cairn_store::StoreError;
use cairn_testkit::{Database, TestStore, on_both_databases, proto_set, tables_of};
use prost::Message as _;
use prost_reflect::{DynamicMessage, Value};

on_both_databases!(
    every_kind_comes_back_as_it_went,
    the_columns_are_what_people_and_indexes_want,
    what_would_be_lost_is_refused,
    values_are_kept_as_they_are_and_compared_as_bytes,
    a_message_known_at_run_time_only_is_changed_and_deleted,
);

/// A field of every kind, plain and optional; one has a name that SQL has other uses for.
const THING: &str = r#"
syntax = "proto3";
package test.v1;
import "cairn/meta/v1alpha1/annotations.proto";
import "google/protobuf/timestamp.proto";

enum Colour {
  COLOUR_UNSPECIFIED = 0;
  COLOUR_RED = 1;
  COLOUR_DARK_BLUE = -7;
}

message Thing {
  option (cairn.meta.v1alpha1.resource) = { name: "thing" plural: "things" };
  string uuid = 1;
  string name = 2;
  string description = 3;
  string account_uuid = 4;
  google.protobuf.Timestamp create_time = 5;
  google.protobuf.Timestamp last_operation_time = 6;
  string order = 10;
  Colour colour = 11;
  int32 small = 12;
  int64 big = 13;
  uint32 natural = 14;
  uint64 size = 15;
  bool flag = 16;
  double ratio = 17;
  float rough = 18;
  bytes blob = 19;
  optional string maybe_text = 20;
  optional Colour maybe_colour = 21;
  optional int32 maybe_small = 22;
  optional int64 maybe_big = 23;
  optional uint32 maybe_natural = 24;
  optional uint64 maybe_size = 25;
  optional bool maybe_flag = 26;
  optional double maybe_ratio = 27;
  optional float maybe_rough = 28;
  optional bytes maybe_blob = 29;
  string password = 30 [(cairn.meta.v1alpha1.field).secret = true];
}
"#;

async fn things(database: Database) -> (TestStore, Arc<ResourceType>) {
    let catalog = Arc::new(Catalog::with(&[&proto_set(THING)]).unwrap());
    let thing = Arc::clone(catalog.resource("thing").unwrap());
    let store = TestStore::with(database, catalog, &[tables_of([&*thing])]).await;
    assert_eq!(store.schema_problems().await.unwrap(), [""; 0]);
    (store, thing)
}

fn message(thing: &ResourceType, fields: &[(&str, Value)]) -> DynamicMessage {
    let mut message = DynamicMessage::new(thing.message.clone());
    message.set_field_by_name("uuid", Value::String("u".to_owned()));
    for (name, value) in fields {
        message.set_field_by_name(name, value.clone());
    }
    message
}

async fn insert(
    store: &TestStore,
    thing: &Arc<ResourceType>,
    message: DynamicMessage,
) -> Result<(), StoreError> {
    let thing = Arc::clone(thing);
    let insert = store.write(move |tx| {
        let (thing, message) = (Arc::clone(&thing), message.clone());
        Box::pin(async move { tx.insert_dynamic(&thing, &message).await })
    });
    insert.await
}

fn time(thing: &ResourceType, seconds: i64, nanos: i32) -> Value {
    let field = thing.message.get_field_by_name("create_time").unwrap();
    let mut time = DynamicMessage::new(field.kind().as_message().unwrap().clone());
    time.set_field_by_name("seconds", Value::I64(seconds));
    time.set_field_by_name("nanos", Value::I32(nanos));
    Value::Message(time)
}

async fn every_kind_comes_back_as_it_went(database: Database) {
    let (store, thing) = things(database).await;
    let kinds = |name: &'static str| {
        // Those of a kind, with what is most and least of it, or its default.
        let values: Vec<Value> = match name {
            "text" => ["", "ü 'quoted' \"\u{1f980}\""]
                .map(|text| Value::String(text.to_owned()))
                .to_vec(),
            "colour" => [0, 1, -7].map(Value::EnumNumber).to_vec(),
            "small" => [0, i32::MIN, i32::MAX].map(Value::I32).to_vec(),
            "big" => [0, i64::MIN, i64::MAX].map(Value::I64).to_vec(),
            "natural" => [0, u32::MAX].map(Value::U32).to_vec(),
            "size" => [0, u64::MAX / 2].map(Value::U64).to_vec(),
            "flag" => [false, true].map(Value::Bool).to_vec(),
            "ratio" => [0.0, 0.1, f64::MAX, f64::NEG_INFINITY]
                .map(Value::F64)
                .to_vec(),
            "rough" => [0.0, 0.1, f32::MIN].map(Value::F32).to_vec(),
            _ => [&b""[..], b"\x00\xff"]
                .map(|b| Value::Bytes(Bytes::from_static(b)))
                .to_vec(),
        };
        (name, values)
    };
    let names = [
        "text", "colour", "small", "big", "natural", "size", "flag", "ratio", "rough", "blob",
    ];
    let mut cases = vec![message(&thing, &[])];
    for (name, values) in names.map(kinds) {
        for value in values {
            let plain = if name == "text" { "order" } else { name };
            cases.push(message(&thing, &[(plain, value.clone())]));
            cases.push(message(&thing, &[(&format!("maybe_{name}"), value)]));
        }
    }
    for (seconds, nanos) in [(0, 0), (1, 2_000), (-1, 999_999_000), (253_402_300_799, 0)] {
        cases.push(message(
            &thing,
            &[("create_time", time(&thing, seconds, nanos))],
        ));
    }
    for (number, mut case) in cases.into_iter().enumerate() {
        let uuid = number.to_string();
        case.set_field_by_name("uuid", Value::String(uuid.clone()));
        insert(&store, &thing, case.clone()).await.unwrap();
        let back = store.get_dynamic(&thing, &uuid).await.unwrap().unwrap();
        // Encoded, where a plain field with its default is the same as an absent one.
        assert_eq!(back.encode_to_vec(), case.encode_to_vec(), "{case}");
    }
}

async fn the_columns_are_what_people_and_indexes_want(database: Database) {
    let (store, thing) = things(database).await;
    let with = [
        ("colour", Value::EnumNumber(-7)),
        ("flag", Value::Bool(true)),
        ("create_time", time(&thing, -1, 999_999_999)),
    ];
    insert(&store, &thing, message(&thing, &with))
        .await
        .unwrap();
    let sql = "SELECT colour, maybe_colour, flag, create_time, \"order\", password FROM thing";
    let rows = store.rows(sql, Vec::new()).await.unwrap();
    let text = |text: &str| cairn_store::Value::from(text);
    assert_eq!(
        rows[0].values(),
        [
            text("DarkBlue"),
            cairn_store::Value::Null,
            true.into(),
            (-1_i64).into(),
            text(""),
            text(""),
        ]
    );
    assert!(matches!(
        rows[0].int(0),
        Err(StoreError::Column {
            column: 0,
            expected: "an integer",
            found: "text"
        })
    ));
    assert_eq!(rows[0].opt_text(1).unwrap(), None);
}

async fn what_would_be_lost_is_refused(database: Database) {
    let (store, thing) = things(database).await;
    for (field, value, problem) in [
        (
            "size",
            Value::U64(u64::MAX),
            "is 18446744073709551615; the database holds at most",
        ),
        (
            "maybe_size",
            Value::U64(1 << 63),
            "is 9223372036854775808; the database holds at most",
        ),
        (
            "colour",
            Value::EnumNumber(5),
            "is 5, which is no value of its enum",
        ),
        ("ratio", Value::F64(f64::NAN), "is not a number"),
        (
            "create_time",
            time(&thing, i64::MAX, 0),
            "is no time: 9223372036854775807 s",
        ),
        (
            "create_time",
            time(&thing, 0, -1),
            "is no time: 0 s and -1 ns",
        ),
        (
            "name",
            Value::String("a\0b".to_owned()),
            "contains a zero character",
        ),
        (
            "password",
            Value::String("p".to_owned()),
            "is secret and would be stored in clear",
        ),
    ] {
        let refused = insert(&store, &thing, message(&thing, &[(field, value)])).await;
        let refused = refused.unwrap_err().to_string();
        assert!(
            refused.starts_with(&format!("thing: field {field} {problem}")),
            "{refused}"
        );
    }

    let mut newer = message(&thing, &[]).encode_to_vec();
    newer.extend([0xf8, 0x06, 1]); // Field 111.
    let newer = DynamicMessage::decode(thing.message.clone(), newer.as_slice()).unwrap();
    let refused = insert(&store, &thing, newer).await.unwrap_err().to_string();
    assert!(
        refused.starts_with("thing: field number 111 is unknown here"),
        "{refused}"
    );

    let zone = Catalog::built_in()
        .resource("zone")
        .unwrap()
        .message
        .clone();
    let refused = insert(&store, &thing, DynamicMessage::new(zone))
        .await
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "a cairn.compute.v1alpha1.Zone is no thing"
    );
}

async fn a_message_known_at_run_time_only_is_changed_and_deleted(database: Database) {
    let (store, thing) = things(database).await;
    insert(&store, &thing, message(&thing, &[])).await.unwrap();
    let resource = Arc::clone(&thing);
    let outcome = store.write(move |tx| {
        let thing = Arc::clone(&resource);
        Box::pin(async move {
            let changed = message(&thing, &[("name", Value::String("n".to_owned()))]);
            assert!(tx.update_dynamic(&thing, &changed).await?);
            assert!(tx.get_dynamic(&thing, "u").await? == Some(changed));
            assert!(tx.delete_dynamic(&thing, "u").await?);
            tx.get_dynamic(&thing, "u").await
        })
    });
    assert!(outcome.await.unwrap().is_none());
}

/// Values of statements that are written by hand.
async fn values_are_kept_as_they_are_and_compared_as_bytes(database: Database) {
    use cairn_store::Value::{Bytes as B, Double, Int, Null, Text};

    let (store, _) = things(database).await;
    let write = async |sql: &'static str, values: Vec<cairn_store::Value>| {
        let write = store.write(move |tx| {
            let values = values.clone();
            Box::pin(async move { tx.rows(sql, values).await })
        });
        write.await
    };
    let table = "CREATE TABLE cell (number BIGINT, text TEXT, blob BYTEA, ratio DOUBLE PRECISION)";
    write(table, vec![]).await.unwrap();

    let insert = "INSERT INTO cell (number, text, blob, ratio) VALUES (?, ?, ?, ?) \
                  RETURNING number, text, blob, ratio";
    let blob = B(Bytes::from_static(b"\0\xff"));
    for (given, kept) in [
        (vec![Int(1), Null, Null, Null], None),
        (vec![Int(2), Text("B".into()), blob, Double(0.5)], None),
        (
            vec![
                Int(i64::MIN),
                Text("a?".into()),
                Null,
                Double(f64::INFINITY),
            ],
            None,
        ),
        (
            vec![
                Int(i64::MAX),
                Text("\u{e4}".into()),
                Null,
                Double(f64::MIN_POSITIVE),
            ],
            None,
        ),
        // What one of the databases would not keep is the same on both.
        (
            vec![Int(3), Text("_".into()), Null, Double(-0.0)],
            Some(Double(0.0)),
        ),
        (
            vec![Int(4), Text(String::new()), Null, Int(7)],
            Some(Double(7.0)),
        ),
    ] {
        let rows = write(insert, given.clone()).await.unwrap();
        let mut expected = given;
        if let Some(kept) = kept {
            expected[3] = kept;
        }
        let found = format!("{:?}", rows[0].values());
        assert_eq!(found, format!("{expected:?}"));
    }

    let numbers = async |end: &str, values: Vec<cairn_store::Value>| {
        let rows = store
            .rows(&format!("SELECT number FROM cell {end}"), values)
            .await;
        let rows = rows.unwrap();
        let numbers: Vec<_> = rows.iter().map(|row| row.int(0).unwrap()).collect();
        numbers
    };
    let (least, most) = (i64::MIN, i64::MAX);
    for (end, values, expected) in [
        (
            "ORDER BY text NULLS FIRST",
            vec![],
            vec![1, 4, 2, 3, least, most],
        ),
        (
            "ORDER BY ratio DESC NULLS LAST LIMIT ?",
            vec![Int(2)],
            vec![least, 4],
        ),
        (
            "WHERE number > ? ORDER BY number LIMIT 1 OFFSET ?",
            vec![Int(0), Int(2)],
            vec![3],
        ),
        ("WHERE text = ?", vec![Text("b".into())], vec![]),
        ("WHERE text LIKE ?", vec![Text("b".into())], vec![2]),
        ("WHERE text LIKE ?", vec![Text("\u{c4}".into())], vec![]),
        ("WHERE text = ?", vec![Null], vec![]),
        (
            "WHERE text > ? AND text < ?",
            vec![Text("_".into()), Text("\u{e4}".into())],
            vec![least],
        ),
        (
            "WHERE text IN (?, '?') AND number < ?",
            vec![Text("a?".into()), Int(0)],
            vec![least],
        ),
    ] {
        assert_eq!(numbers(end, values).await, expected, "{end}");
    }
    let sums = "SELECT COUNT(*), COUNT(text), MAX(number), CAST(SUM(number) AS BIGINT), \
                SUM(ratio), number IS NULL FROM cell WHERE number IN (1, 2, 3) GROUP BY 6";
    let rows = store.rows(sums, vec![]).await.unwrap();
    let expected = [Int(3), Int(2), Int(3), Int(6), Double(0.5), Int(0)];
    assert_eq!(rows[0].values(), expected);

    // One that is made unless another is there, with values that stand in a SELECT.
    let unless = "INSERT INTO cell (number, text) SELECT ?, ? \
                  WHERE NOT EXISTS (SELECT 1 FROM cell WHERE text = ?) RETURNING number";
    for (number, made) in [(10, 1), (11, 0)] {
        let values = vec![Int(number), Text("once".into()), Text("once".into())];
        assert_eq!(write(unless, values).await.unwrap().len(), made);
    }

    for (value, problem) in [
        (Text("a\0b".into()), "a text contains a zero character"),
        (Double(f64::NAN), "a double is not a number"),
    ] {
        let refused = store
            .rows("SELECT number FROM cell WHERE text = ?", vec![value])
            .await;
        let refused = cairn_types::chain(&refused.unwrap_err());
        assert!(refused.contains(problem), "{refused}");
    }
}
