use super::*;
use proptest::prelude::*;

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn names(zones: &[&str], hosts: &[&str], ways: &[&str]) -> Names {
    let zones: Vec<String> = zones.iter().map(ToString::to_string).collect();
    let servers = [
        NameServer { name: "ns1.apps.test".into(), addresses: addresses(&["192.0.2.53"]) },
        NameServer { name: "ns.elsewhere.test".into(), addresses: addresses(&["192.0.2.54"]) },
    ];
    Names::new(NamesView {
        zones: &zones,
        hosts: &hosts.iter().map(ToString::to_string).collect(),
        servers: &servers,
        addresses: &addresses(ways),
    })
}

fn sample() -> Names {
    names(
        &["apps.test", "cloud.example.com", "www.cloud.example.com"],
        &["web.example.com.apps.test", "shop.example.org", "*"],
        &["192.0.2.1", "192.0.2.2", "2001:db8::1"],
    )
}

fn found(answer: Answer<'_>) -> Vec<String> {
    let Answer::Found { records, .. } = answer else { return vec![format!("{answer:?}")] };
    let shown = records.iter().map(|record| match record {
        Data::Address(address) => address.to_string(),
        Data::Server(name) => format!("NS {name}"),
        Data::Start(primary) => format!("SOA {primary}"),
    });
    shown.collect()
}

#[test]
fn hosts_and_zones_lead_in_and_names_between_them_lead_nowhere() {
    let names = sample();
    for name in ["web.example.com.apps.test", "apps.test", "cloud.example.com", "www.cloud.example.com"] {
        assert_eq!(found(names.answer(name, Asked::A, 0)), ["192.0.2.1", "192.0.2.2"], "{name}");
        assert_eq!(found(names.answer(name, Asked::A, 3)), ["192.0.2.2", "192.0.2.1"], "{name}");
        assert_eq!(found(names.answer(name, Asked::Aaaa, 7)), ["2001:db8::1"], "{name}");
        assert!(matches!(names.answer(name, Asked::Other, 0), Answer::Nothing(_)), "{name}");
    }
    for name in ["example.com.apps.test", "com.apps.test"] {
        assert_eq!(names.answer(name, Asked::A, 0), Answer::Nothing("apps.test"), "{name}");
    }
    for name in ["other.example.com.apps.test", "a.web.example.com.apps.test", "ns2.apps.test"] {
        assert_eq!(names.answer(name, Asked::A, 0), Answer::NoSuchName("apps.test"), "{name}");
    }
    for name in ["", "test", "example.com", "shop.example.org", "xapps.test", "ns.elsewhere.test", "*"] {
        assert_eq!(names.answer(name, Asked::A, 0), Answer::Refused, "{name}");
    }
}

#[test]
fn the_start_of_a_zone_tells_its_servers_and_nothing_below_does() {
    let names = sample();
    for zone in ["apps.test", "cloud.example.com"] {
        assert_eq!(found(names.answer(zone, Asked::Soa, 0)), ["SOA ns1.apps.test"]);
        let servers = names.answer(zone, Asked::Ns, 0);
        let Answer::Found { records, beside } = servers else { panic!("{servers:?}") };
        assert_eq!(records, [Data::Server("ns1.apps.test"), Data::Server("ns.elsewhere.test")]);
        // Of a name that is not ours nothing is told.
        assert_eq!(beside, [("ns1.apps.test", addresses(&["192.0.2.53"])[0])]);
        assert_eq!(found(names.answer(zone, Asked::Any, 0)).len(), 6);
    }
    for asked in [Asked::Soa, Asked::Ns] {
        // A given name below another is no zone of its own.
        for name in ["web.example.com.apps.test", "www.cloud.example.com"] {
            assert!(matches!(names.answer(name, asked, 0), Answer::Nothing(_)), "{name} {asked:?}");
        }
    }
    assert_eq!(found(names.answer("ns1.apps.test", Asked::A, 0)), ["192.0.2.53"]);
}

#[test]
fn without_a_way_in_a_name_is_there_and_has_no_address() {
    let names = names(&["apps.test"], &["web.apps.test"], &[]);
    assert_eq!(names.answer("web.apps.test", Asked::A, 9), Answer::Nothing("apps.test"));
}

#[test]
fn the_last_ways_in_stay_when_no_ingress_lives() {
    let at = |http: &str| IngressSpec { http: http.into(), ..IngressSpec::default() };
    let (one, two, hidden) = (at("192.0.2.1:80"), at("192.0.2.2:80"), at("0.0.0.0:80"));
    let last = addresses(&["192.0.2.9"]);
    assert_eq!(ways_in([&two, &one, &one], &last), addresses(&["192.0.2.1", "192.0.2.2"]));
    assert_eq!(ways_in([&two], &last), addresses(&["192.0.2.2"]));
    assert_eq!(ways_in([&hidden], &last), last);
    assert_eq!(ways_in([], &last), last);
}

fn label() -> impl Strategy<Value = String> {
    "[abc]{1,2}"
}

fn name(most: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(label(), 1..=most).prop_map(|labels| labels.join("."))
}

proptest! {
    #[test]
    fn every_name_is_answered_by_what_is_known_of_it(
        zones in prop::collection::vec(name(2), 1..4),
        hosts in prop::collection::btree_set(name(5), 0..12),
        asked in name(6),
        ways in prop::collection::btree_set(any::<[u8; 4]>().prop_map(IpAddr::from), 1..5),
        turn in any::<u16>(),
    ) {
        let ways: Vec<IpAddr> = ways.into_iter().collect();
        let servers = [NameServer { name: "ns.test".into(), addresses: Vec::new() }];
        let names = Names::new(NamesView { zones: &zones, hosts: &hosts, servers: &servers, addresses: &ways });
        let is_at_or_below = |name: &str, above: &str| name == above || name.ends_with(&format!(".{above}"));
        let ours = zones.iter().any(|zone| is_at_or_below(&asked, zone));
        let there = |known: &String| zones.iter().any(|zone| is_at_or_below(known, zone));
        let mut all = zones.iter().chain(&hosts).filter(|known| there(known));
        let leads_in = all.clone().any(|known| *known == asked);
        let is_above = all.any(|known| is_at_or_below(known, &asked));
        match names.answer(&asked, Asked::A, turn) {
            Answer::Refused => prop_assert!(!ours),
            Answer::NoSuchName(zone) => prop_assert!(ours && !is_above && is_at_or_below(&asked, zone)),
            Answer::Nothing(_) => prop_assert!(ours && is_above && !leads_in),
            Answer::Found { records, beside } => {
                prop_assert!(ours && leads_in && beside.is_empty());
                let mut told: Vec<IpAddr> = records
                    .iter()
                    .filter_map(|record| if let Data::Address(address) = record { Some(*address) } else { None })
                    .collect();
                told.sort();
                prop_assert_eq!(told, ways.clone());
            }
        }
    }
}
