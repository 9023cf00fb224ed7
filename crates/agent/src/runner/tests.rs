use crate::testing::{Bench, eventually, id, instance, then};
use async_trait::async_trait;
use std::sync::{
    Arc,
    atomic::{AtomicU16, Ordering},
};
use tokio::sync::watch;
use tutti_api::{Change, WatchEvent};
use tutti_base::{Body, Uptime, body};
use tutti_isolate::{
    Artifact, Driver, DriverError, Exit, HandleError, Handler, Recovery, Running, StartSpec, Target, Usage,
};
use tutti_model::{
    ErrorCode, Millis, Problem, Timestamp,
    instance::{Goal, InstanceState as S, InstanceStatus},
    manifest::Probe,
    node::Fingerprint,
    version::Isolate,
};
use tutti_proxy::HopError;

#[tokio::test(start_paused = true)]
async fn an_instance_comes_up_serves_drains_and_goes_without_a_trace() {
    let bench = Bench::new();
    let wanted = bench.ready(1).await;
    assert!(bench.in_ledger(1));
    let response = bench.send(1).await.unwrap();
    assert_eq!(response.headers()["tutti-instance"], id(1).as_str());
    drop(response);

    bench.zone.put(then(&wanted, Goal::Standby { until: Timestamp(1) }));
    bench.zone.until("generation 2 is acted on", |heard| heard.last(&id(1)).observed_generation == 2).await;
    assert!(bench.send(1).await.is_ok(), "who stands by still serves what a stale table sends");

    bench.zone.put(then(&then(&wanted, Goal::Serve), Goal::Drain));
    let status = bench.zone.until_state(&id(1), S::Stopped).await;
    assert_eq!((status.observed_generation, status.reason), (3, None));
    assert!(bench.process.running().is_empty());

    bench.zone.delete(&id(1));
    eventually("the ledger has forgotten it", || !bench.in_ledger(1)).await;
    let states = bench.zone.heard().states(&id(1));
    assert_eq!(states.last(), Some(&S::Stopped), "{states:?}");
    assert!(states.contains(&S::Ready), "{states:?}");
}

#[tokio::test(start_paused = true)]
async fn an_older_generation_is_refused() {
    let bench = Bench::new();
    let first = bench.ready(1).await;
    let drain = then(&then(&first, Goal::Serve), Goal::Drain);
    bench.process.turn(|knobs| knobs.stop_takes = Millis(0));
    bench.zone.put(drain);
    bench.zone.until_state(&id(1), S::Stopped).await;
    let stale = then(&first, Goal::Serve);
    bench.zone.say(WatchEvent::Changes { revision: 2, changes: vec![Change::Put(Box::new(stale))] });
    // Another instance is proof that the stale one was looked at.
    bench.ready(2).await;
    let status = bench.zone.heard().last(&id(1));
    assert_eq!((status.state, status.observed_generation), (S::Stopped, 3));
    assert_eq!(bench.process.running(), [id(2)]);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_breaks_or_begins_anew_disturbs_nothing() {
    let bench = Bench::new();
    bench.ready(1).await;
    bench.ready(2).await;
    for _ in 0..3 {
        let said = bench.zone.heard().reports.len();
        bench.zone.break_watches();
        bench.zone.until("both are said again", |heard| heard.reports.len() > said).await;
    }
    assert_eq!((bench.process.starts(&id(1)), bench.process.starts(&id(2))), (1, 1));
    assert_eq!(bench.zone.heard().states(&id(1)).iter().filter(|state| **state == S::Ready).count(), 1);

    // One is deleted while nobody watches: what begins anew says so by leaving it out.
    bench.zone.break_watches();
    bench.zone.delete(&id(2));
    eventually("the deleted one is gone", || bench.process.running() == [id(1)]).await;
    assert_eq!(bench.process.starts(&id(1)), 1);
}

#[tokio::test(start_paused = true)]
async fn a_first_start_that_keeps_ending_fails_within_seconds() {
    let bench = Bench::new();
    bench.process.turn(|knobs| {
        knobs.ready_after = Millis::seconds(10);
        knobs.exit_after = Some(Millis(20));
        knobs.exit_code = 3;
    });
    let mut wanted = instance(1);
    wanted.spec.manifest.health.probe = Probe::Http("/".into());
    let began = tokio::time::Instant::now();
    bench.zone.put(wanted.clone());
    let status = bench.zone.until_state(&id(1), S::Failed).await;
    assert_eq!(
        status.reason.as_deref(),
        Some("crash loop: exited with code 3, 3 times before it was ever ready")
    );
    assert!(began.elapsed() < std::time::Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!((bench.process.starts(&id(1)), status.restarts), (3, 2));

    bench.zone.put(then(&wanted, Goal::Stop));
    bench.zone.until_state(&id(1), S::Stopped).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_loop_is_visible_and_ever_slower() {
    let bench = Bench::new();
    bench.ready(1).await;
    let mut last = tokio::time::Instant::now();
    for restart in 1..=4u32 {
        assert!(bench.process.crash(&id(1), 9));
        let status = bench.zone.until_state(&id(1), S::Backoff).await;
        let reason = status.reason.unwrap();
        let loops = if restart > 1 { "crash loop: " } else { "" };
        assert!(
            reason.starts_with(&format!("{loops}exited with code 9 (restart {restart}, next in ")),
            "{reason}"
        );
        assert!(matches!(bench.send(1).await, Err(HopError::Misdirected { .. })));
        bench.zone.until_state(&id(1), S::Ready).await;
        let pause = last.elapsed();
        assert!(pause >= Millis(500 << (restart - 1)).duration(), "restart {restart} came after {pause:?}");
        last = tokio::time::Instant::now();
    }
    assert_eq!(bench.zone.heard().last(&id(1)).restarts, 4);
}

#[tokio::test(start_paused = true)]
async fn a_health_gate_that_is_not_passed_says_what_was_asked_and_answered() {
    let bench = Bench::new();
    bench.process.turn(|knobs| knobs.status = 500);
    let mut wanted = instance(1);
    wanted.spec.manifest.health.probe = Probe::Http("/up".into());
    wanted.spec.manifest.health.start = Millis::seconds(7);
    let logs = bench.folder.join("logs").join(id(1).as_str());
    let mut log = tutti_logs::Writer::open(&logs, id(1)).unwrap();
    log.append(tutti_model::log::Output::Stderr, Timestamp(1), b"cannot reach the database").unwrap();
    drop(log);
    bench.zone.put(wanted);
    // Long before it is given up one can see what keeps it.
    let kept = |status: &InstanceStatus| {
        status.state == S::Starting && status.reason.as_deref() == Some("GET /up answered 500")
    };
    bench.zone.until("what keeps it is said", |heard| kept(&heard.last(&id(1)))).await;
    let status = bench.zone.until_state(&id(1), S::Failed).await;
    assert_eq!(status.reason.as_deref(), Some("was not ready within 7s: GET /up answered 500"));
    assert_eq!(status.last_lines, ["cannot reach the database"]);
    assert!(bench.process.running().is_empty());
}

#[tokio::test(start_paused = true)]
async fn readiness_is_noticed_within_milliseconds() {
    let bench = Bench::new();
    bench.process.turn(|knobs| knobs.ready_after = Millis(30));
    let mut wanted = instance(1);
    wanted.spec.manifest.health.probe = Probe::Http("/".into());
    let began = tokio::time::Instant::now();
    bench.zone.put(wanted);
    bench.zone.until_state(&id(1), S::Ready).await;
    assert!(began.elapsed() < std::time::Duration::from_millis(60), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_later_start_that_ends_early_is_tried_again_and_not_failed() {
    let bench = Bench::new();
    bench.process.turn(|knobs| knobs.crash_on_start = Some(2));
    bench.ready(1).await;
    bench.process.crash(&id(1), 1);
    bench.zone.until("it came back twice", |heard| heard.last(&id(1)).restarts == 2).await;
    bench.zone.until_state(&id(1), S::Ready).await;
    assert_eq!(bench.process.starts(&id(1)), 3);
}

/// A guest whose answers the test sets while it runs.
#[derive(Debug, Clone)]
struct Moody(Arc<AtomicU16>, watch::Sender<Option<Exit>>);

#[async_trait]
impl Handler for Moody {
    async fn handle(&self, _: http::Request<Body>) -> Result<http::Response<Body>, HandleError> {
        let status = self.0.load(Ordering::SeqCst);
        Ok(http::Response::builder().status(status).body(body::empty()).unwrap())
    }
}

#[async_trait]
impl Running for Moody {
    fn target(&self) -> Target {
        Target::Handler(Arc::new(self.clone()))
    }
    fn exit(&self) -> watch::Receiver<Option<Exit>> {
        self.1.subscribe()
    }
    async fn stop(&self, _: Millis) -> Exit {
        let exit = Exit { code: Some(0), signal: None, text: "exited with code 0".into() };
        self.1.send_replace(Some(exit.clone()));
        exit
    }
    async fn extend(&self, _: Uptime) {}
    async fn usage(&self) -> Usage {
        Usage::default()
    }
    fn weaker(&self) -> Vec<String> {
        vec!["nothing is enforced".into()]
    }
}

#[async_trait]
impl Driver for Moody {
    fn isolate(&self) -> Isolate {
        Isolate::Process
    }
    async fn fingerprint(&self) -> Fingerprint {
        Fingerprint { isolate: Isolate::Process, usable: true, notes: Vec::new() }
    }
    async fn preload(&self, _: &Artifact) -> Result<(), DriverError> {
        Ok(())
    }
    async fn start(&self, _: &StartSpec) -> Result<Arc<dyn Running>, DriverError> {
        Ok(Arc::new(Moody(Arc::clone(&self.0), watch::Sender::new(None))))
    }
    fn recovery(&self) -> Recovery {
        Recovery::Gone
    }
    async fn recover(&self, _: &StartSpec) -> Result<Option<Arc<dyn Running>>, DriverError> {
        Ok(None)
    }
    async fn remove(&self, _: &StartSpec) -> Result<(), DriverError> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_ready_instance_that_stops_answering_is_taken_out_and_restarted() {
    let mood = Moody(Arc::new(AtomicU16::new(200)), watch::Sender::new(None));
    let bench = Bench::with(vec![Arc::new(mood.clone())]);
    let mut wanted = instance(1);
    wanted.spec.manifest.health.probe = Probe::Http("/".into());
    bench.zone.put(wanted);
    let status = bench.zone.until_state(&id(1), S::Ready).await;
    assert_eq!(status.weaker, ["nothing is enforced"]);

    // Two bad answers are forgiven, at one probe in 5 s.
    let wait = async |seconds| tokio::time::sleep(Millis::seconds(seconds).duration()).await;
    mood.0.store(500, Ordering::SeqCst);
    wait(9).await;
    mood.0.store(200, Ordering::SeqCst);
    wait(9).await;
    assert_eq!(bench.zone.heard().last(&id(1)).state, S::Ready);

    mood.0.store(500, Ordering::SeqCst);
    let status = bench.zone.until_state(&id(1), S::Backoff).await;
    let reason = status.reason.unwrap();
    assert!(
        reason.starts_with("failed its probe 3 times in a row: GET / answered 500 (restart 1, next in "),
        "{reason}"
    );
    assert!(matches!(bench.send(1).await, Err(HopError::Misdirected { .. })));
    mood.0.store(204, Ordering::SeqCst);
    bench.zone.until_state(&id(1), S::Ready).await;
    assert!(bench.send(1).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn draining_waits_for_what_is_inside_and_refuses_what_comes() {
    let bench = Bench::new();
    let wanted = bench.ready(1).await;
    let inside = bench.send(1).await.unwrap();
    bench.zone.put(then(&wanted, Goal::Drain));
    bench.zone.until_state(&id(1), S::Draining).await;
    assert!(matches!(bench.send(1).await, Err(HopError::Misdirected { .. })));
    tokio::time::sleep(Millis::seconds(10).duration()).await;
    assert_eq!(bench.process.running(), [id(1)], "its request has not ended");
    drop(inside);
    let status = bench.zone.until_state(&id(1), S::Stopped).await;
    assert_eq!(status.reason, None);
    assert!(bench.process.running().is_empty());
}

#[tokio::test(start_paused = true)]
async fn draining_ends_at_its_deadline() {
    let bench = Bench::new();
    let wanted = bench.ready(1).await;
    let _inside = bench.send(1).await.unwrap();
    let began = tokio::time::Instant::now();
    bench.zone.put(then(&wanted, Goal::Drain));
    let status = bench.zone.until_state(&id(1), S::Stopped).await;
    assert_eq!(status.reason.as_deref(), Some("1 request was cut off after 30s"));
    let took = began.elapsed().as_secs();
    assert!((30..=31).contains(&took), "{took} s");
}

#[tokio::test(start_paused = true)]
async fn stop_does_not_wait_for_what_is_inside() {
    let bench = Bench::new();
    let wanted = bench.ready(1).await;
    let _inside = bench.send(1).await.unwrap();
    let began = tokio::time::Instant::now();
    bench.zone.put(then(&wanted, Goal::Stop));
    bench.zone.until_state(&id(1), S::Stopped).await;
    assert!(began.elapsed() < std::time::Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_artifact_that_cannot_be_had_now_is_waited_for_and_one_that_is_wrong_is_not() {
    let bench = Bench::new();
    *bench.registry.fault.lock().unwrap() = Some(Problem::unavailable("the registry does not answer"));
    bench.zone.put(instance(1));
    bench.zone.until("it says why it waits", |heard| heard.last(&id(1)).reason.is_some()).await;
    let status = bench.zone.heard().last(&id(1));
    assert_eq!(status.state, S::Preloading);
    assert!(
        status.reason.as_deref().unwrap().contains("the registry does not answer (trying again in"),
        "{status:?}"
    );
    *bench.registry.fault.lock().unwrap() = None;
    bench.zone.until_state(&id(1), S::Ready).await;

    *bench.registry.fault.lock().unwrap() = Some(Problem::new(ErrorCode::Invalid, "wrong bytes"));
    bench.zone.put(instance(2));
    let status = bench.zone.until_state(&id(2), S::Failed).await;
    assert!(status.reason.as_deref().unwrap().ends_with("wrong bytes"), "{status:?}");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_run_fails_at_once_and_what_the_host_refuses_after_three_tries() {
    let bench = Bench::new();
    bench.process.turn(|knobs| knobs.unrunnable = Some("not a program for this machine".into()));
    bench.zone.put(instance(1));
    let status = bench.zone.until_state(&id(1), S::Failed).await;
    assert_eq!(status.reason.as_deref(), Some("not a program for this machine"));

    bench.process.turn(|knobs| {
        knobs.unrunnable = None;
        knobs.host_error = Some("no more processes".into());
    });
    bench.zone.put(instance(2));
    let status = bench.zone.until_state(&id(2), S::Failed).await;
    assert!(status.reason.as_deref().unwrap().starts_with("crash loop: no more processes: "), "{status:?}");
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_is_deleted_while_it_serves_is_stopped_and_forgotten() {
    let bench = Bench::new();
    bench.ready(1).await;
    bench.zone.delete(&id(1));
    eventually("it is gone", || bench.process.running().is_empty() && !bench.in_ledger(1)).await;
    assert!(matches!(bench.send(1).await, Err(HopError::Misdirected { .. })));
    // The node has room in its memory for the next.
    bench.ready(2).await;
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_keeps_an_instance_from_starting_and_says_so() {
    let bench = Bench::new();
    let ledger = bench.folder.join("ledger");
    std::fs::remove_dir_all(&ledger).unwrap();
    std::fs::write(&ledger, "in the way").unwrap();
    bench.zone.put(instance(1));
    bench.zone.until("it says why it waits", |heard| heard.last(&id(1)).reason.is_some()).await;
    let status = bench.zone.heard().last(&id(1));
    assert_eq!(status.state, S::Preloading);
    assert!(status.reason.as_deref().unwrap().contains("cannot write"), "{status:?}");
    assert_eq!(bench.process.starts(&id(1)), 0);
    std::fs::remove_file(&ledger).unwrap();
    std::fs::create_dir(&ledger).unwrap();
    bench.zone.until_state(&id(1), S::Ready).await;
}
