//! Queries over resources that exist in this test only, as those of a plugin do: what they find,
//! what is refused and how, and random ones against a simple evaluator.

#![expect(
    clippy::unwrap_used,
    reason = "tests; clippy excuses only what stands in the test functions themselves"
)]

mod finds;
mod random;
mod refuses;

use std::sync::Arc;

use cairn_proto::{
    meta::{Catalog, ResourceType},
    query::v1alpha1::{Condition, Operator, Query},
};
use cairn_query::{Found, QueryError, query};
use cairn_store::StoreError;
use cairn_testkit::{Database, TestStore, proto_set, tables_of};
use prost_reflect::DynamicMessage;
use serde_json::{Deserializer, Value, json};

const LIBRARY: &str = r#"
syntax = "proto3";
package library.v1;
import "cairn/meta/v1alpha1/annotations.proto";
import "google/protobuf/timestamp.proto";

message Shelf {
  option (cairn.meta.v1alpha1.resource) = { name: "book-shelf" plural: "book-shelves" };
  string uuid = 1;
  string name = 2;
  string description = 3;
  string account_uuid = 4;
  google.protobuf.Timestamp create_time = 5;
  google.protobuf.Timestamp last_operation_time = 6;
  optional string room = 10;
  optional int64 width = 11;
}

enum Genre {
  GENRE_UNSPECIFIED = 0;
  GENRE_NOVEL = 1;
  GENRE_SCIENCE_FICTION = 2;
}

message Book {
  option (cairn.meta.v1alpha1.resource) = { name: "book" plural: "books" };
  string uuid = 1;
  string name = 2;
  string description = 3;
  string account_uuid = 4;
  google.protobuf.Timestamp create_time = 5;
  google.protobuf.Timestamp last_operation_time = 6;
  optional string book_shelf_uuid = 10 [(cairn.meta.v1alpha1.field).references = "book-shelf"];
  optional string lent_to = 11;
  Genre genre = 12;
  int32 pages = 13;
  optional int64 copies = 14;
  uint64 isbn = 15;
  bool signed = 16;
  optional double price = 17;
  float weight = 18;
  optional bytes cover = 19;
  optional google.protobuf.Timestamp printed = 20;
  string password = 21 [(cairn.meta.v1alpha1.field).secret = true];
  optional string sequel_uuid = 22 [(cairn.meta.v1alpha1.field).references = "book"];
  optional string original_uuid = 23 [(cairn.meta.v1alpha1.field).references = "book"];
  string order = 24;
}
"#;

/// A database with shelves and books, and nothing of Cairn's own.
async fn library(database: Database) -> TestStore {
    let catalog = Arc::new(Catalog::with(&[&proto_set(LIBRARY)]).unwrap());
    let nouns = ["book-shelf", "book"];
    let tables = tables_of(nouns.map(|noun| &**catalog.resource(noun).unwrap()));
    TestStore::with(database, catalog, &[tables]).await
}

fn resource(store: &TestStore, noun: &str) -> Arc<ResourceType> {
    Arc::clone(store.catalog().resource(noun).unwrap())
}

/// Stores rows, in their JSON form; first deletes those that are there.
async fn fill(store: &TestStore, shelves: Vec<Value>, books: Vec<Value>) {
    let mut rows = Vec::new();
    for (noun, values) in [("book-shelf", shelves), ("book", books)] {
        let resource = resource(store, noun);
        for value in values {
            let text = value.to_string();
            let mut json = Deserializer::from_str(&text);
            let row = DynamicMessage::deserialize(resource.message.clone(), &mut json).unwrap();
            rows.push((Arc::clone(&resource), row));
        }
    }
    let write = store.write(move |tx| {
        let rows = rows.clone();
        Box::pin(async move {
            for table in ["book", "book_shelf"] {
                tx.execute(&format!("DELETE FROM {table}"), Vec::new())
                    .await?;
            }
            for (resource, row) in &rows {
                tx.insert_dynamic(resource, row).await?;
            }
            Ok::<_, StoreError>(())
        })
    });
    write.await.unwrap();
}

async fn run(store: &TestStore, noun: &str, asked: &Query) -> Result<Found, QueryError> {
    query(store, &resource(store, noun), asked).await
}

/// The uuids of those found.
async fn found(store: &TestStore, noun: &str, asked: &Query) -> Vec<String> {
    let found = run(store, noun, asked).await.unwrap();
    let rows = found.rows.into_iter();
    rows.map(|row| {
        let message = resource(store, noun).message.clone();
        let row = DynamicMessage::decode(message, row).unwrap();
        let uuid = row.get_field_by_name("uuid").unwrap();
        uuid.as_str().unwrap().to_owned()
    })
    .collect()
}

fn condition(field: &str, operator: Operator, values: &[&str]) -> Condition {
    Condition {
        field: field.to_owned(),
        operator: operator.into(),
        values: values.iter().map(|value| (*value).to_owned()).collect(),
    }
}

fn having(conditions: impl Into<Vec<Condition>>) -> Query {
    Query {
        conditions: conditions.into(),
        ..Query::default()
    }
}

/// Two shelves and four books; `d` stands nowhere.
async fn small_library(database: Database) -> TestStore {
    let store = library(database).await;
    fill(
        &store,
        vec![
            json!({"uuid": "s", "name": "south", "room": "hall", "width": "80"}),
            json!({"uuid": "n", "name": "north"}),
        ],
        vec![
            json!({
                "uuid": "a", "name": "Dune", "bookShelfUuid": "s", "genre": "GENRE_SCIENCE_FICTION",
                "pages": 412, "copies": "2", "isbn": "9780441013593", "sequelUuid": "b",
                "printed": "1965-08-01T00:00:00Z", "createTime": "2026-01-03T00:00:00Z",
                "weight": 0.1, "order": "first",
            }),
            json!({
                "uuid": "b", "name": "Dune Messiah", "bookShelfUuid": "s", "originalUuid": "a",
                "genre": "GENRE_SCIENCE_FICTION", "pages": 256, "lentTo": "ann", "signed": true,
                "createTime": "2026-01-02T00:00:00Z",
            }),
            json!({
                "uuid": "c", "name": "100% Übermut_", "bookShelfUuid": "n", "genre": "GENRE_NOVEL",
                "pages": 90, "price": 9.5, "cover": "AAE=", "createTime": "2026-01-02T00:00:00Z",
            }),
            json!({"uuid": "d", "name": "", "pages": -1, "lentTo": ""}),
        ],
    )
    .await;
    store
}
