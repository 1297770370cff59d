//! The store, seen from outside: writing, opening, and what rows keep of messages.

#![expect(
    clippy::unwrap_used,
    reason = "tests; clippy excuses only what stands in the test functions themselves"
)]

mod going;
mod opening;
mod reading;
mod rows;
mod server;
mod tls;
mod writing;

use std::sync::Arc;

use cairn_proto::{
    compute::v1alpha1::{Cluster, Zone},
    meta::{Catalog, Resource},
};
use cairn_testkit::{Database, TestStore, tables_of};

/// A store with tables for the built-in resources.
async fn built_in(database: Database) -> TestStore {
    let catalog = Catalog::built_in();
    let tables = tables_of(catalog.resources().map(|resource| &**resource));
    TestStore::with(database, Arc::clone(&catalog), &[tables]).await
}

fn zone(uuid: &str) -> Zone {
    let mut zone = Zone {
        uuid: uuid.to_owned(),
        name: "east".to_owned(),
        state: 1,
        ..Zone::default()
    };
    zone.stamp(prost_types::Timestamp {
        seconds: 1,
        nanos: 2_000,
    });
    zone
}

fn cluster(uuid: &str, zone_uuid: &str) -> Cluster {
    Cluster {
        uuid: uuid.to_owned(),
        zone_uuid: zone_uuid.to_owned(),
        ..Cluster::default()
    }
}
