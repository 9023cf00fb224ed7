use super::*;
use crate::testing::tokio_clock;
use http::Response;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::{io::AsyncWriteExt as _, net::TcpListener};

fn health(probe: Probe) -> Health {
    Health { probe, timeout: Millis(500), ..Health::default() }
}

struct Answers(AtomicU32, u16);

#[async_trait::async_trait]
impl Handler for Answers {
    async fn handle(&self, request: Request<Body>) -> Result<Response<Body>, HandleError> {
        assert_eq!(request.uri().path(), "/up");
        let status = if self.0.fetch_add(1, Ordering::SeqCst) < 5 { 503 } else { self.1 };
        Ok(Response::builder().status(status).body(body::empty()).unwrap())
    }
}

/// A server that says `answer` to everyone.
async fn says(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(answer.as_bytes()).await;
            // Kept open until the prober closes it.
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        }
    });
    address
}

async fn closed() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn tcp_says_whether_somebody_listens() {
    assert_eq!(probe(&health(Probe::Tcp), &Target::Address(says("").await)).await, Ok(()));
    let closed = closed().await;
    let fault = probe(&health(Probe::Tcp), &Target::Address(closed)).await.unwrap_err();
    assert_eq!(fault, format!("nothing listens on port {}", closed.port()));
}

#[tokio::test]
async fn http_takes_200_to_399_and_names_what_it_asked() {
    let http = health(Probe::Http("/".into()));
    for good in
        ["HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "HTTP/1.1 302 Found\r\ncontent-length: 9\r\n\r\n"]
    {
        assert_eq!(probe(&http, &Target::Address(says(good).await)).await, Ok(()), "{good}");
    }
    let bad = says("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n").await;
    let fault = probe(&http, &Target::Address(bad)).await.unwrap_err();
    assert_eq!(fault, format!("GET / on port {} answered 500", bad.port()));
    let silent = says("").await;
    let fault = probe(&http, &Target::Address(silent)).await.unwrap_err();
    assert_eq!(fault, format!("GET / on port {} gave no answer within 500ms", silent.port()));
    let nonsense = says("SSH-2.0-OpenSSH\r\n\r\n").await;
    let fault = probe(&http, &Target::Address(nonsense)).await.unwrap_err();
    assert!(fault.starts_with(&format!("GET / on port {} failed: ", nonsense.port())), "{fault}");
}

#[tokio::test]
async fn grpc_wants_serving_over_the_network_and_by_a_call() {
    let (reporter, service) = tonic_health::server::health_reporter();
    reporter.set_service_status("up", tonic_health::ServingStatus::Serving).await;
    reporter.set_service_status("down", tonic_health::ServingStatus::NotServing).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
    let target = Target::Address(address);
    let port = address.port();
    assert_eq!(probe(&health(Probe::Grpc("up".into())), &target).await, Ok(()));
    assert_eq!(probe(&health(Probe::Grpc(String::new())), &target).await, Ok(()));
    assert_eq!(
        probe(&health(Probe::Grpc("down".into())), &target).await.unwrap_err(),
        format!("the gRPC health check of down on port {port} said NOT_SERVING")
    );
    let fault = probe(&health(Probe::Grpc("none".into())), &target).await.unwrap_err();
    assert!(
        fault.starts_with(&format!("the gRPC health check of none on port {port} failed: NotFound")),
        "{fault}"
    );
    let closed = closed().await;
    let fault = probe(&health(Probe::Grpc("up".into())), &Target::Address(closed)).await.unwrap_err();
    assert_eq!(fault, format!("nothing listens on port {}", closed.port()));
}

#[tokio::test(start_paused = true)]
async fn a_starting_instance_is_asked_often_and_by_its_deadline_given_up() {
    let clock = tokio_clock();
    let (told, kept_by) = watch::channel(None);
    let http = health(Probe::Http("/up".into()));
    let began = clock.now();
    let target = Target::Handler(Arc::new(Answers(AtomicU32::new(0), 200)));
    assert_eq!(until_ready(&http, &target, clock.as_ref(), &told).await, Ok(()));
    assert!(clock.now().since(began) < Millis(100), "{}", clock.now().since(began));
    assert_eq!(*kept_by.borrow(), None, "what comes up at once says nothing before");

    let answers = Arc::new(Answers(AtomicU32::new(0), 404));
    let short = Health { start: Millis::seconds(10), ..http };
    let began = clock.now();
    let target = Target::Handler(Arc::clone(&answers) as Arc<dyn Handler>);
    assert_eq!(until_ready(&short, &target, clock.as_ref(), &told).await, Err("GET /up answered 404".into()));
    assert_eq!(kept_by.borrow().as_deref(), Some("GET /up answered 404"));
    assert!(clock.now().since(began) <= Millis::seconds(10));
    assert!(answers.0.load(Ordering::SeqCst) < 60, "the pauses grow");
}

/// Answers another status every time.
struct Moody(AtomicU32);

#[async_trait::async_trait]
impl Handler for Moody {
    async fn handle(&self, _: Request<Body>) -> Result<Response<Body>, HandleError> {
        let status = 500 + self.0.fetch_add(1, Ordering::SeqCst) % 99;
        Ok(Response::builder().status(u16::try_from(status).unwrap()).body(body::empty()).unwrap())
    }
}

#[tokio::test(start_paused = true)]
async fn what_keeps_an_instance_is_said_seldom_however_often_it_changes() {
    let clock = tokio_clock();
    let (told, mut kept_by) = watch::channel(None);
    let http = Health { start: Millis::seconds(60), ..health(Probe::Http("/up".into())) };
    let target = Target::Handler(Arc::new(Moody(AtomicU32::new(0))));
    let said = tokio::spawn(async move {
        let mut said = 0;
        while kept_by.changed().await.is_ok() {
            said += 1;
        }
        said
    });
    until_ready(&http, &target, clock.as_ref(), &told).await.unwrap_err();
    drop(told);
    let said = said.await.unwrap();
    assert!((2..=6).contains(&said), "{said} times in a minute");
}

#[tokio::test]
async fn a_call_without_a_probe_of_its_own_is_ready_at_once_and_for_good() {
    let target = Target::Handler(Arc::new(Answers(AtomicU32::new(0), 200)));
    assert_eq!(probe(&health(Probe::Tcp), &target).await, Ok(()));
    assert!(is_lasting(&Probe::Tcp, &target));
    assert!(!is_lasting(&Probe::Http("/".into()), &target));
}

#[test]
fn instances_that_came_up_together_are_asked_apart() {
    let random = Random::seeded(1);
    let pauses: Vec<u64> = (0..1000).map(|_| first_pause(Millis::seconds(10), &random).0).collect();
    assert!(pauses.iter().all(|pause| (1..=10_000).contains(pause)));
    for second in 0..10u64 {
        let asked = pauses.iter().filter(|pause| (**pause - 1) / 1000 == second).count();
        assert!((50..=150).contains(&asked), "{asked} of 1000 in second {second}");
    }
    assert_eq!(first_pause(Millis(0), &random), Millis(1));
}
