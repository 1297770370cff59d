//! Networks, storages, cascades, operations and the generic query.

use cairn_proto::{
    cascade::v1alpha1::{CreateCascadePlanRequest, GetCascadePlanRequest},
    doctor::v1alpha1::{FixFindingRequest, Problem},
    network::v1alpha1::{
        AttachL2NetworkToClusterRequest, CreateIpRangeRequest, CreateL2NetworkRequest,
        CreateL3NetworkRequest,
    },
    operation::v1alpha1::ListQueueRequest,
    query::v1alpha1::QueryRequest,
    storage::v1alpha1::{
        AttachPrimaryStorageToClusterRequest, BackupStorageType, CompleteImageUploadRequest,
        CreateBackupStorageRequest, CreateImageRequest, CreatePrimaryStorageRequest,
        UpdateBackupStorageRequest, UploadImageChunkRequest,
    },
};

use super::{Case, MISSING, case};

pub(super) fn cases() -> Vec<Case> {
    let all = [
        networks(),
        ranges(),
        storages(),
        backup_storages(),
        uploads(),
        cascades(),
        findings(),
    ];
    all.into_iter().flatten().collect()
}

fn name() -> String {
    "x".to_owned()
}

fn uuid() -> String {
    MISSING.to_owned()
}

fn findings() -> Vec<Case> {
    let fix = |change: fn(&mut FixFindingRequest)| {
        let mut request = FixFindingRequest {
            queue_uuid: uuid(),
            queue_type: "host".to_owned(),
            kind: "tap".to_owned(),
            problem: Problem::Extra.into(),
            host_uuid: Some(uuid()),
            identity: "tap0123456789ab".to_owned(),
            ..FixFindingRequest::default()
        };
        change(&mut request);
        request
    };
    vec![
        case(
            fix(|it| it.queue_type.clear()),
            "queue_type",
            "no type of resource",
        ),
        case(
            fix(|it| it.queue_type = "tap".to_owned()),
            "queue_type",
            "is `tap`",
        ),
        case(fix(|it| it.kind.clear()), "kind", "is empty"),
        case(fix(|it| it.identity.clear()), "identity", "is empty"),
        case(fix(|it| it.problem = 0), "problem", "give"),
        case(fix(|it| it.problem = 99), "problem", "99"),
        case(
            fix(|it| it.host_uuid = Some("web".to_owned())),
            "host_uuid",
            "is not a uuid",
        ),
        case(
            fix(|it| it.depot_type = Some("backup-storage".to_owned())),
            "depot_uuid",
            "goes with depot_type",
        ),
        case(
            fix(|it| {
                it.depot_type = Some("shed".to_owned());
                it.depot_uuid = Some(uuid());
            }),
            "depot_type",
            "is `shed`",
        ),
        case(
            fix(|it| {
                it.depot_type = Some("backup-storage".to_owned());
                it.depot_uuid = Some("images".to_owned());
            }),
            "depot_uuid",
            "is not a uuid",
        ),
        case(
            fix(|it| {
                it.depot_type = Some("backup-storage".to_owned());
                it.depot_uuid = Some(uuid());
            }),
            "depot_uuid",
            "beside host_uuid",
        ),
    ]
}

fn networks() -> Vec<Case> {
    let l2 = |physical_interface: &str, r#type| CreateL2NetworkRequest {
        name: name(),
        zone_uuid: uuid(),
        physical_interface: physical_interface.to_owned(),
        r#type,
        ..Default::default()
    };
    let attach = AttachL2NetworkToClusterRequest {
        uuid: uuid(),
        cluster_uuid: "c1".to_owned(),
    };
    let l3 = CreateL3NetworkRequest {
        name: name(),
        l2_network_uuid: uuid(),
        ..Default::default()
    };
    let query = QueryRequest {
        resource: "zonne".into(),
        query: None,
    };
    let queues = ListQueueRequest {
        queue: "vm-instance".into(),
        ..Default::default()
    };
    vec![
        case(l2("eth0", 0), "type", "NoVlan"),
        case(l2("an-interface-too-long", 1), "physical_interface", "15"),
        case(l2("eth 0", 1), "physical_interface", ""),
        case(l2("eth0", 1), "zone_uuid", "there is no zone"),
        case(attach, "cluster_uuid", "is not a uuid"),
        case(l3, "l2_network_uuid", "there is no l2-network"),
        case(query, "resource", "zone"),
        case(queues, "queue", "vm-instance/"),
    ]
}

fn ranges() -> Vec<Case> {
    let range = |start: &str, end: &str, prefix_length, gateway: &str| CreateIpRangeRequest {
        name: name(),
        l3_network_uuid: uuid(),
        start_ip: start.to_owned(),
        end_ip: end.to_owned(),
        prefix_length,
        gateway: gateway.to_owned(),
        ..Default::default()
    };
    vec![
        case(range("10.0.0", "10.0.0.9", 24, "10.0.0.1"), "start_ip", ""),
        case(
            range("10.0.0.5", "10.0.0.9", 31, "10.0.0.1"),
            "prefix_length",
            "give 8 to 30",
        ),
        case(
            range("10.0.0.0", "10.0.0.9", 24, "10.0.0.1"),
            "start_ip",
            "the address of network",
        ),
        case(
            range("10.0.0.5", "10.0.0.255", 24, "10.0.0.1"),
            "end_ip",
            "broadcast",
        ),
        case(range("10.0.0.9", "10.0.0.5", 24, "10.0.0.1"), "end_ip", ""),
        case(
            range("10.0.0.5", "10.0.1.9", 24, "10.0.0.1"),
            "end_ip",
            "outside of 10.0.0.0/24",
        ),
        case(range("10.0.0.5", "10.0.0.9", 24, "10.0.0.7"), "gateway", ""),
        case(
            range("10.0.0.5", "10.0.0.9", 24, "10.0.1.1"),
            "gateway",
            "outside of",
        ),
        case(
            range("10.0.0.5", "10.0.0.9", 24, "10.0.0.1"),
            "l3_network_uuid",
            "there is no",
        ),
    ]
}

fn storages() -> Vec<Case> {
    let storage = |path: &str, r#type| CreatePrimaryStorageRequest {
        name: name(),
        zone_uuid: uuid(),
        r#type,
        path: path.to_owned(),
        ..Default::default()
    };
    let attach = AttachPrimaryStorageToClusterRequest {
        uuid: uuid(),
        cluster_uuid: String::new(),
    };
    let image = |url: &str, size_bytes, sha256: &str| CreateImageRequest {
        name: name(),
        url: url.to_owned(),
        size_bytes,
        sha256: sha256.to_owned(),
        backup_storage_uuid: uuid(),
        ..Default::default()
    };
    vec![
        case(storage("/pool", 0), "type", "Local"),
        case(storage("pool", 1), "path", ""),
        case(storage("/pool", 1), "zone_uuid", "there is no zone"),
        case(attach, "cluster_uuid", "is missing"),
        case(image("ftp://x/y", None, ""), "url", "http"),
        case(
            image("file:///x", Some(1), ""),
            "size_bytes",
            "give 1048576 to",
        ),
        case(image("file:///x", Some(1 << 30), "abc"), "sha256", "64"),
        case(image("", None, &"ab".repeat(32)), "sha256", "at a URL"),
        case(
            image("file:///x", None, ""),
            "backup_storage_uuid",
            "there is no backup-storage",
        ),
    ]
}

fn backup_storages() -> Vec<Case> {
    let storage = || CreateBackupStorageRequest {
        name: name(),
        r#type: BackupStorageType::Sftp.into(),
        address: "127.0.0.1:22".to_owned(),
        username: "cairn".to_owned(),
        path: "/srv/cairn".to_owned(),
        ..Default::default()
    };
    let wrong = |change: fn(&mut CreateBackupStorageRequest)| {
        let mut request = storage();
        change(&mut request);
        request
    };
    let update = |change: fn(&mut UpdateBackupStorageRequest)| {
        let mut request = UpdateBackupStorageRequest {
            uuid: uuid(),
            ..Default::default()
        };
        change(&mut request);
        request
    };
    vec![
        case(wrong(|it| it.r#type = 0), "type", "Sftp"),
        case(wrong(|it| it.address.clear()), "address", "host:port"),
        case(
            wrong(|it| it.address = "images".into()),
            "address",
            "host:port",
        ),
        case(wrong(|it| it.username.clear()), "username", "is missing"),
        case(wrong(|it| it.username = "a b".into()), "username", "a user"),
        case(
            wrong(|it| it.path = "srv".into()),
            "path",
            "an absolute path",
        ),
        case(wrong(|it| it.path = "/".into()), "path", "root"),
        case(
            wrong(|it| it.host_key = "key".into()),
            "host_key",
            "SHA256:",
        ),
        case(
            update(|it| it.address = Some(":1".into())),
            "address",
            "host:port",
        ),
        case(
            update(|it| it.username = Some(String::new())),
            "username",
            "is missing",
        ),
        case(
            update(|it| it.host_key = Some("x".into())),
            "host_key",
            "SHA256:",
        ),
        case(
            update(|it| it.state = Some(7)),
            "state",
            "Enabled, Disabled",
        ),
    ]
}

fn uploads() -> Vec<Case> {
    let chunk = UploadImageChunkRequest {
        uuid: uuid(),
        offset: 0,
        data: vec![0; (1 << 20) + 1].into(),
    };
    let far = UploadImageChunkRequest {
        offset: u64::MAX,
        data: Vec::new().into(),
        ..chunk.clone()
    };
    let complete = |file_size_bytes, sha256: &str| CompleteImageUploadRequest {
        uuid: uuid(),
        file_size_bytes,
        sha256: sha256.to_owned(),
    };
    vec![
        case(chunk, "data", "give 0 to 1048576"),
        case(far, "offset", "give 0 to"),
        case(
            complete(0, &"ab".repeat(32)),
            "file_size_bytes",
            "give 1 to",
        ),
        case(complete(1, ""), "sha256", "64"),
    ]
}

fn cascades() -> Vec<Case> {
    let plan = |noun: &str, uuid: &str| CreateCascadePlanRequest {
        resource_type: noun.to_owned(),
        resource_uuid: uuid.to_owned(),
        ..Default::default()
    };
    let get = GetCascadePlanRequest {
        uuid: uuid(),
        limit: Some(10_001),
        ..Default::default()
    };
    vec![
        case(
            plan("castle", MISSING),
            "resource_type",
            "give one of backup-storage, cascade-plan",
        ),
        case(plan("zone", "east"), "resource_uuid", "is not a uuid"),
        case(get, "limit", "give 0 to 10000"),
    ]
}
