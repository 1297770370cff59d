//! The console log of a virtual machine, read from its host.

use cairn_e2e::Cloud;
use cairn_proto::{
    compute::v1alpha1::{
        DeleteVmInstanceRequest, GetVmInstanceConsoleLogRequest, GetVmInstanceConsoleLogResponse,
        HostStatus, QueryVmInstanceRequest, RebootVmInstanceRequest, StopVmInstanceRequest,
        VmInstanceClient,
    },
    event::result,
    fault::Fault as Refusal,
};
use cairn_simulator::{Fault, FaultEffect};
use cairn_types::{ErrorCode, Uuid};

const BOOT: &str = "simulated web: boot\n";

async fn read(
    vms: &VmInstanceClient,
    uuid: &str,
    offset: Option<u64>,
    limit_bytes: Option<u32>,
) -> Result<GetVmInstanceConsoleLogResponse, Refusal> {
    let request = GetVmInstanceConsoleLogRequest {
        uuid: uuid.to_owned(),
        offset,
        limit_bytes,
    };
    let part = vms.get_vm_instance_console_log(request).await;
    part.map_err(|status| Refusal::from_status(&status))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_read_in_parts_while_the_virtual_machine_is_worked_on() {
    let mut cloud = Cloud::start().await;
    let ready = cloud.ready(1).await;
    let vms = VmInstanceClient::new(cloud.mesh());
    let vm = cloud.create_vm(&ready, "web").await.unwrap();
    let part = read(&vms, &vm.uuid, None, None).await.unwrap();
    assert_eq!(part.content, BOOT);
    assert_eq!((part.offset, part.total_bytes), (0, BOOT.len() as u64));

    let reboot = RebootVmInstanceRequest {
        uuid: vm.uuid.clone(),
    };
    result(vms.reboot_vm_instance(reboot).await.unwrap())
        .await
        .unwrap();
    let end = part.total_bytes;
    let added = read(&vms, &vm.uuid, Some(end), None).await.unwrap();
    assert_eq!(added.content, "simulated web: reboot\n");
    assert_eq!(added.offset, end);
    let last = read(&vms, &vm.uuid, None, Some(8)).await.unwrap();
    assert_eq!(last.content, " reboot\n");
    assert_eq!(last.offset + 8, last.total_bytes);
    let beyond = read(&vms, &vm.uuid, Some(1 << 40), None).await.unwrap();
    assert!(beyond.content.is_empty());
    assert_eq!(beyond.offset, beyond.total_bytes);

    // A stop that takes its time does not keep anybody from seeing why.
    let held = cloud.simulator.inject(Fault {
        command: Some("stop-vm".into()),
        ..Fault::new(FaultEffect::Hold)
    });
    let stop = StopVmInstanceRequest {
        uuid: vm.uuid.clone(),
        grace_secs: None,
    };
    let stopping = vms.stop_vm_instance(stop).await.unwrap();
    let records = &cloud.simulator;
    records
        .wait_for(|records| records.iter().any(|r| r.command == "stop-vm"))
        .await;
    read(&vms, &vm.uuid, None, None).await.unwrap();
    cloud.simulator.release(held);
    result(stopping).await.unwrap();
    let all = read(&vms, &vm.uuid, None, None).await.unwrap();
    assert!(all.content.ends_with(b"simulated web: power off\n"));

    // One queue for all reads of one console, and not that of the virtual machine.
    let vm_uuid: Uuid = vm.uuid.parse().unwrap();
    let records = cloud.simulator.records().into_iter();
    let reads = records.filter(|record| record.command == "read-console");
    let mut queues: Vec<_> = reads.map(|record| record.resource).collect();
    queues.dedup();
    assert_eq!(queues.len(), 1);
    assert_ne!(queues[0], vm_uuid);

    cloud.stop_agents().await;
    cloud
        .host_in(&ready.site.hosts[0].uuid, HostStatus::Disconnected)
        .await;
    let refused = read(&vms, &vm.uuid, None, None).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::AgentUnreachable);
    assert!(refused.message.contains("is not connected"), "{refused:?}");
    cloud.start_agents().await;
    cloud.connected(&ready.site.hosts[0].uuid).await;
    let again = read(&vms, &vm.uuid, None, None).await.unwrap();
    assert_eq!(again.content, all.content);

    let delete = DeleteVmInstanceRequest {
        uuid: vm.uuid.clone(),
    };
    result(vms.delete_vm_instance(delete).await.unwrap())
        .await
        .unwrap();
    let gone = read(&vms, &vm.uuid, None, None).await.unwrap_err();
    assert_eq!(gone.code, ErrorCode::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_never_ran_has_none() {
    let cloud = Cloud::start().await;
    let ready = cloud.ready(1).await;
    let vms = VmInstanceClient::new(cloud.mesh());
    let held = cloud.simulator.inject(Fault {
        command: Some("start-vm".into()),
        ..Fault::new(FaultEffect::Hold)
    });
    let creation = vms.create_vm_instance(ready.vm_request("web"));
    let creating = creation.await.unwrap();
    let records = &cloud.simulator;
    records
        .wait_for(|records| records.iter().any(|r| r.command == "start-vm"))
        .await;
    let all = vms.query_vm_instance(QueryVmInstanceRequest::default());
    let vm = all.await.unwrap().vm_instances.remove(0);
    let refused = read(&vms, &vm.uuid, None, None).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::WrongState);
    assert!(
        refused.message.contains("has no console log on host"),
        "{refused:?}"
    );
    cloud.simulator.release(held);
    result(creating).await.unwrap();
    assert_eq!(
        read(&vms, &vm.uuid, None, None).await.unwrap().content,
        BOOT
    );
}
