//! An instance that is kept.

use crate::fixture::{Host, PATIENCE, Service, manifest};
use tutti_model::{Millis, manifest::Manifest};

async fn count(service: &Service) -> u64 {
    service.call("Count", "{}").await.json("Count")["chunks"].as_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_stays_until_the_instance_fails() {
    let host = Host::new();
    let service = host.start(Manifest { state: true, timeout: Millis(500), ..manifest() }).await;
    for expected in 1..=20 {
        assert_eq!(count(&service).await, expected);
    }
    let together = (0..20).map(|_| {
        let service = service.clone();
        tokio::spawn(async move { count(&service).await })
    });
    let mut counted = Vec::new();
    for one in together.collect::<Vec<_>>() {
        counted.push(one.await.unwrap());
    }
    counted.sort_unstable();
    assert_eq!(counted, (21..=40).collect::<Vec<_>>());
    // A status is no failure, and a client that goes away takes nothing with it.
    assert_eq!(service.call("Fail", r#"{"code": 5}"#).await.code(), 5);
    let mut hurried =
        crate::fixture::request("Misbehave", tutti_base::body::full(crate::fixture::frame(&[0x40, 100])));
    hurried.headers_mut().insert("grpc-timeout", "1m".parse().unwrap());
    assert_eq!(crate::fixture::collect(service.send(hurried).await).await.code(), 4);
    assert_eq!(count(&service).await, 41);
    assert_eq!(service.call("Misbehave", r#"{"spin": {}}"#).await.code(), 4);
    service.log_says("its state is lost").await;
    assert_eq!(count(&service).await, 1);
    tokio::time::timeout(PATIENCE, service.running.stop(Millis(100))).await.unwrap();
    assert_eq!(service.call("Count", "{}").await.code(), 14);
    // The instance goes as soon as its task has noticed.
    service.freed().await;
}

#[tokio::test]
async fn without_state_each_call_is_the_first() {
    let host = Host::new();
    let service = host.start(manifest()).await;
    assert_eq!((count(&service).await, count(&service).await), (1, 1));
}
