//! Bad input is answered with the field and what would be right, and changes nothing.

mod compute;
mod others;

use cairn_e2e::Cloud;
use cairn_proto::{
    call::{Answer, Call, Context, Method, Payload, Rpc},
    compute::v1alpha1::{GetZoneRequest, QueryZoneRequest},
    fault::Fault,
    meta::Catalog,
    query::v1alpha1::{Condition, Operator, Query, QueryClient, QueryRequest},
};
use cairn_types::{AccountUuid, ErrorCode};
use futures::StreamExt as _;
use prost::Message as _;
use prost_reflect::MethodDescriptor;

struct Case {
    method: &'static Method,
    request: Vec<u8>,
    /// The field that is wrong, and a part of what is said of it.
    field: &'static str,
    problem: &'static str,
}

fn case<M: Rpc>(request: M, field: &'static str, problem: &'static str) -> Case {
    Case {
        method: M::METHOD,
        request: request.encode_to_vec(),
        field,
        problem,
    }
}

const MISSING: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

fn query(field: &str, operator: Operator, values: &[&str]) -> Option<Query> {
    let condition = Condition {
        field: field.to_owned(),
        operator: operator.into(),
        values: values.iter().map(|v| (*v).to_owned()).collect(),
    };
    Some(Query {
        conditions: vec![condition],
        ..Default::default()
    })
}

/// Every rpc of the public door.
fn public_rpcs() -> Vec<MethodDescriptor> {
    let pool = Catalog::built_in().pool().clone();
    let methods = pool
        .services()
        .flat_map(|service| service.methods().collect::<Vec<_>>());
    let public = methods.filter(|method| {
        let mut private = [".internal.", ".ext."].iter();
        !private.any(|package| method.full_name().contains(package))
    });
    public.collect()
}

/// Every rpc that names a resource gets a key that is no uuid, every query a field that is not
/// there: from the descriptors, so that a new rpc is covered without a line here.
fn cases_of_every_rpc() -> Vec<Case> {
    public_rpcs()
        .into_iter()
        .filter_map(|described| {
            let input = described.input();
            let first = input.get_field(1)?;
            let (request, field, problem) = if input.get_field_by_name("query").is_some() {
                if first.name() != "query" {
                    return None;
                }
                let query = query("colour", Operator::Eq, &["red"])?;
                let request = QueryZoneRequest { query: Some(query) };
                (request.encode_to_vec(), "conditions[0].field", "colour")
            } else if !first.name().ends_with("uuid") {
                return None;
            } else {
                // A key that a create request brings is checked like any other.
                let request = GetZoneRequest {
                    uuid: "east".to_owned(),
                };
                let field = &*first.name().to_owned().leak();
                (request.encode_to_vec(), field, "is not a uuid")
            };
            let service = described.parent_service().full_name().to_owned();
            let method = Method {
                path: format!("/{service}/{}", described.name()).leak(),
                service: service.leak(),
                name: described.name().to_owned().leak(),
                streaming: described.is_server_streaming(),
                internal: false,
                key: None,
            };
            Some(Case {
                method: Box::leak(Box::new(method)),
                request,
                field,
                problem,
            })
        })
        .collect()
}

async fn refused(cloud: &Cloud, case: &Case) -> Fault {
    let call = Call {
        method: case.method,
        key: None,
        implementer: None,
        context: Context::of(AccountUuid::ADMIN),
        payload: Payload::Encoded(case.request.clone().into()),
    };
    let status = match cloud.mesh().call(call).await {
        Err(status) => status,
        Ok(Answer::Stream(mut stream)) => loop {
            match stream.next().await {
                Some(Ok(_)) => {}
                Some(Err(status)) => break status,
                None => panic!("{}: {} was accepted", case.method.path, case.field),
            }
        },
        Ok(_) => panic!("{}: {} was accepted", case.method.path, case.field),
    };
    Fault::from_status(&status)
}

async fn everything(cloud: &Cloud) -> Vec<(String, u64)> {
    let queries = QueryClient::new(cloud.mesh());
    let mut counts = Vec::new();
    let resources = Catalog::built_in();
    for resource in resources.resources().map(|resource| resource.name.clone()) {
        if resource == "operation" {
            // What is refused after it was accepted is an operation that failed.
            continue;
        }
        let query = Some(Query {
            count: true,
            ..Default::default()
        });
        let request = QueryRequest {
            resource: resource.clone(),
            query,
        };
        let total = queries.query(request).await.unwrap().total.unwrap();
        counts.push((resource, total));
    }
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_is_answered_with_field_and_reason_and_changes_nothing() {
    let cloud = Cloud::start().await;
    cloud.site(1).await;
    let before = everything(&cloud).await;
    let written = compute::cases().into_iter().chain(others::cases());
    let cases: Vec<_> = cases_of_every_rpc().into_iter().chain(written).collect();
    let rpcs = public_rpcs();
    assert!(rpcs.len() > 60, "only {} rpcs", rpcs.len());
    for rpc in rpcs {
        let path = format!("/{}/{}", rpc.parent_service().full_name(), rpc.name());
        let has_one = cases.iter().any(|case| case.method.path == path);
        assert!(has_one, "{path} has no case");
    }
    for case in cases {
        let fault = refused(&cloud, &case).await;
        let path = case.method.path;
        assert_eq!(fault.code, ErrorCode::InvalidArgument, "{path}: {fault:?}");
        let told = fault.fields.iter().find(|(field, _)| field == case.field);
        let (_, problem) = told.unwrap_or_else(|| panic!("{path}: no {} in {fault:?}", case.field));
        assert!(
            problem.contains(case.problem),
            "{path}: {}: {problem}",
            case.field
        );
    }
    assert_eq!(everything(&cloud).await, before);
}
