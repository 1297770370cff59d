//! Bad input is answered with the field and what would be right, and changes nothing.

use cairn_e2e::Cloud;
use cairn_proto::{
    call::{Call, Context, Method, Payload},
    compute::v1alpha1::*,
    fault::Fault,
    operation::v1alpha1::*,
    query::v1alpha1::{Condition, Operator, Query, QueryClient, QueryRequest},
};
use cairn_types::{AccountUuid, ErrorCode};
use futures::StreamExt as _;

struct Case {
    method: &'static Method,
    request: Vec<u8>,
    /// The field that is wrong, and a part of what is said of it.
    field: &'static str,
    problem: &'static str,
}

fn case<M: cairn_proto::call::Rpc>(request: M, field: &'static str, problem: &'static str) -> Case {
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

fn cases() -> Vec<Case> {
    let name = || "x".to_owned();
    let uuid = || MISSING.to_owned();
    vec![
        case(CreateZoneRequest::default(), "name", "is empty"),
        case(
            CreateZoneRequest {
                name: "x".repeat(256),
                ..Default::default()
            },
            "name",
            "255",
        ),
        case(
            CreateZoneRequest {
                name: "a\u{7}".into(),
                ..Default::default()
            },
            "name",
            "control",
        ),
        case(
            CreateZoneRequest {
                name: name(),
                uuid: "east".into(),
                ..Default::default()
            },
            "uuid",
            "is not a uuid",
        ),
        case(
            CreateZoneRequest {
                name: name(),
                description: "x".repeat(2_049),
                ..Default::default()
            },
            "description",
            "2048 is the most",
        ),
        case(GetZoneRequest::default(), "uuid", "is missing"),
        case(
            GetZoneRequest {
                uuid: "east".into(),
            },
            "uuid",
            "is not a uuid",
        ),
        case(
            QueryZoneRequest {
                query: query("colour", Operator::Eq, &["red"]),
            },
            "conditions[0].field",
            "colour",
        ),
        case(
            QueryZoneRequest {
                query: query("state", Operator::Eq, &["On"]),
            },
            "conditions[0].values",
            "Enabled",
        ),
        case(
            UpdateZoneRequest {
                uuid: uuid(),
                name: Some(String::new()),
                ..Default::default()
            },
            "name",
            "is empty",
        ),
        case(
            UpdateZoneRequest {
                uuid: uuid(),
                state: Some(7),
                ..Default::default()
            },
            "state",
            "Enabled, Disabled",
        ),
        case(
            DeleteZoneRequest { uuid: "x".into() },
            "uuid",
            "is not a uuid",
        ),
        case(
            CreateClusterRequest {
                name: name(),
                zone_uuid: uuid(),
                ..Default::default()
            },
            "hypervisor_type",
            "Kvm, Simulator",
        ),
        case(
            CreateClusterRequest {
                name: name(),
                hypervisor_type: 1,
                ..Default::default()
            },
            "zone_uuid",
            "is missing",
        ),
        case(
            CreateClusterRequest {
                name: name(),
                zone_uuid: uuid(),
                hypervisor_type: 1,
                ..Default::default()
            },
            "zone_uuid",
            "there is no zone",
        ),
        case(
            GetClusterRequest { uuid: "x".into() },
            "uuid",
            "is not a uuid",
        ),
        case(
            UpdateClusterRequest {
                uuid: "x".into(),
                ..Default::default()
            },
            "uuid",
            "is not a uuid",
        ),
        case(DeleteClusterRequest::default(), "uuid", "is missing"),
        case(
            CreateHostRequest {
                name: name(),
                cluster_uuid: uuid(),
                address: "example.org:1".into(),
                ..Default::default()
            },
            "address",
            "an IP address and a port",
        ),
        case(
            CreateHostRequest {
                name: name(),
                cluster_uuid: uuid(),
                address: "192.0.2.1:7443".into(),
                ..Default::default()
            },
            "cluster_uuid",
            "there is no cluster",
        ),
        case(GetHostRequest::default(), "uuid", "is missing"),
        case(
            UpdateHostRequest {
                uuid: uuid(),
                address: Some("x".into()),
                ..Default::default()
            },
            "address",
            "an IP address and a port",
        ),
        case(
            DeleteHostRequest { uuid: "x".into() },
            "uuid",
            "is not a uuid",
        ),
        case(
            ReconnectHostRequest { uuid: "x".into() },
            "uuid",
            "is not a uuid",
        ),
        case(
            EnrollHostRequest {
                uuid: uuid(),
                certificate_request: "x".into(),
            },
            "certificate_request",
            "PKCS #10",
        ),
        case(
            EnrollHostRequest {
                uuid: uuid(),
                certificate_request: "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n".into(),
            },
            "certificate_request",
            "",
        ),
        case(
            GetOperationRequest { uuid: "x".into() },
            "uuid",
            "is not a uuid",
        ),
        case(
            WatchOperationRequest {
                uuid: "x".into(),
                after: 0,
            },
            "uuid",
            "is not a uuid",
        ),
        case(
            CancelOperationRequest { uuid: "x".into() },
            "uuid",
            "is not a uuid",
        ),
        case(
            QueryRequest {
                resource: "zonne".into(),
                query: None,
            },
            "resource",
            "zone",
        ),
    ]
}

async fn refused(cloud: &Cloud, case: &Case) -> Fault {
    let call = Call {
        method: case.method,
        key: None,
        context: Context::of(AccountUuid::ADMIN),
        payload: Payload::Encoded(case.request.clone().into()),
    };
    let status = match cloud.mesh().call(call).await {
        Err(status) => status,
        Ok(cairn_proto::call::Answer::Stream(mut stream)) => loop {
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
    for resource in ["zone", "cluster", "host"] {
        let query = Some(Query {
            count: true,
            ..Default::default()
        });
        let request = QueryRequest {
            resource: resource.to_owned(),
            query,
        };
        let total = queries.query(request).await.unwrap().total.unwrap();
        counts.push((resource.to_owned(), total));
    }
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_is_answered_with_field_and_reason_and_changes_nothing() {
    let cloud = Cloud::start().await;
    cloud.site(1).await;
    let before = everything(&cloud).await;
    for case in cases() {
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
