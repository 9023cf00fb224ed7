//! Memory, time, stack, handles and places: what a guest does past each bound, and that others don't feel it.

use crate::fixture::{Host, PATIENCE, collect, guest, manifest};
use std::time::{Duration, Instant};
use tutti_isolate::{Driver as _, DriverError, HandleError};
use tutti_model::{Millis, quantity::ByteSize};

#[tokio::test]
async fn an_endless_loop_is_ended_in_time_and_others_are_served_meanwhile() {
    // One thread: if a guest kept it, nothing else could run.
    let host = Host::new();
    let service = host.hostile().await;
    let spinning: Vec<_> = (0..4)
        .map(|_| {
            let service = service.clone();
            tokio::spawn(async move { service.get("/spin").await.map(|_| ()) })
        })
        .collect();
    while service.held().await == 0 {
        tokio::task::yield_now().await;
    }
    let started = Instant::now();
    let mut served = 0;
    while spinning.iter().any(|task| !task.is_finished()) {
        assert_eq!(service.text("/hello").await, "hello\n");
        served += 1;
        assert!(started.elapsed() < PATIENCE);
    }
    assert!(served >= 5, "only {served} requests were served beside four endless loops");
    for task in spinning {
        assert_eq!(task.await.unwrap(), Err(HandleError::Time));
    }
    service.freed().await;
}

#[tokio::test]
async fn waiting_counts_as_time_too() {
    let host = Host::new();
    let service = host.hostile().await;
    let started = Instant::now();
    assert_eq!(service.get("/slow?ms=600000").await.unwrap_err(), HandleError::Time);
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert_eq!(service.text("/slow?ms=10").await, "slow\n");
}

#[tokio::test]
async fn a_loop_after_the_head_is_ended_by_its_cpu_time() {
    let host = Host::new();
    let service = host.hostile().await;
    let response = service.get("/spin-after-head").await.unwrap();
    assert_eq!(collect(response).await.unwrap_err(), HandleError::Time.to_string());
}

#[tokio::test]
async fn memory_is_bounded_and_the_bound_is_told_from_a_trap() {
    let host = Host::new();
    let service = host.hostile().await;
    assert_eq!(service.get("/bomb").await.unwrap_err(), HandleError::Memory);
    assert_eq!(service.text(&format!("/fill?bytes={}", 8 << 20)).await, format!("{}\n", 8 << 20));
    assert_eq!(service.get(&format!("/fill?bytes={}", 64 << 20)).await.unwrap_err(), HandleError::Memory);
    service.freed().await;
}

#[tokio::test]
async fn all_guests_together_have_a_bound_below_their_manifests() {
    let host = Host::with(|options| options.memory = 6 << 20);
    let service = host.hostile().await;
    assert_eq!(service.get(&format!("/fill?bytes={}", 8 << 20)).await.unwrap_err(), HandleError::Memory);
    assert_eq!(service.text(&format!("/fill?bytes={}", 1 << 20)).await, format!("{}\n", 1 << 20));
    service.freed().await;
}

#[tokio::test]
async fn a_component_that_begins_with_more_than_its_manifest_allows_is_not_started() {
    let host = Host::new();
    let mut manifest = manifest();
    manifest.memory = ByteSize(64 << 10);
    let error = host.driver.start(&host.spec(guest("hello_wasm"), manifest)).await.unwrap_err();
    let DriverError::Unrunnable(text) = error else { panic!("{error}") };
    assert!(text.contains("raise \"memory\"") && text.contains("64Ki"), "{text}");
}

#[tokio::test]
async fn a_trap_says_what_and_where() {
    let host = Host::new();
    let service = host.hostile().await;
    let HandleError::Trap(text) = service.get("/trap").await.unwrap_err() else { panic!("not a trap") };
    assert!(text.contains("unreachable") && text.contains(" in "), "{text}");
    assert!(!text.contains('\n'), "{text}");
    let HandleError::Trap(text) = service.get("/overflow").await.unwrap_err() else { panic!("not a trap") };
    assert!(text.contains("memory") || text.contains("stack"), "{text}");
    let lines =
        service.log_until(|lines| lines.iter().any(|line| line.line.contains("a panic on purpose"))).await;
    assert!(!lines.is_empty());
    assert_eq!(service.text("/hello").await, "hello\n");
}

#[tokio::test]
async fn a_guest_that_gives_no_answer_or_an_error_has_failed() {
    let host = Host::new();
    let service = host.hostile().await;
    let HandleError::Trap(text) = service.get("/silent").await.unwrap_err() else { panic!("not a trap") };
    assert!(text.contains("without an answer"), "{text}");
    let HandleError::Trap(text) = service.get("/refuse").await.unwrap_err() else { panic!("not a trap") };
    assert!(text.contains("no thanks"), "{text}");
}

#[tokio::test]
async fn what_the_host_keeps_for_a_guest_is_bounded() {
    let host = Host::new();
    let service = host.hostile().await;
    let failure = service.get("/handles").await.unwrap_err();
    assert!(matches!(failure, HandleError::Trap(_)), "{failure}");
}

#[tokio::test]
async fn a_full_pool_says_so_and_has_room_again() {
    let host = Host::with(|options| options.requests = 3);
    let mut manifest = manifest();
    manifest.timeout = Millis::seconds(60);
    let service = host.start(guest("hostile_guest"), manifest).await;
    let handler = service.handler();
    let mut held: Vec<_> = (0..3).map(|_| handler.handle(crate::fixture::get("/slow?ms=50000"))).collect();
    for waiting in &mut held {
        assert!(futures_util::poll!(waiting).is_pending());
    }
    let failure = service.get("/hello").await.unwrap_err();
    assert!(matches!(failure, HandleError::Full(_)), "{failure}");
    drop(held);
    assert_eq!(service.text("/hello").await, "hello\n");
}
