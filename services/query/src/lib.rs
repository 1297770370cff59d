//! The generic query rpc: one for every type of resource, also those that plugins bring.

use cairn_proto::{
    fault::Fault,
    query::v1alpha1::{QueryRequest, QueryResponse, query_service_server::QueryService},
};
use cairn_query::{query, suggest};
use cairn_store::Store;
use prost_types::Any;
use tonic::{Request, Response, Status, async_trait};

/// The query service over one database.
#[derive(Debug, Clone)]
pub struct QueryApi {
    store: Store,
}

impl QueryApi {
    /// The service over `store`.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    async fn run(&self, request: QueryRequest) -> Result<QueryResponse, Fault> {
        let noun = &request.resource;
        let known = self.store.catalog().resource(noun);
        let resource = known.filter(|resource| self.store.has_table(&resource.name));
        let resource = resource.ok_or_else(|| {
            let nouns = self.store.catalog().resources();
            let nouns = nouns.map(|resource| resource.name.as_str());
            let suggestion = suggest(noun, nouns.filter(|noun| self.store.has_table(noun)));
            Fault::field(
                "resource",
                format!("there is no resource `{noun}`{suggestion}"),
            )
        })?;
        let asked = request.query.unwrap_or_default();
        let found = query(&self.store, resource, &asked).await?;
        let type_url = format!("type.googleapis.com/{}", resource.message.full_name());
        let items = found.rows.into_iter().map(|row| Any {
            type_url: type_url.clone(),
            value: row.into(),
        });
        Ok(QueryResponse {
            items: items.collect(),
            total: found.total,
        })
    }
}

#[async_trait]
impl QueryService for QueryApi {
    async fn query(
        &self,
        request: Request<QueryRequest>,
    ) -> Result<Response<QueryResponse>, Status> {
        Ok(self.run(request.into_inner()).await.map(Response::new)?)
    }
}

#[cfg(test)]
mod tests {
    use cairn_proto::{
        compute::v1alpha1::Zone,
        fault::Fault,
        meta::Catalog,
        query::v1alpha1::{Condition, Operator, Query},
    };
    use cairn_store::StoreError;
    use cairn_testkit::{Database, TestStore, on_both_databases, tables_of};
    use prost::Name as _;

    use super::*;

    on_both_databases!(rows_travel_as_what_they_are, what_is_wrong_is_named,);

    async fn store(database: Database) -> TestStore {
        let catalog = Catalog::built_in();
        let nouns = ["zone", "cluster"];
        let tables = tables_of(nouns.map(|noun| &**catalog.resource(noun).unwrap()));
        TestStore::with(database, catalog, &[tables]).await
    }

    fn request(resource: &str, field: &str) -> Request<QueryRequest> {
        let condition = Condition {
            field: field.to_owned(),
            operator: Operator::Eq.into(),
            values: vec!["east".to_owned()],
        };
        Request::new(QueryRequest {
            resource: resource.to_owned(),
            query: Some(Query {
                conditions: vec![condition],
                reply_with_count: true,
                ..Query::default()
            }),
        })
    }

    async fn rows_travel_as_what_they_are(database: Database) {
        let store = store(database).await;
        let zone = Zone {
            uuid: "z".to_owned(),
            name: "east".to_owned(),
            state: 1,
            ..Zone::default()
        };
        let row = zone.clone();
        let write = store.write(move |tx| {
            let row = row.clone();
            Box::pin(async move { tx.insert(&row).await })
        });
        write.await.map_err(|error: StoreError| error).unwrap();
        let api = QueryApi::new((*store).clone());
        let response = api.query(request("zone", "name")).await.unwrap();
        let response = response.into_inner();
        assert_eq!(response.total, Some(1));
        assert_eq!(
            response.items[0].type_url,
            "type.googleapis.com/cairn.compute.v1alpha1.Zone"
        );
        assert_eq!(Zone::type_url(), "/cairn.compute.v1alpha1.Zone");
        assert_eq!(
            <Zone as prost::Message>::decode(&*response.items[0].value).unwrap(),
            zone
        );
    }

    async fn what_is_wrong_is_named(database: Database) {
        let store = store(database).await;
        let api = QueryApi::new((*store).clone());
        for (resource, field, expected) in [
            (
                "zones",
                "name",
                (
                    "resource",
                    "there is no resource `zones`; did you mean `zone`?",
                ),
            ),
            (
                "host",
                "name",
                (
                    "resource",
                    "there is no resource `host`; there are cluster, zone",
                ),
            ),
            (
                "zone",
                "nam",
                (
                    "conditions[0].field",
                    "zone has no field `nam`; did you mean `name`?",
                ),
            ),
        ] {
            let status = api.query(request(resource, field)).await.unwrap_err();
            assert_eq!(status.code(), tonic::Code::InvalidArgument);
            let fields = Fault::from_status(&status).fields;
            assert_eq!(fields, [(expected.0.to_owned(), expected.1.to_owned())]);
        }
    }
}
