//! The end of an instance.

use crate::fixture::{Host, PATIENCE, collect, guest, manifest};
use http_body_util::BodyExt as _;
use tutti_isolate::HandleError;
use tutti_model::{Millis, log::Output};

#[tokio::test]
async fn stopping_lets_requests_finish_and_refuses_new_ones() {
    let host = Host::new();
    let service = host.hostile().await;
    let exit = service.running.exit();
    assert!(exit.borrow().is_none());
    let response = service.get("/stream?events=5&ms=10").await.unwrap();
    let stopping = tokio::spawn({
        let running = service.running.clone();
        async move { running.stop(Millis::seconds(30)).await }
    });
    // Until the stop has begun.
    let refused = async {
        loop {
            if let Err(failure) = service.get("/hello").await {
                return failure;
            }
            tokio::task::yield_now().await;
        }
    };
    let failure = tokio::time::timeout(PATIENCE, refused).await.unwrap();
    assert!(matches!(failure, HandleError::Full(_)), "{failure}");
    assert!(!stopping.is_finished());
    assert!(collect(response).await.is_ok());
    let ended = stopping.await.unwrap();
    assert_eq!(ended.text, "stopped");
    assert_eq!(exit.borrow().clone(), Some(ended.clone()));
    assert_eq!(service.running.stop(Millis(0)).await, ended);
    let last = service.log_until(|lines| !lines.is_empty()).await.pop().unwrap();
    assert_eq!((last.output, last.line.as_str()), (Output::Tutti, "stopped"));
}

#[tokio::test]
async fn what_does_not_finish_in_time_is_cut_off() {
    let host = Host::new();
    let mut manifest = manifest();
    manifest.timeout = Millis::seconds(60);
    let service = host.start(guest("hostile_guest"), manifest).await;
    let spinning = tokio::spawn({
        let service = service.clone();
        async move { service.get("/spin").await.map(|_| ()) }
    });
    while service.held().await == 0 {
        tokio::task::yield_now().await;
    }
    let exit = tokio::time::timeout(PATIENCE, service.running.stop(Millis(20))).await.unwrap();
    assert_eq!(exit.text, "stopped; 1 request was cut off");
    let failure = spinning.await.unwrap().unwrap_err();
    assert!(matches!(&failure, HandleError::Trap(text) if text.contains("stopped")), "{failure}");
    assert_eq!(service.held().await, 0);
}

#[tokio::test]
async fn a_body_that_nobody_reads_does_not_hold_up_the_end_and_never_goes_on() {
    let host = Host::new();
    let service = host.hostile().await;
    let mut body = service.get("/stream?events=1000000&ms=1").await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    let exit = tokio::time::timeout(PATIENCE, service.running.stop(Millis(0))).await.unwrap();
    assert_eq!(exit.text, "stopped; 1 request was cut off");
    let cpu = service.running.usage().await.cpu_micros;
    let rest = loop {
        match body.frame().await.expect("it must not end as if it were whole") {
            // What was written before.
            Ok(_) => {}
            Err(error) => break error.to_string(),
        }
    };
    assert!(rest.contains("stopped"), "{rest}");
    assert_eq!(service.running.usage().await.cpu_micros, cpu);
    assert_eq!(service.held().await, 0);
}
