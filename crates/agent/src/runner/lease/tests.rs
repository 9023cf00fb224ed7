use crate::testing::{Bench, eventually, id, instance, then};
use std::time::Duration;
use tutti_model::{
    Resource,
    instance::{Goal, InstanceSpec, InstanceState as S, LEASE},
};

fn singleton(number: u64) -> Resource<InstanceSpec> {
    let mut singleton = instance(number);
    singleton.spec.manifest.singleton = true;
    singleton
}

/// Has a singleton wanted and waits until it is ready.
async fn runs(bench: &Bench) -> Resource<InstanceSpec> {
    bench.zone.put(singleton(1));
    bench.zone.until_state(&id(1), S::Ready).await;
    singleton(1)
}

#[tokio::test(start_paused = true)]
async fn it_starts_with_a_lease_at_once_and_without_one_says_what_it_waits_for() {
    let bench = Bench::new();
    bench.zone.heard().refuse_leases = vec![id(1)];
    bench.zone.put(singleton(1));
    bench
        .zone
        .until("it says why it does not start", |heard| {
            let status = heard.last(&id(1));
            status.state == S::Starting && status.reason.is_some_and(|why| why.contains("leave to run"))
        })
        .await;
    assert_eq!(bench.process.starts(&id(1)), 0);
    bench.zone.heard().refuse_leases.clear();
    bench.zone.until_state(&id(1), S::Ready).await;

    let began = tokio::time::Instant::now();
    bench.zone.put(singleton(2));
    bench.zone.until_state(&id(2), S::Ready).await;
    assert!(began.elapsed() < Duration::from_secs(1), "it waited for the next heartbeat");
}

#[tokio::test(start_paused = true)]
async fn it_runs_as_long_as_control_answers_and_ends_when_it_does_not() {
    let bench = Bench::new();
    runs(&bench).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!((bench.process.starts(&id(1)), bench.process.running()), (1, vec![id(1)]));
    bench.zone.heard().away = true;
    tokio::time::sleep(LEASE.duration()).await;
    assert!(bench.process.running().is_empty(), "its lease has run out");
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(bench.process.starts(&id(1)), 1, "without control it is not started again");
    bench.zone.heard().away = false;
    eventually("it is started again", || bench.process.starts(&id(1)) == 2).await;
    bench.zone.until_state(&id(1), S::Ready).await;
    assert_eq!(bench.process.running(), [id(1)]);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_comes_back_does_not_go_by_what_it_last_knew() {
    let bench = Bench::new();
    let wanted = runs(&bench).await;
    bench.zone.heard().away = true;
    bench.zone.break_watches();
    tokio::time::sleep(Duration::from_secs(60)).await;
    // Control answers again, where it has run elsewhere for a while; the word that it is to stop comes later.
    bench.zone.heard().refuse_leases = vec![id(1)];
    let bench = bench.restart(|_| ()).await;
    {
        let mut heard = bench.zone.heard();
        heard.away = false;
        heard.heartbeats.clear();
    }
    bench.zone.until("it asks in vain", |heard| heard.heartbeats.iter().any(|it| it.leases == [id(1)])).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(bench.process.starts(&id(1)), 1);
    bench.zone.put(then(&wanted, Goal::Stop));
    bench.zone.until_state(&id(1), S::Stopped).await;
    bench.zone.heard().heartbeats.clear();
    bench.zone.until("heartbeats", |heard| heard.heartbeats.len() > 2).await;
    assert!(bench.zone.heard().heartbeats.iter().skip(1).all(|it| it.leases.is_empty()), "it asks no more");
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_is_started_again_in_time_takes_it_up_undisturbed() {
    let bench = Bench::new();
    runs(&bench).await;
    let bench = bench.restart(|_| ()).await;
    eventually("it is taken up", || bench.process.running() == [id(1)]).await;
    tokio::time::sleep(LEASE.duration() * 4).await;
    assert_eq!((bench.process.starts(&id(1)), bench.process.running()), (1, vec![id(1)]));
}
