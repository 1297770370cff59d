//! Ranges beside each other, and the first free address of any sequence of nics.

use std::collections::BTreeMap;

use cairn_testkit::{Database, on_both_databases};

use super::*;

on_both_databases!(
    the_lowest_free_address_is_next_whatever_came_and_went,
    an_address_is_on_a_wire_once,
);

async fn the_lowest_free_address_is_next_whatever_came_and_went(database: Database) {
    let fixture = Fixture::new(database).await;
    let network = fixture.l3_network(&fixture.l2_network("eth0").await).await;
    // Two that touch and one apart: what is free never joins over the end of a range.
    for (start, end) in [(10, 14), (15, 19), (30, 33)] {
        let (start, end) = (format!("10.0.0.{start}"), format!("10.0.0.{end}"));
        fixture.range(&network, &start, &end).await.unwrap();
    }
    let all: Vec<u32> = (10..=19).chain(30..=33).collect();
    let mut model: BTreeMap<u32, String> = BTreeMap::new();
    let mut random = 7_u32;
    for step in 0..400 {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let choice = usize::try_from(random >> 8).unwrap();
        let lowest = all.iter().find(|number| !model.contains_key(*number));
        // Phases that fill it, empty it, and stay about half full.
        let allocates = choice % 10 < [8, 5, 2][step / 40 % 3];
        match (allocates, lowest) {
            (true, Some(lowest)) => {
                let request = fixture.allocation(&network);
                let nic = fixture.allocate(request.clone()).await.unwrap();
                assert_eq!(
                    nic.vm_nic.unwrap().ip,
                    format!("10.0.0.{lowest}"),
                    "step {step}"
                );
                model.insert(*lowest, request.uuid);
            }
            (false, _) if !model.is_empty() => {
                let number = *model.keys().nth(choice % model.len()).unwrap();
                fixture.release(&model.remove(&number).unwrap()).await;
            }
            _ => {}
        }
    }
    for nic in model.values() {
        fixture.release(nic).await;
    }
    let free = fixture.free().await;
    let firsts: Vec<_> = free
        .iter()
        .map(|(first, last)| format!("{first}-{last}"))
        .collect();
    let whole = [
        "10.0.0.10-10.0.0.14",
        "10.0.0.15-10.0.0.19",
        "10.0.0.30-10.0.0.33",
    ];
    assert_eq!(firsts, whole);
}

async fn an_address_is_on_a_wire_once(database: Database) {
    let fixture = Fixture::new(database).await;
    let carrier = fixture.l2_network("eth0").await;
    let (one, beside) = (
        fixture.l3_network(&carrier).await,
        fixture.l3_network(&carrier).await,
    );
    let elsewhere = fixture.l3_network(&fixture.l2_network("eth1").await).await;
    let there = fixture.range(&one, "10.0.0.10", "10.0.0.20").await.unwrap();
    for (start, end) in [
        ("10.0.0.10", "10.0.0.20"),
        ("10.0.0.2", "10.0.0.10"),
        ("10.0.0.20", "10.0.0.20"),
        ("10.0.0.2", "10.0.0.99"),
        ("10.0.0.12", "10.0.0.13"),
    ] {
        for network in [&one, &beside] {
            let fault = fixture.range(network, start, end).await.unwrap_err();
            let problem = format!("overlaps ip-range {}, 10.0.0.10 to 10.0.0.20", there.uuid);
            assert_eq!(fault.fields, [("start_ip".to_owned(), problem)]);
        }
    }
    let router_inside = CreateIpRangeRequest {
        name: "range".to_owned(),
        l3_network_uuid: beside.uuid.clone(),
        start_ip: "10.0.0.21".to_owned(),
        end_ip: "10.0.0.22".to_owned(),
        prefix_length: 24,
        gateway: "10.0.0.15".to_owned(),
        ..CreateIpRangeRequest::default()
    };
    let call = fixture.ranges.create_ip_range(router_inside.clone());
    assert_eq!(ended(call).await.unwrap_err().fields[0].0, "gateway");
    let over_router = CreateIpRangeRequest {
        start_ip: "10.0.0.1".to_owned(),
        end_ip: "10.0.0.5".to_owned(),
        gateway: "10.0.0.9".to_owned(),
        ..router_inside
    };
    let call = fixture.ranges.create_ip_range(over_router);
    assert_eq!(ended(call).await.unwrap_err().fields[0].0, "start_ip");
    fixture
        .range(&beside, "10.0.0.21", "10.0.0.30")
        .await
        .unwrap();
    fixture
        .range(&elsewhere, "10.0.0.10", "10.0.0.20")
        .await
        .unwrap();
}
