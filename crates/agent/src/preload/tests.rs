use crate::testing::{Bench, eventually, node_name, version};
use tutti_base::sha256;
use tutti_model::{
    Problem,
    manifest::Manifest,
    node::NodeSpec,
    version::{Isolate, VersionSpec},
};

fn spec(name: &str) -> VersionSpec {
    VersionSpec {
        version: version(&format!("example.com:web@{name}")),
        artifact: sha256::digest(name.as_bytes()),
        size: 1,
        isolate: Isolate::Process,
        manifest: Manifest::default(),
    }
}

fn wants(versions: &[&str]) -> NodeSpec {
    NodeSpec { node: node_name(), cordoned: false, preload: versions.iter().map(|name| spec(name)).collect() }
}

#[tokio::test(start_paused = true)]
async fn what_a_node_is_to_hold_ready_is_fetched_once_newest_first() {
    let bench = Bench::new();
    bench.zone.until("the node is watched", |heard| heard.watches_node()).await;
    bench.zone.preload(wants(&["3.0", "2.0"]));
    eventually("both are ready", || bench.process.preloads() == 2).await;
    bench.zone.preload(wants(&["4.0", "3.0", "2.0"]));
    eventually("the third is ready", || bench.process.preloads() == 3).await;
    let expected: Vec<_> = ["3.0", "2.0", "4.0"].map(|name| sha256::digest(name.as_bytes())).into();
    assert_eq!(*bench.registry.fetched.lock().unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_is_tried_again_and_does_not_hold_up_the_others() {
    let bench = Bench::new();
    bench.zone.until("the node is watched", |heard| heard.watches_node()).await;
    *bench.registry.fault.lock().unwrap() = Some(Problem::unavailable("away"));
    bench.zone.preload(wants(&["1.0"]));
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    assert_eq!(bench.process.preloads(), 0);
    *bench.registry.fault.lock().unwrap() = None;
    bench.zone.preload(wants(&["1.0", "0.9"]));
    eventually("both are ready", || bench.process.preloads() == 2).await;
}
