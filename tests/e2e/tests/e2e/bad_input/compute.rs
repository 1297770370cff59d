//! Zones, clusters, hosts, offerings and virtual machines.

use cairn_proto::{
    compute::v1alpha1::{
        CreateClusterRequest, CreateHostRequest, CreateInstanceOfferingRequest,
        CreateVmInstanceRequest, CreateZoneRequest, EnrollHostRequest,
        GetVmInstanceConsoleLogRequest, GetZoneRequest, QueryZoneRequest, UpdateHostRequest,
        UpdateZoneRequest,
    },
    query::v1alpha1::Operator,
};

use super::{Case, MISSING, case, query};

pub(super) fn cases() -> Vec<Case> {
    [zones(), clusters_and_hosts(), virtual_machines()]
        .into_iter()
        .flatten()
        .collect()
}

fn name() -> String {
    "x".to_owned()
}

fn uuid() -> String {
    MISSING.to_owned()
}

fn zones() -> Vec<Case> {
    let named = |name: &str| CreateZoneRequest {
        name: name.to_owned(),
        ..Default::default()
    };
    let described = CreateZoneRequest {
        description: "x".repeat(2_049),
        ..named("x")
    };
    let update = |name: Option<&str>, state| UpdateZoneRequest {
        uuid: uuid(),
        name: name.map(str::to_owned),
        state,
        ..Default::default()
    };
    let by_state = QueryZoneRequest {
        query: query("state", Operator::Eq, &["On"]),
    };
    vec![
        case(named(""), "name", "is empty"),
        case(named(&"x".repeat(256)), "name", "255"),
        case(named("a\u{7}"), "name", "control"),
        case(described, "description", "2048 is the most"),
        case(GetZoneRequest::default(), "uuid", "is missing"),
        case(by_state, "conditions[0].values", "Enabled"),
        case(update(Some(""), None), "name", "is empty"),
        case(update(None, Some(7)), "state", "Enabled, Disabled"),
    ]
}

fn clusters_and_hosts() -> Vec<Case> {
    let cluster = |zone_uuid: &str, hypervisor_type| CreateClusterRequest {
        name: name(),
        zone_uuid: zone_uuid.to_owned(),
        hypervisor_type,
        ..Default::default()
    };
    let host = |address: &str| CreateHostRequest {
        name: name(),
        cluster_uuid: uuid(),
        address: address.to_owned(),
        ..Default::default()
    };
    let moved = UpdateHostRequest {
        uuid: uuid(),
        address: Some("x".into()),
        ..Default::default()
    };
    let enroll = |certificate_request: &str| EnrollHostRequest {
        uuid: uuid(),
        certificate_request: certificate_request.to_owned(),
    };
    vec![
        case(cluster(MISSING, 0), "hypervisor_type", "Kvm, Simulator"),
        case(cluster("", 1), "zone_uuid", "is missing"),
        case(cluster(MISSING, 1), "zone_uuid", "there is no zone"),
        case(host("example.org:1"), "address", "an IP address and a port"),
        case(host("192.0.2.1:0"), "address", "an IP address and a port"),
        case(
            host("192.0.2.1:7443"),
            "cluster_uuid",
            "there is no cluster",
        ),
        case(moved, "address", "an IP address and a port"),
        case(enroll("x"), "certificate_request", "PKCS #10"),
        case(
            enroll("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n"),
            "certificate_request",
            "",
        ),
    ]
}

fn virtual_machines() -> Vec<Case> {
    let offering = |cpu_count, memory_bytes| CreateInstanceOfferingRequest {
        name: name(),
        cpu_count,
        memory_bytes,
        ..Default::default()
    };
    let vm = |networks: Vec<String>| CreateVmInstanceRequest {
        name: name(),
        instance_offering_uuid: uuid(),
        image_uuid: uuid(),
        l3_network_uuids: networks,
        ..Default::default()
    };
    let pinned = CreateVmInstanceRequest {
        host_uuid: Some("h1".into()),
        ..vm(vec![uuid()])
    };
    let console = |limit_bytes| GetVmInstanceConsoleLogRequest {
        uuid: uuid(),
        limit_bytes: Some(limit_bytes),
        ..Default::default()
    };
    vec![
        case(console(0), "limit_bytes", "give 1 to 1048576"),
        case(console(1_048_577), "limit_bytes", "give 1 to 1048576"),
        case(offering(0, 1 << 30), "cpu_count", "give 1 to 1024"),
        case(offering(1, 1 << 20), "memory_bytes", "give 16777216 to"),
        case(
            vm(vec![]),
            "l3_network_uuids",
            "has 0 networks; give 1 to 8",
        ),
        case(
            vm(vec![uuid(), uuid()]),
            "l3_network_uuids",
            "names a network twice",
        ),
        case(vm(vec!["lan".into()]), "l3_network_uuids", "is not a uuid"),
        case(pinned, "host_uuid", "is not a uuid"),
    ]
}
