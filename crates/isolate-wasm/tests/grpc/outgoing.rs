//! Requests that a guest makes.

use crate::fixture::{Host, manifest};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tutti_model::manifest::Manifest;

#[tokio::test]
async fn a_guest_reaches_what_its_manifest_names() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 1024];
        let length = stream.read(&mut request).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfound").await.unwrap();
        String::from_utf8(request[..length].to_vec()).unwrap()
    });
    let host = Host::new();
    let outgoing = vec![format!("127.0.0.1:{port}").parse().unwrap(), "localhost:1".parse().unwrap()];
    let service = host.start(Manifest { outgoing, ..manifest() }).await;
    let answer = service.call("Fetch", &format!(r#"{{"url": "http://127.0.0.1:{port}/path?x=1"}}"#)).await;
    assert_eq!(answer.json("Fetch")["name"], "200 found");
    let request = served.await.unwrap();
    assert!(request.starts_with("GET /path?x=1 HTTP/1.1\r\n"), "{request}");
    assert!(request.contains(&format!("host: 127.0.0.1:{port}")), "{request}");
    // A name that leads to this machine is not an address of it.
    let answer = service.call("Fetch", r#"{"url": "http://localhost:1/"}"#).await;
    assert!(answer.text().contains("DestinationIpProhibited"), "{}", answer.text());
    service.log_says("not a public address").await;
    let answer = service.call("Fetch", r#"{"url": "https://example.net/"}"#).await;
    assert!(answer.text().contains("HttpRequestDenied"), "{}", answer.text());
}

#[tokio::test]
async fn what_is_denied_is_said_in_the_log_with_what_to_do_instead() {
    let host = Host::new();
    let service = host.start(manifest()).await;
    // A guest that asks for nothing is told nothing.
    assert_eq!(service.call("SayHello", r#"{"name": "x"}"#).await.code(), 0);
    assert_eq!(service.call("Misbehave", r#"{"files": {}}"#).await.code(), 0);
    service.log_says("files were asked for and there are none").await;
    assert_eq!(service.call("Misbehave", r#"{"connect": {}}"#).await.code(), 0);
    service.log_says("a TCP socket was denied").await;
    service.log_says("listed as outgoing").await;
    // However often it tries, a line of each kind is enough for a while.
    for _ in 0..20 {
        service.call("Misbehave", r#"{"files": {}}"#).await;
        service.call("Misbehave", r#"{"connect": {}}"#).await;
    }
    service.call("Misbehave", r#"{"print": "the last line"}"#).await;
    let lines = service.log_until(|lines| lines.iter().any(|line| line.line == "the last line")).await;
    let about = |what: &str| lines.iter().filter(|line| line.line.contains(what)).count();
    assert_eq!((about("files were asked for"), about("a TCP socket")), (1, 1), "{lines:?}");
    assert_eq!(lines.len(), 3, "{lines:?}");
}
