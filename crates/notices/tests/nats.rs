//! The NATS client over a real server: who may come, what goes through, and what becomes of it when the server is killed.
//! What is done with it is tested beside the code, over a carrier that does worse.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the whole file is a test: what fails here is to fail loudly"
)]

mod server;

use futures_util::StreamExt as _;
use server::Server;
use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};
use tokio::time::timeout;
use tutti_notices::{Carrier as _, Nats};

const PATIENCE: Duration = Duration::from_secs(30);

async fn until(holds: impl Fn() -> bool) {
    let holding = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, holding).await.unwrap();
}

/// Publishes until something comes: a subscription may only be under way.
async fn goes_through(from: &Nats, to: &Nats) {
    let mut messages = to.subscribe(vec!["tutti.test.beat".to_owned(), "tutti.test.changed".to_owned()]);
    let publishing = async {
        loop {
            from.publish("tutti.test.changed".to_owned(), b"7".to_vec()).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let came = tokio::select! {
        () = publishing => unreachable!("it goes on"),
        came = timeout(PATIENCE, messages.next()) => came,
    };
    assert_eq!(came.unwrap().unwrap().as_ref(), b"7");
}

#[tokio::test]
async fn a_server_that_comes_late_is_killed_and_comes_back() {
    let Some(mut server) = Server::start(&[]) else { return };
    server.kill();
    let (one, two) = (
        Nats::connect(&server.address("nats"), None, None).await.unwrap(),
        Nats::connect(&server.address("nats"), None, None).await.unwrap(),
    );
    assert!(!one.is_connected());
    // Nobody waits for it.
    timeout(Duration::from_secs(1), one.publish("tutti.test.beat".to_owned(), b"x".to_vec())).await.unwrap();
    // A subscription lives through all of it.
    let mut messages = two.subscribe(vec!["tutti.test.through".to_owned()]);
    let through = tokio::spawn(async move {
        let mut count = 0;
        while let Some(message) = messages.next().await {
            count += 1;
            if message.as_ref() == b"last" {
                return count;
            }
        }
        count
    });
    for _ in 0..3 {
        server.run();
        server.listens().await;
        until(|| one.is_connected() && two.is_connected()).await;
        goes_through(&one, &two).await;
        server.kill();
        until(|| !one.is_connected() && !two.is_connected()).await;
    }
    server.run();
    until(|| one.is_connected() && two.is_connected()).await;
    let last = async {
        loop {
            one.publish("tutti.test.through".to_owned(), b"last".to_vec()).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let count = tokio::select! {
        () = last => unreachable!("it goes on"),
        count = timeout(PATIENCE, through) => count.unwrap().unwrap(),
    };
    assert_eq!(count, 1);
}

#[tokio::test]
async fn only_who_has_the_credentials_comes() {
    let Some(server) = Server::start(&["--user", "ada", "--pass", "hunter2"]) else { return };
    server.listens().await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (right, wrong) = (file("right", "ada:hunter2\n"), file("wrong", "ada:hunter3"));
    let address = server.address("nats");
    let good = Nats::connect(&address, Some(&right), None).await.unwrap();
    let bad = timeout(PATIENCE, Nats::connect(&address, Some(&wrong), None)).await.unwrap();
    until(|| good.is_connected()).await;
    goes_through(&good, &good).await;
    // Refused, or tried for ever: it does not come.
    assert!(bad.is_err() || !bad.unwrap().is_connected());
}

/// A certificate of its own for 127.0.0.1, and its key.
fn certificate(folder: &Path) -> Option<(String, String)> {
    let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=nats", "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", &text(&key), "-out", &text(&certificate)])
        .stderr(Stdio::null())
        .status();
    match made {
        Ok(status) if status.success() => Some((text(&certificate), text(&key))),
        _ => {
            println!("skipped: this test needs openssl");
            None
        }
    }
}

#[tokio::test]
async fn with_tls_only_a_server_that_is_vouched_for_is_spoken_to() {
    let folder = tempfile::tempdir().unwrap();
    let Some((certificate, key)) = certificate(folder.path()) else { return };
    let Some(server) = Server::start(&["--tls", "--tlscert", &certificate, "--tlskey", &key]) else { return };
    server.listens().await;
    let known = Nats::connect(&server.address("tls"), None, Some(Path::new(&certificate))).await.unwrap();
    until(|| known.is_connected()).await;
    goes_through(&known, &known).await;
    let unknown = timeout(PATIENCE, Nats::connect(&server.address("tls"), None, None)).await.unwrap();
    assert!(unknown.is_err() || !unknown.unwrap().is_connected());
    // A server that offers no TLS is none.
    let Some(plain) = Server::start(&[]) else { return };
    plain.listens().await;
    let refused = timeout(PATIENCE, Nats::connect(&plain.address("tls"), None, None)).await.unwrap();
    assert!(refused.is_err() || !refused.unwrap().is_connected());
}
