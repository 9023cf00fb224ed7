use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use tutti_model::{Share, table::Endpoint};

fn table(weights: &[u32], instances: u64) -> TableSpec {
    let version = |(at, weight): (usize, &u32)| VersionBackend {
        version: format!("{at}.0").parse().unwrap(),
        weight: Share::from_millionths(*weight),
        concurrency: 10,
        timeout: Millis::seconds(30),
        endpoints: (0..instances)
            .map(|number| Endpoint {
                instance: InstanceId::from_bits(at as u64 * 1000 + number),
                node: "node".parse().unwrap(),
            })
            .collect(),
    };
    TableSpec {
        service: "a.com:web".parse().unwrap(),
        matches: Vec::new(),
        backend: Backend::Versions(weights.iter().enumerate().map(version).collect()),
    }
}

fn versions(service: &Service) -> &[Version] {
    match &service.backend {
        Served::Versions(versions) => versions,
        other => panic!("{other:?}"),
    }
}

fn spread(service: &Service, requests: usize) -> BTreeMap<String, usize> {
    let mut hits = BTreeMap::new();
    for _ in 0..requests {
        let (version, _) =
            pick(versions(service), service.lasting.turns.next(), &[], || Timestamp(1000)).unwrap();
        *hits.entry(version.header.to_str().unwrap().to_owned()).or_default() += 1;
    }
    hits
}

#[test]
fn ten_percent_is_every_tenth() {
    let service = Service::new(&table(&[900_000, 100_000], 1), None);
    let hits = spread(&service, 10_000);
    assert!((995..=1005).contains(&hits["1.0"]), "{hits:?}");
}

#[test]
fn a_version_that_cannot_be_reached_gives_its_share_in_proportion() {
    let service = Service::new(&table(&[200_000, 300_000, 500_000], 2), None);
    for place in &versions(&service)[2].places {
        place.load.leave_out(Timestamp(1000));
    }
    let hits = spread(&service, 10_000);
    assert!((3950..=4050).contains(&hits["0.0"]) && !hits.contains_key("2.0"), "{hits:?}");
}

#[test]
fn what_was_left_out_comes_back_by_time_or_by_a_new_table() {
    let service = Service::new(&table(&[1_000_000], 1), None);
    let load = Arc::clone(&versions(&service)[0].places[0].load);
    load.leave_out(Timestamp(1000));
    assert!(load.is_out(&|| Timestamp(1000)) && !load.is_out(&|| Timestamp(1000).plus(LEFT_OUT)));
    // With nothing else to try it is tried all the same.
    assert!(pick(versions(&service), service.lasting.turns.next(), &[], || Timestamp(1000)).is_some());
    let next = Service::new(&table(&[1_000_000], 2), Some(&service));
    assert!(!load.is_out(&|| Timestamp(1000)));
    assert!(Arc::ptr_eq(&load, &versions(&next)[0].places[0].load), "running requests are remembered");
}

#[test]
fn counts_of_versions_are_bounded_and_those_in_the_table_stay() {
    let mut service = Service::new(&table(&[1_000_000], 1), None);
    for number in 0..200 {
        let mut table = table(&[1_000_000], 1);
        if let Backend::Versions(versions) = &mut table.backend {
            versions[0].version = format!("{number}.1").parse().unwrap();
        }
        service = Service::new(&table, Some(&service));
        versions(&service)[0].counters.answer(std::time::Duration::ZERO, false);
    }
    let stats = service.lasting.stats(&service.name);
    assert!(stats.len() <= COUNTED_VERSIONS);
    assert!(stats.iter().any(|one| one.version.as_ref().unwrap().as_str() == "199.1"));
}

proptest! {
    #[test]
    fn every_instance_is_tried_before_giving_up(weights in proptest::collection::vec(1u32..1000, 1..4), instances in 1u64..5, skip in 0u64..100) {
        let rest = 1_000_000 - weights.iter().sum::<u32>();
        let mut weights = weights;
        weights.push(rest);
        let service = Service::new(&table(&weights, instances), None);
        let turn = (0..=skip).map(|_| service.lasting.turns.next()).next_back().unwrap();
        let mut tried: Vec<InstanceId> = Vec::new();
        while let Some((_, place)) = pick(versions(&service), turn, &tried, || Timestamp(1000)) {
            prop_assert!(!tried.contains(&place.target.instance));
            tried.push(place.target.instance.clone());
        }
        prop_assert_eq!(tried.len() as u64, instances * weights.len() as u64);
    }

    #[test]
    fn the_busier_of_two_is_not_picked(busy in 0usize..2, requests in 1usize..50) {
        let service = Service::new(&table(&[1_000_000], 2), None);
        let places = &versions(&service)[0].places;
        let _running = places[busy].load.enter();
        for _ in 0..requests {
            let (_, place) = pick(versions(&service), service.lasting.turns.next(), &[], || Timestamp(0)).unwrap();
            prop_assert_eq!(&place.target.instance, &places[1 - busy].target.instance);
        }
    }
}
