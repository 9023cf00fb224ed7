use crate::{
    Shutdown,
    testing::{Bench, eventually, id, instance, then},
};
use std::time::Duration;
use tutti_model::{
    Millis, Problem,
    instance::{Goal, InstanceState as S},
    manifest::Probe,
    quantity::ByteSize,
    scheduling::Labels,
    version::Isolate,
};

#[tokio::test(start_paused = true)]
async fn a_killed_agents_processes_are_taken_up_undisturbed_and_its_wasm_is_started_again_before_ready() {
    let bench = Bench::new();
    bench.ready(1).await;
    let mut wasm = instance(2);
    wasm.spec.isolate = Isolate::Wasm;
    wasm.spec.version = crate::testing::version("example.com:other@1.0");
    bench.zone.put(wasm);
    bench.zone.until_state(&id(2), S::Ready).await;

    // Control is away: the ledger is all the next agent has.
    let bench = bench.restart(|bench| bench.zone.heard().away = true).await;
    eventually("both serve again", || {
        bench.wasm.starts(&id(2)) == 2 && bench.agent.metrics().contains("state=\"ready\"} 2")
    })
    .await;
    assert!(bench.send(1).await.is_ok());
    assert_eq!(bench.process.starts(&id(1)), 1, "recovered, not restarted");
    assert_eq!(bench.zone.heard().states(&id(1)).iter().filter(|state| **state == S::Ready).count(), 1);
    let registered = bench.zone.heard().registered.len();
    bench.zone.heard().away = false;
    bench.zone.until("the node is registered again", |heard| heard.registered.len() > registered).await;
    assert!(bench.zone.heard().registered.last().unwrap().ready);
}

#[tokio::test(start_paused = true)]
async fn the_node_is_ready_only_once_it_serves_what_it_ran_before() {
    let bench = Bench::new();
    let mut slow = instance(1);
    slow.spec.isolate = Isolate::Wasm;
    slow.spec.manifest.health.probe = Probe::Http("/".into());
    bench.zone.put(slow);
    bench.zone.until_state(&id(1), S::Ready).await;
    let before = bench.zone.heard().registered.len();
    let bench = bench.restart(|bench| bench.wasm.turn(|knobs| knobs.ready_after = Millis::seconds(8))).await;
    bench.zone.until("it is there", |heard| heard.registered.len() > before).await;
    assert!(!bench.zone.heard().registered[before].ready);
    bench.agent.registered().await;
    let heard = bench.zone.heard();
    assert_eq!(heard.last(&id(1)).state, S::Ready);
    assert!(heard.registered.last().unwrap().ready);
}

#[tokio::test(start_paused = true)]
async fn what_control_no_longer_knows_is_stopped_after_the_first_full_answer() {
    let bench = Bench::new();
    bench.ready(1).await;
    bench.ready(2).await;
    let bench = bench.restart(|bench| bench.zone.delete(&id(2))).await;
    eventually("it is gone", || bench.process.running() == [id(1)] && !bench.in_ledger(2)).await;
    assert!(bench.in_ledger(1));
}

#[tokio::test(start_paused = true)]
async fn what_has_failed_or_stopped_stays_so_over_a_restart() {
    let bench = Bench::new();
    bench.process.turn(|knobs| knobs.unrunnable = Some("wrong machine".into()));
    bench.zone.put(instance(1));
    bench.zone.until_state(&id(1), S::Failed).await;
    bench.process.turn(|knobs| knobs.unrunnable = None);
    let second = bench.ready(2).await;
    bench.zone.put(then(&second, Goal::Drain));
    bench.zone.until_state(&id(2), S::Stopped).await;

    // The zone asserts that nothing comes back from the dead.
    let said = bench.zone.heard().history[&id(1)].len();
    let bench = bench.restart(|_| ()).await;
    bench.zone.until("the failure is said again", |heard| heard.history[&id(1)].len() > said).await;
    assert_eq!(bench.zone.heard().last(&id(1)).reason.as_deref(), Some("wrong machine"));
    assert!(bench.process.running().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_ran_before_is_not_given_up_because_the_registry_has_lost_it_for_now() {
    let bench = Bench::new();
    let mut wasm = instance(1);
    wasm.spec.isolate = Isolate::Wasm;
    bench.zone.put(wasm);
    bench.zone.until_state(&id(1), S::Ready).await;
    let lost = || Some(Problem::not_found("artifact", "sha256:0"));
    let bench = bench.restart(|bench| *bench.registry.fault.lock().unwrap() = lost()).await;
    bench.zone.until("it says what is missing", |heard| heard.last(&id(1)).reason.is_some()).await;
    assert_eq!(bench.zone.heard().last(&id(1)).state, S::Preloading);
    *bench.registry.fault.lock().unwrap() = None;
    bench.zone.until_state(&id(1), S::Ready).await;
}

#[tokio::test(start_paused = true)]
async fn a_generation_once_seen_is_remembered_over_a_restart() {
    let bench = Bench::new();
    let first = bench.ready(1).await;
    bench.zone.put(then(&first, Goal::Drain));
    bench.zone.until_state(&id(1), S::Stopped).await;
    let bench = bench.restart(|bench| bench.zone.put(first)).await;
    bench.ready(2).await;
    assert_eq!(bench.process.running(), [id(2)]);
    assert_eq!(bench.zone.heard().last(&id(1)).observed_generation, 2);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_ended_while_no_agent_watched_is_restarted() {
    let bench = Bench::new();
    bench.ready(1).await;
    let bench = bench.restart(|bench| assert!(bench.process.crash(&id(1), 4))).await;
    bench.zone.until("it came back", |heard| heard.last(&id(1)).restarts == 1).await;
    bench.zone.until_state(&id(1), S::Ready).await;
    assert_eq!(bench.process.starts(&id(1)), 2);
}

#[tokio::test(start_paused = true)]
async fn a_folder_that_no_entry_names_is_swept_with_what_runs_in_it() {
    let bench = Bench::new();
    bench.ready(1).await;
    let left = bench.folder.join("instances").join(id(1).as_str());
    let bench = bench
        .restart(|bench| {
            std::fs::create_dir_all(&left).unwrap();
            std::fs::create_dir_all(bench.folder.join("instances").join("not-an-id")).unwrap();
            std::fs::remove_file(bench.folder.join("ledger").join(format!("{}.json", id(1)))).unwrap();
            bench.zone.delete(&id(1));
        })
        .await;
    eventually("nothing is left", || bench.process.running().is_empty() && !left.exists()).await;
    eventually("strangers go too", || !bench.folder.join("instances").join("not-an-id").exists()).await;
}

#[tokio::test(start_paused = true)]
async fn an_orderly_stop_ends_everything_and_the_next_agent_starts_it_again() {
    let bench = Bench::new();
    bench.ready(1).await;
    let inside = bench.send(1).await.unwrap();
    let began = tokio::time::Instant::now();
    let ends = bench.agent.shutdown(Shutdown::Stop { deadline: Millis::seconds(10) });
    let (_, ()) = tokio::join!(
        async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            drop(inside);
        },
        ends
    );
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(bench.process.running().is_empty());
    assert_eq!(bench.zone.heard().last(&id(1)).state, S::Ready, "it is not stopped for good");
    let bench = bench.restart(|_| ()).await;
    eventually("it runs again", || bench.process.running() == [id(1)]).await;
    assert_eq!(bench.process.starts(&id(1)), 2);
}

#[tokio::test(start_paused = true)]
async fn an_orderly_stop_cuts_off_no_request_of_an_instance_that_drains() {
    let bench = Bench::new();
    let wanted = bench.ready(1).await;
    let inside = bench.send(1).await.unwrap();
    bench.zone.put(then(&wanted, Goal::Drain));
    bench.zone.until_state(&id(1), S::Draining).await;
    let ends = bench.agent.shutdown(Shutdown::Stop { deadline: Millis::seconds(10) });
    let finishes = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let running = bench.process.running();
        drop(inside);
        running
    };
    let (running, ()) = tokio::join!(finishes, ends);
    assert_eq!(running, [id(1)], "its request had not ended");
    assert!(bench.process.running().is_empty());
}

#[tokio::test(start_paused = true)]
async fn heartbeats_come_every_three_seconds_say_what_is_used_and_survive_a_forgetful_control() {
    let bench = Bench::new();
    bench.ready(1).await;
    let _inside = bench.send(1).await.unwrap();
    let heard = bench.zone.heard().heartbeats.len();
    tokio::time::sleep(Duration::from_secs(30)).await;
    let beats = bench.zone.heard().heartbeats.len() - heard;
    assert!((10..=13).contains(&beats), "{beats} heartbeats in 30 s");
    let last = bench.zone.heard().heartbeats.last().unwrap().clone();
    assert_eq!(last.running, [(id(1), 1)]);
    assert_eq!(last.used.memory, ByteSize::mib(1));

    let registered = bench.zone.heard().registered.len();
    bench.zone.heard().forget_node = true;
    bench.zone.until("it registers again", |heard| heard.registered.len() > registered).await;
    let status = bench.zone.heard().registered.last().unwrap().clone();
    assert!(status.ready);
    assert_eq!((status.release.as_str(), status.isolates.len()), ("test", 2));
}

#[tokio::test(start_paused = true)]
async fn without_control_everything_goes_on_and_what_ends_is_started_again() {
    let bench = Bench::new();
    bench.ready(1).await;
    bench.zone.heard().away = true;
    bench.zone.break_watches();
    assert!(bench.process.crash(&id(1), 1));
    eventually("it runs again", || bench.process.starts(&id(1)) == 2).await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(bench.send(1).await.is_ok());
    bench.zone.heard().away = false;
    bench.zone.until("the restart is told", |heard| heard.last(&id(1)).restarts == 1).await;
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_said_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let clock = crate::testing::tokio_clock();
    let problem = crate::Agent::new(crate::AgentOptions {
        node: crate::testing::node_name(),
        zone: std::sync::Arc::<crate::testing::FakeZone>::default(),
        drivers: Vec::new(),
        artifacts: std::sync::Arc::<crate::testing::Registry>::default(),
        folder: file.join("agent"),
        clock,
        random: tutti_base::Random::seeded(1),
        keyring: crate::testing::keyring(),
        release: "test".into(),
        capacity: None,
        labels: Labels::new(),
        address: None,
    })
    .unwrap_err();
    assert!(problem.detail.starts_with("cannot make the folder ") && problem.hint.is_some(), "{problem:?}");
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_name_is_anothers_says_so_and_tries_no_more() {
    let bench = Bench::new();
    bench.ready(1).await;
    let bench = bench.restart(|bench| bench.zone.heard().taken = true).await;
    let problem = bench.agent.refused().await;
    assert_eq!(problem.code, tutti_model::ErrorCode::AlreadyExists);
    assert_eq!(bench.process.running(), [id(1)], "what it ran runs on");
}

#[tokio::test(start_paused = true)]
async fn what_an_agent_left_is_stopped_and_started_again_by_the_next() {
    let bench = Bench::new();
    bench.ready(1).await;
    bench.ready(2).await;
    bench.agent.shutdown(Shutdown::Leave).await;
    assert_eq!(bench.process.running().len(), 2);
    assert_eq!(bench.agent.stop_left().await.unwrap(), 2);
    assert_eq!(bench.process.running(), []);
    assert_eq!(bench.agent.stop_left().await.unwrap(), 0);
    assert!(bench.in_ledger(1) && bench.in_ledger(2));
    let bench = bench.restart(|_| ()).await;
    eventually("both run again", || bench.process.running().len() == 2).await;
}
