//! Deletion policies: what was deleted comes back, goes after its time, or is kept for good.

use std::{sync::Arc, time::Duration};

use cairn_e2e::{
    Cloud, Ready, cascade,
    flows::{Deed, Rule, Script, Visit},
};
use cairn_node::PolicyName;
use cairn_operation::Point;
use cairn_proto::{
    compute::v1alpha1::{
        DeleteVmInstanceRequest, ExpungeVmInstanceRequest, GetVmInstanceRequest,
        RecoverVmInstanceRequest, StartVmInstanceRequest, VmInstance, VmInstanceClient,
        VmInstanceState,
    },
    event::{OperationResponse, result},
    fault::Fault,
    storage::v1alpha1::{
        DeleteImageRequest, ExpungeImageRequest, ImageClient, ImageStatus, RecoverImageRequest,
    },
};
use cairn_testkit::wait_for;
use cairn_types::ErrorCode;
use futures::stream::BoxStream;
use tonic::Status;

const LIMIT: Duration = Duration::from_secs(30);

/// How a mutating call ended.
async fn ended<M: OperationResponse>(
    call: impl Future<Output = Result<BoxStream<'static, Result<M, Status>>, Status>>,
) -> Result<M::Result, Fault> {
    let ended = async { result(call.await?).await };
    ended.await.map_err(|status| Fault::from_status(&status))
}

async fn with_policy(policy: PolicyName, kept_secs: u64) -> (Cloud, Ready) {
    let mut cloud = Cloud::prepare().await;
    cloud.deletion = (policy, kept_secs);
    cloud.start_node().await;
    let ready = cloud.ready(1).await;
    (cloud, ready)
}

async fn delete(cloud: &Cloud, vm: &VmInstance) -> Result<VmInstance, Fault> {
    let uuid = vm.uuid.clone();
    let vms = VmInstanceClient::new(cloud.mesh());
    ended(vms.delete_vm_instance(DeleteVmInstanceRequest { uuid })).await
}

async fn expunge(cloud: &Cloud, vm: &VmInstance) -> Result<VmInstance, Fault> {
    let uuid = vm.uuid.clone();
    let vms = VmInstanceClient::new(cloud.mesh());
    ended(vms.expunge_vm_instance(ExpungeVmInstanceRequest { uuid })).await
}

async fn recover(cloud: &Cloud, vm: &VmInstance) -> Result<VmInstance, Fault> {
    let uuid = vm.uuid.clone();
    let vms = VmInstanceClient::new(cloud.mesh());
    ended(vms.recover_vm_instance(RecoverVmInstanceRequest { uuid })).await
}

async fn start(cloud: &Cloud, vm: &VmInstance) -> Result<VmInstance, Fault> {
    let uuid = vm.uuid.clone();
    let vms = VmInstanceClient::new(cloud.mesh());
    ended(vms.start_vm_instance(StartVmInstanceRequest { uuid })).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_virtual_machine_that_was_deleted_comes_back_as_it_was() {
    let (cloud, ready) = with_policy(PolicyName::Delay, 3_600).await;
    let vm = cloud.create_vm(&ready, "vm-0").await.unwrap();
    for refused in [expunge(&cloud, &vm).await, recover(&cloud, &vm).await] {
        let refused = refused.unwrap_err();
        assert_eq!(refused.code, ErrorCode::WrongState, "{refused:?}");
        assert!(refused.message.contains("Running"), "{}", refused.message);
    }
    let deleted = delete(&cloud, &vm).await.unwrap();
    assert_eq!(deleted.state(), VmInstanceState::Destroyed);
    // Nothing of it is on the host but its volume; what it held there is free.
    cloud.assert_books(&ready, 0).await;
    let host = cloud.simulator.hosts().remove(0);
    assert!(host.vms.is_empty(), "{host:?}");
    assert_eq!(host.volumes.len(), 1);
    for noun in ["vm-instance", "vm-nic", "volume"] {
        assert_eq!(cloud.count(noun).await, 1, "{noun}");
    }
    for refused in [delete(&cloud, &vm).await, start(&cloud, &vm).await] {
        let refused = refused.unwrap_err();
        assert_eq!(refused.code, ErrorCode::WrongState, "{refused:?}");
        assert!(refused.message.contains("Destroyed"), "{}", refused.message);
    }
    let recovered = recover(&cloud, &vm).await.unwrap();
    assert_eq!(recovered.state(), VmInstanceState::Stopped);
    start(&cloud, &vm).await.unwrap();
    cloud.assert_books(&ready, 1).await;

    delete(&cloud, &vm).await.unwrap();
    expunge(&cloud, &vm).await.unwrap();
    cloud.assert_empty(&ready).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_was_deleted_comes_back_and_is_not_used_meanwhile() {
    let (cloud, ready) = with_policy(PolicyName::Delay, 3_600).await;
    let images = ImageClient::new(cloud.mesh());
    let uuid = || ready.image.clone();
    let expunge = async || ended(images.expunge_image(ExpungeImageRequest { uuid: uuid() })).await;
    let delete = async || ended(images.delete_image(DeleteImageRequest { uuid: uuid() })).await;
    let recover = async || ended(images.recover_image(RecoverImageRequest { uuid: uuid() })).await;
    for refused in [expunge().await, recover().await] {
        assert_eq!(refused.unwrap_err().code, ErrorCode::WrongState);
    }
    let deleted = delete().await.unwrap();
    assert_eq!(deleted.status(), ImageStatus::Deleted);
    assert_eq!(delete().await.unwrap_err().code, ErrorCode::WrongState);
    let refused = cloud.create_vm(&ready, "vm-0").await.unwrap_err();
    assert!(refused.message.contains("Deleted"), "{refused:?}");
    assert_eq!(recover().await.unwrap().status(), ImageStatus::Ready);
    let vm = cloud.create_vm(&ready, "vm-0").await.unwrap();
    assert_eq!(delete().await.unwrap_err().code, ErrorCode::InUse);
    self::delete(&cloud, &vm).await.unwrap();
    self::expunge(&cloud, &vm).await.unwrap();
    delete().await.unwrap();
    expunge().await.unwrap();
    assert_eq!(cloud.count("image").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_kept_long_enough_is_expunged_by_itself() {
    let (cloud, ready) = with_policy(PolicyName::Delay, 1).await;
    let vm = cloud.create_vm(&ready, "vm-0").await.unwrap();
    delete(&cloud, &vm).await.unwrap();
    let gone = async |noun: &'static str| (cloud.count(noun).await == 0).then_some(());
    wait_for("it is expunged", async || gone("vm-instance").await, LIMIT).await;
    cloud.assert_empty(&ready).await;
    let images = ImageClient::new(cloud.mesh());
    let uuid = ready.image.clone();
    ended(images.delete_image(DeleteImageRequest { uuid }))
        .await
        .unwrap();
    wait_for("it is expunged", async || gone("image").await, LIMIT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_never_expunged_goes_with_what_it_needs() {
    let (cloud, ready) = with_policy(PolicyName::Never, 1).await;
    let kept = cloud.create_vm(&ready, "vm-0").await.unwrap();
    cloud.create_vm(&ready, "vm-1").await.unwrap();
    delete(&cloud, &kept).await.unwrap();
    let refused = expunge(&cloud, &kept).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::WrongState);
    assert!(refused.message.contains("for good"), "{}", refused.message);
    cascade(&cloud.mesh(), "zone", &ready.site.zone)
        .await
        .unwrap();
    for noun in ["zone", "vm-instance", "vm-nic", "volume"] {
        assert_eq!(cloud.count(noun).await, 0, "{noun}");
    }
    let host = cloud.simulator.hosts().remove(0);
    assert!(host.vms.is_empty() && host.volumes.is_empty(), "{host:?}");
}

/// A virtual machine whose deletion began by one policy and goes on by another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_goes_on_as_it_began_whatever_the_policy_is_by_then() {
    for (before, after, flow) in [
        (
            PolicyName::Delay,
            PolicyName::Direct,
            "set-aside-vm-instance",
        ),
        (PolicyName::Direct, PolicyName::Delay, "destroy-vm-instance"),
    ] {
        let mut cloud = Cloud::prepare().await;
        let script = Arc::new(Script::default());
        cloud.failpoints = Some(script.clone());
        cloud.deletion = (before, 3_600);
        cloud.start_node().await;
        let ready = cloud.ready(1).await;
        let vm = cloud.create_vm(&ready, "vm-0").await.unwrap();
        let at = Visit {
            flow: flow.to_owned(),
            step: "destroy-on-hypervisor".to_owned(),
            direction: "run",
            point: Point::AfterEffect,
        };
        let deed = Deed::Hold;
        script.write(vec![Rule { at, deed }]);
        tokio::select! {
            () = script.held() => {}
            deleted = delete(&cloud, &vm) => panic!("{flow} was not held: {deleted:?}"),
        }
        cloud.kill_node().await;
        script.write(Vec::new());
        cloud.deletion = (after, 3_600);
        cloud.start_node().await;
        let kept = flow.starts_with("set-aside");
        let vms = VmInstanceClient::new(cloud.mesh());
        let ended = async || {
            let uuid = vm.uuid.clone();
            let found = vms.get_vm_instance(GetVmInstanceRequest { uuid }).await;
            let state = found.map(|found| found.vm_instance.unwrap_or_default().state());
            let is_kept = matches!(state, Ok(VmInstanceState::Destroyed));
            (is_kept == kept && is_kept != state.is_err()).then_some(())
        };
        wait_for(flow, ended, LIMIT).await;
        if kept {
            expunge(&cloud, &vm).await.unwrap();
        }
        cloud.assert_empty(&ready).await;
    }
}
