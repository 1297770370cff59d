//! A node that is killed while it brings an image to its storage, or removes one.

use std::{io::Write as _, time::Duration};

use cairn_e2e::{Cloud, HeldNode, backup_storage, qcow2};
use cairn_proto::{
    event::result,
    operation::v1alpha1::{Operation, OperationClient, OperationState, QueryOperationRequest},
    query::v1alpha1::{Condition, Operator, Query},
    storage::v1alpha1::{
        CreateImageRequest, DeleteImageRequest, Image, ImageClient, ImageStatus, QueryImageRequest,
    },
};
use cairn_testkit::wait_for;

const LIMIT: Duration = Duration::from_secs(30);
const NODE: &str = env!("CARGO_BIN_EXE_held-node");
const POINTS: [&str; 4] = ["BeforeIntent", "AfterIntent", "AfterEffect", "AfterOutcome"];

async fn start(cloud: &mut Cloud, hold: Option<&str>) -> HeldNode {
    let node = HeldNode::start(NODE, &cloud.config_file(), hold).await;
    cloud.keep_ports(node.public, node.callback);
    node
}

/// Waits until none of that name is under way, and returns the last one.
async fn ended(cloud: &Cloud, name: &str) -> Operation {
    let operations = OperationClient::new(cloud.mesh());
    let named = Condition {
        field: "name".into(),
        operator: Operator::Eq.into(),
        values: vec![name.into()],
    };
    let query = Some(Query {
        conditions: vec![named],
        ..Default::default()
    });
    let request = QueryOperationRequest { query };
    let look = async || {
        let found = operations.query_operation(request.clone()).await.ok()?;
        let mut all = found.operations.iter();
        let ended = all.all(|operation| operation.state() != OperationState::Accepted);
        ended.then(|| found.operations.last().unwrap().clone())
    };
    wait_for(&format!("{name} ends"), look, LIMIT).await
}

async fn images(cloud: &Cloud) -> Vec<Image> {
    let images = ImageClient::new(cloud.mesh());
    let found = images.query_image(QueryImageRequest::default()).await;
    found.unwrap().images
}

async fn delete(cloud: &Cloud, uuid: &str) {
    let (images, uuid) = (ImageClient::new(cloud.mesh()), uuid.to_owned());
    let deleted = images.delete_image(DeleteImageRequest { uuid }).await;
    result(deleted.unwrap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_survives_kill_at_every_point_of_every_step() {
    let mut cloud = Cloud::prepare().await;
    let node = start(&mut cloud, None).await;
    let storage = backup_storage(&cloud.mesh(), &cloud.sftp, &cloud.data_directory()).await;
    node.kill().await;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&qcow2(1 << 30)).unwrap();
    let request = CreateImageRequest {
        name: "debian".to_owned(),
        url: format!("file://{}", file.path().display()),
        backup_storage_uuid: storage,
        ..Default::default()
    };
    let places = |flow: &str, steps: [&str; 2]| {
        let all = steps.iter().flat_map(|step| {
            let points = POINTS.iter();
            points.map(move |point| format!("{point} {flow} {step} run"))
        });
        // The first step only changes rows: nothing announces it.
        all.skip(1).collect::<Vec<_>>()
    };

    for place in places("create-image", ["create-row", "download"]) {
        let mut node = start(&mut cloud, Some(&place)).await;
        let client = ImageClient::new(cloud.mesh());
        let created = async { result(client.create_image(request.clone()).await?).await };
        tokio::select! {
            held = node.held() => assert_eq!(held.held, place),
            created = created => panic!("{place} was not held: {created:?}"),
        }
        node.kill().await;

        let node = start(&mut cloud, None).await;
        let operation = ended(&cloud, "CreateImage").await;
        assert_eq!(
            operation.state(),
            OperationState::Succeeded,
            "{place}: {operation:?}"
        );
        let made = images(&cloud).await;
        assert_eq!(made.len(), 1, "{place}");
        assert_eq!(made[0].status(), ImageStatus::Ready, "{place}");
        assert_eq!(cloud.sftp.files(), [&*made[0].install_path], "{place}");
        delete(&cloud, &made[0].uuid).await;
        assert_eq!(cloud.sftp.files(), Vec::<String>::new(), "{place}");
        node.kill().await;
    }

    for place in places("delete-image", ["enter-deleting", "delete-file"]) {
        let mut node = start(&mut cloud, Some(&place)).await;
        let client = ImageClient::new(cloud.mesh());
        let created = client.create_image(request.clone()).await.unwrap();
        let uuid = result(created).await.unwrap().uuid;
        tokio::select! {
            held = node.held() => assert_eq!(held.held, place),
            () = delete(&cloud, &uuid) => panic!("{place} was not held"),
        }
        node.kill().await;

        let node = start(&mut cloud, None).await;
        let operation = ended(&cloud, "DeleteImage").await;
        assert_eq!(
            operation.state(),
            OperationState::Succeeded,
            "{place}: {operation:?}"
        );
        assert_eq!(images(&cloud).await, [], "{place}");
        assert_eq!(cloud.sftp.files(), Vec::<String>::new(), "{place}");
        node.kill().await;
    }
}
