//! Nics: addresses that are taken once and come back.

use std::collections::BTreeSet;

use cairn_proto::network::{
    internal::v1alpha1::ListNicsRequest,
    v1alpha1::{DeleteIpRangeRequest, UpdateL3NetworkRequest},
};
use cairn_testkit::{Database, on_both_databases};
use cairn_types::ErrorCode;
use futures::future::join_all;

use super::*;

on_both_databases!(
    many_at_once_get_an_address_each_and_give_all_back,
    a_repeat_gets_the_same_nic,
    a_virtual_machine_has_its_nics_in_order,
    a_disabled_or_empty_network_gives_no_address,
    a_range_goes_when_no_nic_has_its_addresses,
);

async fn many_at_once_get_an_address_each_and_give_all_back(database: Database) {
    let fixture = Fixture::new(database).await;
    let carrier = fixture.l2_network("eth0").await;
    let network = fixture.l3_network(&carrier).await;
    fixture
        .range(&network, "10.0.1.1", "10.0.1.150")
        .await
        .unwrap();
    fixture
        .range(&network, "10.0.1.151", "10.0.1.200")
        .await
        .unwrap();

    let asked: Vec<_> = (0..200).map(|_| fixture.allocation(&network)).collect();
    let calls = asked
        .iter()
        .map(|request| fixture.allocate(request.clone()));
    let nics: Vec<_> = join_all(calls)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert!(nics.iter().all(|nic| nic.bridge == "br_eth0"));
    let nics: Vec<_> = nics.into_iter().map(|nic| nic.vm_nic.unwrap()).collect();
    let addresses: BTreeSet<_> = nics.iter().map(|nic| nic.ip.clone()).collect();
    let expected: BTreeSet<_> = (1..=200).map(|i| format!("10.0.1.{i}")).collect();
    assert_eq!(addresses, expected);
    let macs: BTreeSet<_> = nics.iter().map(|nic| nic.mac.clone()).collect();
    assert_eq!(macs.len(), 200);
    assert_eq!(fixture.free().await, []);

    let fault = fixture
        .allocate(fixture.allocation(&network))
        .await
        .unwrap_err();
    let expected = format!(
        "l3-network guests ({}) has no free address: all 200 are in use; create another ip-range \
         in it",
        network.uuid
    );
    assert_eq!(
        (fault.code, fault.message),
        (ErrorCode::OutOfCapacity, expected)
    );

    // Each twice, at once.
    join_all(
        asked
            .iter()
            .chain(&asked)
            .map(|nic| fixture.release(&nic.uuid)),
    )
    .await;
    let whole = [("10.0.1.1", "10.0.1.150"), ("10.0.1.151", "10.0.1.200")];
    let whole = whole.map(|(first, last)| (first.to_owned(), last.to_owned()));
    assert_eq!(fixture.free().await, whole);
    assert_eq!(fixture.count("vm_nic").await, 0);
}

async fn a_repeat_gets_the_same_nic(database: Database) {
    let fixture = Fixture::new(database).await;
    let network = fixture.l3_network(&fixture.l2_network("eth0").await).await;
    let range = fixture
        .range(&network, "10.0.0.10", "10.0.0.20")
        .await
        .unwrap();
    let request = fixture.allocation(&network);
    let repeats = (0..5).map(|_| fixture.allocate(request.clone()));
    let nics = join_all(repeats).await;
    let first = nics[0].clone().unwrap();
    assert!(nics.iter().all(|nic| nic.as_ref() == Ok(&first)));
    let nic = first.vm_nic.unwrap();
    assert_eq!(nic.ip_range_uuid, range.uuid);
    assert_eq!((nic.ip.as_str(), nic.prefix_length), ("10.0.0.10", 16));
    assert_eq!(nic.gateway, "10.0.0.1");
    assert!(nic.mac.starts_with("fa:"));
    assert_eq!(
        fixture.free().await,
        [("10.0.0.11".to_owned(), "10.0.0.20".to_owned())]
    );
}

async fn a_virtual_machine_has_its_nics_in_order(database: Database) {
    let fixture = Fixture::new(database).await;
    let vm_instance_uuid = uuid();
    for (device_index, interface) in [(1, "eth1"), (0, "enx001122334455")] {
        let network = fixture
            .l3_network(&fixture.l2_network(interface).await)
            .await;
        fixture
            .range(&network, "10.0.0.10", "10.0.0.20")
            .await
            .unwrap();
        let request = AllocateNicRequest {
            vm_instance_uuid: vm_instance_uuid.clone(),
            device_index,
            ..fixture.allocation(&network)
        };
        fixture.allocate(request).await.unwrap();
    }
    let listed = fixture
        .internal
        .list_nics(ListNicsRequest { vm_instance_uuid })
        .await;
    let listed = listed.unwrap().nics;
    let seen: Vec<_> = listed
        .iter()
        .map(|nic| {
            (
                nic.vm_nic.as_ref().unwrap().name.as_str(),
                nic.bridge.as_str(),
            )
        })
        .collect();
    let long = crate::l2_network::bridge::name("enx001122334455");
    assert_eq!(seen, [("nic-0", long.as_str()), ("nic-1", "br_eth1")]);
}

async fn a_disabled_or_empty_network_gives_no_address(database: Database) {
    let fixture = Fixture::new(database).await;
    let network = fixture.l3_network(&fixture.l2_network("eth0").await).await;
    let fault = fixture
        .allocate(fixture.allocation(&network))
        .await
        .unwrap_err();
    let expected = format!(
        "l3-network guests ({}) has no addresses; create an ip-range in it",
        network.uuid
    );
    assert_eq!(
        (fault.code, fault.message),
        (ErrorCode::OutOfCapacity, expected)
    );

    fixture
        .range(&network, "10.0.0.10", "10.0.0.20")
        .await
        .unwrap();
    let disable = UpdateL3NetworkRequest {
        uuid: network.uuid.clone(),
        state: Some(ResourceState::Disabled.into()),
        ..UpdateL3NetworkRequest::default()
    };
    ended(fixture.l3.update_l3_network(disable)).await.unwrap();
    let fault = fixture
        .allocate(fixture.allocation(&network))
        .await
        .unwrap_err();
    assert_eq!(fault.code, ErrorCode::WrongState);
    let wrong = AllocateNicRequest {
        account_uuid: String::new(),
        vm_instance_uuid: "vm".to_owned(),
        ..fixture.allocation(&network)
    };
    let fault = fixture.allocate(wrong).await.unwrap_err();
    let fields: Vec<_> = fault.fields.iter().map(|(field, _)| &**field).collect();
    assert_eq!(fields, ["vm_instance_uuid", "account_uuid"]);
}

async fn a_range_goes_when_no_nic_has_its_addresses(database: Database) {
    let fixture = Fixture::new(database).await;
    let network = fixture.l3_network(&fixture.l2_network("eth0").await).await;
    let range = fixture
        .range(&network, "10.0.0.10", "10.0.0.20")
        .await
        .unwrap();
    let request = fixture.allocation(&network);
    fixture.allocate(request.clone()).await.unwrap();
    let delete = DeleteIpRangeRequest { uuid: range.uuid };
    let fault = ended(fixture.ranges.delete_ip_range(delete.clone()))
        .await
        .unwrap_err();
    assert_eq!(fault.code, ErrorCode::InUse);
    assert_eq!(fixture.free().await.len(), 1);
    fixture.release(&request.uuid).await;
    ended(fixture.ranges.delete_ip_range(delete)).await.unwrap();
    assert_eq!(fixture.free().await, []);
}
