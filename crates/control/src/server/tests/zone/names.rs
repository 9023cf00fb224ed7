//! What a DNS server is told, and no more.

use super::*;
use tutti_api::zone::IngressReport;
use tutti_model::{
    InstanceId, Share, VersionName,
    ingress::IngressSpec,
    table::{Endpoint, VersionBackend},
};

/// The next objects of a watch: those of its beginning, or of one transaction.
async fn told<S: Object>(watch: &mut WatchStream<S>) -> Vec<Resource<S>> {
    let mut objects = Vec::new();
    loop {
        match patiently(watch.next()).await.unwrap().unwrap() {
            WatchEvent::Init => {}
            WatchEvent::InitItem(object) => objects.push(*object),
            WatchEvent::InitDone { .. } => return objects,
            WatchEvent::Changes { changes, .. } if changes.is_empty() => {}
            WatchEvent::Changes { changes, .. } => {
                return changes
                    .into_iter()
                    .filter_map(|change| match change {
                        Change::Put(object) => Some(*object),
                        Change::Delete { .. } => None,
                    })
                    .collect();
            }
        }
    }
}

#[tokio::test]
async fn hosts_come_without_what_serves_them_at_first_and_with_each_change() {
    let world = World::wired().await;
    let endpoint = Endpoint { instance: InstanceId::from_bits(7), node: node("n1") };
    let backend = Backend::Versions(vec![VersionBackend {
        version: "1.0".parse::<VersionName>().unwrap(),
        weight: Share::WHOLE,
        concurrency: 1,
        timeout: Millis::seconds(30),
        endpoints: vec![endpoint],
    }]);
    let spec = |host: &str| TableSpec {
        service: "example.com:web".parse().unwrap(),
        matches: vec![host.parse().unwrap()],
        backend: backend.clone(),
    };
    let mut table = world.objects.make("example.com:web", spec("web.test"));
    world.objects.write().create(&table).commit().await.unwrap().unwrap();
    let mut hosts = world.served().client.watch_hosts(None);
    let first = told(&mut hosts).await;
    table = world.objects.get("example.com:web").await.unwrap();
    table.spec = spec("shop.test");
    world.objects.write().update(&table).commit().await.unwrap().unwrap();
    let second = told(&mut hosts).await;
    for (told, host) in [(first, "web.test"), (second, "shop.test")] {
        let [told] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!(told.spec.matches, [host.parse().unwrap()]);
        assert_eq!(told.spec.backend, Backend::None { reason: String::new() });
    }
}

#[tokio::test]
async fn an_ingress_is_told_of_with_its_addresses_while_it_lives() {
    let world = World::wired().await;
    let mut ingresses = world.served().client.watch_ingresses(None);
    assert!(told(&mut ingresses).await.is_empty());
    let spec = IngressSpec { addresses: vec!["192.0.2.7".parse().unwrap()], ..IngressSpec::default() };
    let report = IngressReport { ingress: "n1.1".into(), spec: spec.clone(), reached: 1, stats: Vec::new() };
    world.zone.report_ingress(report).await.unwrap();
    assert_eq!(told(&mut ingresses).await.first().map(|ingress| &ingress.spec), Some(&spec));
    world.zone.leave_ingress("n1.1").await.unwrap();
    assert!(told(&mut ingresses).await.is_empty(), "it is gone");
}
