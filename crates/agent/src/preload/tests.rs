use super::{HELD, Known, PreloadError, readiness};
use crate::testing::{Bench, eventually, node_name, version};
use tutti_base::sha256;
use tutti_model::{
    Millis, Problem, Timestamp,
    manifest::Manifest,
    node::{Held, NodeSpec, READINESS_REASON_CHARS, Readiness},
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
    NodeSpec { preload: versions.iter().map(|name| spec(name)).collect(), ..NodeSpec::new(node_name()) }
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

/// What the node last said it holds.
fn held(bench: &Bench) -> Vec<Held> {
    bench.zone.heard().registered.last().map(|status| status.held.clone()).unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn control_is_told_at_once_what_is_ready_and_what_cannot_be_run() {
    let bench = Bench::new();
    bench.zone.until("the node is watched", |heard| heard.watches_node()).await;
    bench.agent.registered().await;
    let registered_at = bench.zone.heard().registered.last().unwrap().registered_at;
    let begun = tokio::time::Instant::now();
    bench.zone.preload(wants(&["1.0"]));
    bench.zone.until("it is said", |heard| heard.registered.last().unwrap().held.len() == 1).await;
    assert!(begun.elapsed() < std::time::Duration::from_secs(1), "not only with the next heartbeat");
    assert_eq!(
        held(&bench),
        [Held { artifact: sha256::digest(b"1.0"), readiness: Readiness::Ready { took: Millis(0) } }]
    );
    let status = bench.zone.heard().registered.last().unwrap().clone();
    assert_eq!((status.ready, status.registered_at), (true, registered_at), "it is the same node as before");
    *bench.registry.fault.lock().unwrap() = Some(Problem::invalid("its bytes are others"));
    bench.zone.preload(wants(&["2.0"]));
    bench.zone.until("it is said", |heard| heard.registered.last().unwrap().held[0].ready().is_none()).await;
    let said = held(&bench);
    assert_eq!(said.len(), 1, "what is not asked for any more is left out");
    assert!(
        matches!(&said[0].readiness, Readiness::Unrunnable { reason } if reason.contains("its bytes are others")),
        "{said:?}"
    );
    // What fails again as it did before is not said again.
    let times = bench.zone.heard().registered.len();
    tokio::time::sleep(std::time::Duration::from_secs(300)).await;
    assert_eq!(bench.zone.heard().registered.len(), times);
    *bench.registry.fault.lock().unwrap() = None;
    bench
        .zone
        .until("it is ready after all", |heard| heard.registered.last().unwrap().held[0].ready().is_some())
        .await;
}

#[test]
fn what_a_node_says_it_holds_is_bounded() {
    let mut held = Vec::new();
    let mut known = Known::default();
    let wanted: Vec<VersionSpec> = (0..HELD + 9).map(|number| spec(&format!("1.{number}"))).collect();
    let long = "x".repeat(READINESS_REASON_CHARS + 9);
    for version in &wanted {
        let failed = Err(PreloadError::Unrunnable(format!("preparing {}: {long}", version.version)));
        known.say(Held {
            artifact: version.artifact.clone(),
            readiness: readiness(version, &failed, Millis(1)),
        });
        assert!(known.publish(&mut held));
        assert!(!known.publish(&mut held), "said once");
    }
    assert_eq!(held.len(), HELD);
    assert_eq!(held[0].artifact, wanted.last().unwrap().artifact, "the newest first");
    let expected = "x".repeat(READINESS_REASON_CHARS);
    assert!(held.iter().all(|held| held.readiness == Readiness::Unrunnable { reason: expected.clone() }));
}

#[test]
fn what_was_for_a_moment_not_wanted_is_made_ready_again_or_said() {
    let both = ["1.0", "2.0"].map(spec);
    let ready = |version: &VersionSpec| Held {
        artifact: version.artifact.clone(),
        readiness: Readiness::Ready { took: Millis(1) },
    };
    let mut held = Vec::new();
    // The moment passed while the other was made ready: nothing is lost.
    let mut known = Known::default();
    known.keep(&both);
    known.say(ready(&both[0]));
    known.publish(&mut held);
    known.say(ready(&both[1]));
    known.publish(&mut held);
    known.keep(&both);
    assert_eq!(known.next(both.to_vec(), Timestamp(0)), None);
    assert_eq!(held, [ready(&both[1]), ready(&both[0])]);
    // The moment was noticed: what was forgotten is made ready again.
    known.keep(&both[1..]);
    known.keep(&both);
    assert_eq!(known.next(both.to_vec(), Timestamp(0)), Some(both[0].clone()));
}
