use super::*;
use crate::testing::{Bench, id, instance, then};
use async_trait::async_trait;
use http::{Request, Response};
use tutti_base::Body;
use tutti_isolate::{HandleError, Handler, Target};
use tutti_model::{
    InstanceId, Resource,
    instance::{Goal, InstanceSpec, InstanceState as S},
    manifest::{Probe, Scale},
};
use tutti_proxy::HopError;

#[derive(Debug)]
struct Nobody;

#[async_trait]
impl Handler for Nobody {
    async fn handle(&self, _: Request<Body>) -> Result<Response<Body>, HandleError> {
        Err(HandleError::Full("nobody is asked here".into()))
    }
}

#[test]
fn only_a_whole_span_without_a_request_is_rest() {
    let slot = Arc::new(Slot::new(InstanceId::from_bits(1), Target::Handler(Arc::new(Nobody)), 10));
    let line = Arc::new(crate::admission::Line::default());
    line.set(vec![Arc::clone(&slot)], 0);
    let at = |seconds| Timestamp(1_000_000).plus(Millis::seconds(seconds));
    let enter = || line.try_enter(std::slice::from_ref(&slot), &slot.instance).unwrap();
    let mut rest = Rest::new(Millis::seconds(8), at(0));
    assert!(!rest.is_over(at(6), &slot));
    assert!(rest.is_over(at(8), &slot));
    drop(enter());
    assert!(!rest.is_over(at(9), &slot), "one that came and went since the last look counts");
    assert!(!rest.is_over(at(16), &slot));
    let inside = enter();
    assert!(!rest.is_over(at(18), &slot));
    assert!(!rest.is_over(at(90), &slot), "who is inside keeps it awake");
    assert!(!slot.close_if_empty());
    drop(inside);
    assert!(!rest.is_over(at(97), &slot));
    assert!(rest.is_over(at(98), &slot));
    assert!(slot.close_if_empty());
    assert!(line.try_enter(std::slice::from_ref(&slot), &slot.instance).is_none());
}

/// Instance `number`, which sleeps after four seconds.
fn sleepy(number: u64) -> Resource<InstanceSpec> {
    let mut wanted = instance(number);
    wanted.spec.manifest.min = 0;
    wanted.spec.manifest.scale = Scale { idle: Some(Millis::seconds(4)), ..Scale::default() };
    wanted
}

async fn asleep(bench: &Bench, number: u64) -> Resource<InstanceSpec> {
    let wanted = sleepy(number);
    bench.zone.put(wanted.clone());
    let status = bench.zone.until_state(&id(number), S::Asleep).await;
    assert_eq!(status.reason.as_deref(), Some("nothing was asked of it for 4s: the next request starts it"));
    wanted
}

#[tokio::test(start_paused = true)]
async fn what_sleeps_does_not_run_and_wakes_for_all_who_ask() {
    let bench = Bench::new();
    let wanted = asleep(&bench, 1).await;
    assert!(bench.process.running().is_empty());
    assert_eq!(bench.process.starts(&id(1)), 1);
    let answers = futures_util::future::join_all((0..20).map(|_| bench.send(1))).await;
    for answer in answers {
        assert_eq!(answer.unwrap().headers()["tutti-instance"], id(1).as_str());
    }
    assert_eq!(bench.process.starts(&id(1)), 2);
    bench.zone.until_state(&id(1), S::Ready).await;
    bench.zone.until("it sleeps again", |heard| heard.last(&id(1)).state == S::Asleep).await;
    let mut states = bench.zone.heard().states(&id(1));
    states.dedup();
    let since = states.iter().position(|state| *state == S::Ready).unwrap();
    assert_eq!(states[since..], [S::Ready, S::Asleep, S::Ready, S::Asleep], "it is never said to start anew");
    bench.zone.put(then(&wanted, Goal::Drain));
    bench.zone.until_state(&id(1), S::Stopped).await;
    assert!(matches!(bench.send(1).await, Err(HopError::Misdirected { .. })));
}

#[tokio::test(start_paused = true)]
async fn what_does_not_sleep_never_does() {
    let bench = Bench::new();
    bench.ready(1).await;
    tokio::time::sleep(std::time::Duration::from_secs(7200)).await;
    assert_eq!(bench.process.running(), [id(1)]);
}

#[tokio::test(start_paused = true)]
async fn the_next_agent_lets_it_sleep_and_wakes_it_without_control() {
    let bench = Bench::new();
    asleep(&bench, 1).await;
    let bench = bench.restart(|bench| bench.zone.heard().away = true).await;
    bench.ready_to_wake(1).await;
    assert!(bench.process.running().is_empty());
    assert_eq!(bench.process.starts(&id(1)), 1, "a start of the agent wakes nobody");
    assert!(bench.send(1).await.is_ok());
    // And one that is awake is taken up as it is.
    let bench = bench.restart(|_| {}).await;
    bench.ready_to_wake(1).await;
    assert!(bench.send(1).await.is_ok());
    assert_eq!(bench.process.starts(&id(1)), 2);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_one_that_cannot_wake_is_sent_on() {
    let bench = Bench::new();
    let mut wanted = sleepy(1);
    wanted.spec.manifest.health.probe = Probe::Http("/".into());
    bench.zone.put(wanted);
    bench.zone.until_state(&id(1), S::Asleep).await;
    bench.process.turn(|knobs| knobs.exit_after = Some(Millis(20)));
    bench.process.turn(|knobs| knobs.ready_after = Millis::seconds(10));
    let error = bench.send(1).await.unwrap_err();
    assert!(matches!(error, HopError::Misdirected { .. }), "{error}");
    bench.zone.until_state(&id(1), S::Backoff).await;
    bench.process.turn(|knobs| (knobs.exit_after, knobs.ready_after) = (None, Millis(0)));
    bench.zone.until("it is ready again", |heard| heard.last(&id(1)).state == S::Ready).await;
    assert!(bench.send(1).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn one_whose_room_was_given_away_says_so_instead_of_waking() {
    let bench = Bench::new();
    asleep(&bench, 1).await;
    let mut large = instance(2);
    large.spec.manifest.memory = crate::testing::CAPACITY.memory;
    bench.zone.put(large);
    bench.zone.until_state(&id(2), S::Ready).await;
    let error = bench.send(1).await;
    assert!(error.is_ok(), "another of the version is awake, and serves");
    assert!(bench.process.running() == [id(2)]);
    bench.zone.put(then(&instance(2), Goal::Serve));
    let mut other = sleepy(3);
    other.spec.version = crate::testing::version("example.com:web@2.0");
    bench.zone.put(other.clone());
    bench.zone.until_state(&id(3), S::Asleep).await;
    let target = tutti_proxy::HopTarget {
        service: other.spec.version.service.clone(),
        version: other.spec.version.version.clone(),
        instance: id(3),
    };
    let request = Request::get("http://web.example.com/").body(tutti_base::body::empty()).unwrap();
    let error =
        bench.agent.node_proxy().send(&crate::testing::node_name(), &target, request).await.unwrap_err();
    assert!(matches!(error, HopError::Misdirected { .. }), "{error}");
    let status = bench.zone.until_state(&id(3), S::Failed).await;
    assert_eq!(
        status.reason.as_deref(),
        Some("cannot wake on node n1: it needs 128Mi of memory, and 0 are left")
    );
}
