//! A type of resource that exists in this test only, as one of a plugin does: it is stored, queried,
//! shown by the command line and deleted by a cascade, without a line of code for it anywhere else.

use std::sync::Arc;

use cairn_e2e::Cloud;
use cairn_node::{Additions, Node};
use cairn_proto::meta::Catalog;
use cairn_store::{BoxFuture, StoreError};
use cairn_testkit::{proto_set, tables_of};
use prost_reflect::{DynamicMessage, Value};

use crate::cli::cairn;

const SHELVES: &str = r#"
syntax = "proto3";
package library.v1;
import "cairn/meta/v1alpha1/annotations.proto";
import "google/protobuf/timestamp.proto";

// A shelf for books in a zone.
message Shelf {
  option (cairn.meta.v1alpha1.resource) = {
    name: "shelf"
    plural: "shelves"
    columns: ["width"]
  };
  string uuid = 1;
  string name = 2;
  string description = 3;
  string account_uuid = 4;
  google.protobuf.Timestamp create_time = 5;
  google.protobuf.Timestamp last_operation_time = 6;
  string zone_uuid = 10 [(cairn.meta.v1alpha1.field) = {
    references: "zone"
    on_delete: ON_DELETE_DELETE
  }];
  int64 width = 11;
}

// A book on a shelf.
message Book {
  option (cairn.meta.v1alpha1.resource) = { name: "book" plural: "books" };
  string uuid = 1;
  string name = 2;
  string description = 3;
  string account_uuid = 4;
  google.protobuf.Timestamp create_time = 5;
  google.protobuf.Timestamp last_operation_time = 6;
  string shelf_uuid = 10 [(cairn.meta.v1alpha1.field) = {
    references: "shelf"
    on_delete: ON_DELETE_DELETE
  }];
}
"#;

/// Stores a resource of a type that is known at run time only.
async fn store(node: &Node, noun: &str, fields: &[(&str, Value)]) -> Result<(), StoreError> {
    let resource = Arc::clone(node.store().catalog().resource(noun).unwrap());
    let mut row = DynamicMessage::new(resource.message.clone());
    for (field, value) in fields {
        row.set_field_by_name(field, value.clone());
    }
    let written = node
        .store()
        .write(move |tx| -> BoxFuture<'_, Result<(), StoreError>> {
            let (resource, row) = (Arc::clone(&resource), row.clone());
            Box::pin(async move { tx.insert_dynamic(&resource, &row).await })
        });
    written.await
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_stored_queried_shown_and_cascaded() {
    let catalog = Arc::new(Catalog::with(&[&proto_set(SHELVES)]).unwrap());
    let own = ["shelf", "book"].map(|noun| &**catalog.resource(noun).unwrap());
    let additions = Additions {
        migrations: vec![tables_of(own)],
        catalog: Some(Arc::clone(&catalog)),
        ..Additions::default()
    };
    let cloud = Cloud::prepare().await;
    let node = Node::start_with(cloud.config(), additions).await.unwrap();

    let made = cairn(&cloud, "create zone --name east --json").await;
    let zone: serde_json::Value = serde_json::from_str(&made.out).unwrap();
    let zone = zone["uuid"].as_str().unwrap();
    for (number, width) in [(1, 80), (2, 120)] {
        let (shelf, book) = (format!("shelf-{number}"), format!("book-{number}"));
        let fields = [
            ("uuid", text(&shelf)),
            ("name", text(&shelf)),
            ("zone_uuid", text(zone)),
            ("width", Value::I64(width)),
        ];
        store(&node, "shelf", &fields).await.unwrap();
        let fields = [
            ("uuid", text(&book)),
            ("name", text(&format!("volume {number}"))),
            ("shelf_uuid", text(&shelf)),
        ];
        store(&node, "book", &fields).await.unwrap();
    }

    let fields = cairn(&cloud, "resources shelf").await;
    assert!(fields.out.contains("width"), "{}{}", fields.out, fields.err);
    let wide = cairn(&cloud, "query shelf zone.name=east width>100").await;
    assert!(
        wide.out.contains("shelf-2") && wide.out.contains("120"),
        "{}",
        wide.out
    );
    assert!(!wide.out.contains("shelf-1"), "{}", wide.out);
    let books = cairn(&cloud, "query book shelf.zone.name=east --json").await;
    assert!(books.out.contains("volume 1"), "{}{}", books.out, books.err);
    let zones = cairn(&cloud, "query zone shelves.books.name~=volume% --count").await;
    assert!(zones.out.contains('1'), "{}{}", zones.out, zones.err);

    let refused = cairn(&cloud, &format!("delete zone {zone}")).await;
    assert!(refused.err.contains("2 shelf"), "{}", refused.err);
    let planned = cairn(&cloud, "delete zone east --plan").await;
    assert_eq!(planned.code, 0, "{}", planned.err);
    let expected = "  shelf shelf-1  shelf-1\n    book volume 1  book-1\n";
    assert!(planned.out.contains(expected), "{}", planned.out);
    let expected = "delete zone east: 5 resources: 2 book, 2 shelf, 1 zone";
    assert!(planned.out.contains(expected), "{}", planned.out);
    assert_eq!(cloud.count("book").await, 2);
    let plans = cairn(&cloud, "query cascade-plan --json").await;
    let plans: serde_json::Value = serde_json::from_str(&plans.out).unwrap();
    let plan = plans["cascadePlans"][0]["uuid"].as_str().unwrap();
    assert!(planned.out.contains(plan), "{}", planned.out);
    let shown = cairn(&cloud, &format!("get cascade-plan {plan}")).await;
    assert!(planned.out.starts_with(&shown.out), "{}", shown.out);

    let deleted = cairn(&cloud, "delete zone east --cascade").await;
    assert_eq!(deleted.code, 0, "{}", deleted.err);
    assert!(
        deleted.out.contains("deleted 5 resources"),
        "{}",
        deleted.out
    );
    for noun in ["zone", "shelf", "book"] {
        assert_eq!(cloud.count(noun).await, 0, "{noun}");
    }

    // What is going takes nothing new, whoever stores it.
    let made = cairn(&cloud, "create zone --name west --json").await;
    let zone: serde_json::Value = serde_json::from_str(&made.out).unwrap();
    let zone = zone["uuid"].as_str().unwrap().to_owned();
    let going = zone.clone();
    let marked = node
        .store()
        .write(move |tx| -> BoxFuture<'_, Result<(), StoreError>> {
            let going = going.clone();
            Box::pin(async move { tx.mark_going("plan", &[&going]).await })
        });
    marked.await.unwrap();
    let fields = [("uuid", text("shelf-3")), ("zone_uuid", text(&zone))];
    let late = store(&node, "shelf", &fields).await.unwrap_err();
    assert!(matches!(late, StoreError::Going { .. }), "{late}");
    assert_eq!(cloud.count("shelf").await, 0);
    node.stop(std::time::Duration::from_secs(10)).await;
}
