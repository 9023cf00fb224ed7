//! Nodes that are gone, silent, somebody else, or asked for too much.

use super::{
    super::*,
    far::{Far, PATIENCE, at, book, get, node, post, target, text, until},
};
use crate::{Hop, HopError};
use async_trait::async_trait;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use http_body_util::BodyExt as _;
use std::{
    io,
    path::Path,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::{UnixListener, UnixStream},
    time::Instant,
};
use tutti_base::{Random, body};
use tutti_model::{name::NodeName, node::RoleAddress};

fn wire(path: &Path) -> WireHop {
    WireHop::new(book(path), Arc::new(Sockets), Random::seeded(1))
}

/// Why a request was refused; it is untouched.
async fn refused(wire: &WireHop) -> String {
    let error = wire.send(&node(), &target(), post("/echo", body::full("precious"))).await.unwrap_err();
    let HopError::Misdirected { reason, request } = error else { panic!("{error:?}") };
    assert_eq!(request.into_body().collect().await.unwrap().to_bytes(), "precious");
    reason
}

async fn echoes(wire: &WireHop) -> bool {
    match wire.send(&node(), &target(), post("/echo", body::full("hello"))).await {
        Ok(response) => text(response).await == "hello",
        Err(_) => false,
    }
}

/// Connections on which nothing comes in any more once they are frozen, nor on new ones.
#[derive(Debug, Default)]
struct Freezer(Arc<AtomicBool>);

struct Frozen(UnixStream, Arc<AtomicBool>);

#[async_trait]
impl Dial for Freezer {
    async fn dial(&self, _: &NodeName, address: &RoleAddress) -> io::Result<Box<dyn Io>> {
        let RoleAddress::Socket(path) = address else { panic!("a socket") };
        Ok(Box::new(Frozen(tutti_base::socket::connect(path).await?, Arc::clone(&self.0))))
    }
}

impl AsyncRead for Frozen {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.1.load(Ordering::SeqCst) {
            return Poll::Pending;
        }
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl AsyncWrite for Frozen {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_answers_no_ping_is_out_within_three_seconds_and_comes_back_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (path, far) = (folder.path().join("n1.sock"), Arc::new(Far::default()));
    at(&path, &far).await;
    let freezer = Arc::new(Freezer::default());
    let wire = WireHop::new(book(&path), Arc::clone(&freezer) as Arc<dyn Dial>, Random::seeded(1));
    assert!(echoes(&wire).await);
    let (node, target) = (node(), target());
    let mut inside = std::pin::pin!(wire.send(&node, &target, get("/hang")));
    tokio::select! {
        _ = &mut inside => panic!("it hangs"),
        () = until(|| far.running() == 1) => {}
    }
    // As long as pings are answered, a silent request is no sign of anything.
    let patient = tokio::time::timeout(Duration::from_secs(30), &mut inside).await;
    assert!(patient.is_err() && wire.out().is_empty());
    freezer.0.store(true, Ordering::SeqCst);
    let began = Instant::now();
    let error = inside.await.unwrap_err();
    assert!(matches!(&error, HopError::Failed(_)), "it may have been worked on: {error:?}");
    until(|| !wire.out().is_empty()).await;
    let bound = PING + PONG + Duration::from_millis(100);
    assert!(began.elapsed() <= bound, "{:?}", began.elapsed());
    let began = Instant::now();
    assert_eq!(refused(&wire).await, "node n1 is out: it answered no ping for 3 s");
    assert_eq!(began.elapsed(), Duration::ZERO, "at once");
    freezer.0.store(false, Ordering::SeqCst);
    until(|| wire.out().is_empty()).await;
    assert!(echoes(&wire).await);
}

#[tokio::test(start_paused = true)]
async fn who_accepts_and_says_nothing_is_no_node_and_few_wait_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("n1.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let wire = wire(&path);
    let (node, target, began) = (node(), target(), Instant::now());
    let send = |_| wire.send(&node, &target, post("/echo", body::full("x")));
    let (mut late, mut over) = (0, 0);
    let mut all: FuturesUnordered<_> = (0..PENDING + 7).map(send).collect();
    while let Some(sent) = all.next().await {
        match sent.unwrap_err() {
            HopError::Overloaded { .. } => over += 1,
            HopError::Misdirected { reason, .. } => {
                assert_eq!(reason, "node n1 is out: it gave no word within 2 s");
                late += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((late, over), (PENDING, 7));
    assert!(began.elapsed() >= DIAL && began.elapsed() < DIAL + Duration::from_millis(100));
    let began = Instant::now();
    refused(&wire).await;
    assert_eq!(began.elapsed(), Duration::ZERO, "at once");
    drop(listener);
}

#[tokio::test]
async fn a_node_that_ends_is_out_and_in_again_once_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let (path, far) = (folder.path().join("n1.sock"), Arc::new(Far::default()));
    let wire = wire(&path);
    assert!(refused(&wire).await.starts_with("node n1 is out: No such file"));
    let (tasks, serving) = at(&path, &far).await;
    until(|| wire.out().is_empty()).await;
    assert!(echoes(&wire).await);
    tasks.stop();
    tokio::time::timeout(PATIENCE, serving).await.expect("it ends").unwrap();
    assert!(refused(&wire).await.starts_with("node n1 is out: Connection refused"));
    assert_eq!(wire.out().len(), 1);
    at(&path, &far).await;
    until(|| wire.out().is_empty()).await;
    assert!(echoes(&wire).await);
}

#[tokio::test]
async fn a_request_inside_is_answered_though_its_node_is_told_to_end() {
    let folder = tempfile::tempdir().unwrap();
    let (path, far) = (folder.path().join("n1.sock"), Arc::new(Far::default()));
    let (tasks, serving) = at(&path, &far).await;
    let wire = wire(&path);
    let response = wire.send(&node(), &target(), get("/download")).await.unwrap();
    tasks.stop();
    let read = response.into_body().collect().await.unwrap().to_bytes().len();
    assert_eq!(read, 100 * 1024 * 1024);
    tokio::time::timeout(PATIENCE, serving).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn another_node_at_the_address_is_told_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let (path, far) = (folder.path().join("n1.sock"), Arc::new(Far::default()));
    at(&path, &far).await;
    let book = book(&path);
    assert!(book.set(&"n2".parse().unwrap(), Some(RoleAddress::Socket(path))));
    let wire = WireHop::new(book, Arc::new(Sockets), Random::seeded(1));
    let error = wire.send(&"n2".parse().unwrap(), &target(), get("/echo")).await.unwrap_err();
    assert_eq!(error.to_string(), "node n2 is out: this is node n1, not n2");
    assert!(echoes(&wire).await);
}

#[tokio::test]
async fn a_node_that_moves_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("old.sock"), folder.path().join("new.sock"));
    let (first, second) = (Arc::new(Far::default()), Arc::new(Far::default()));
    at(&old, &first).await;
    at(&new, &second).await;
    let book = book(&old);
    let wire = WireHop::new(Arc::clone(&book), Arc::new(Sockets), Random::seeded(1));
    assert!(echoes(&wire).await);
    assert!(book.set(&node(), Some(RoleAddress::Socket(new))));
    assert!(echoes(&wire).await);
    assert_eq!((first.served.load(Ordering::SeqCst), second.served.load(Ordering::SeqCst)), (1, 1));
    assert!(book.set(&node(), None));
    assert_eq!(refused(&wire).await, "node n1 is not known here");
}

#[tokio::test]
async fn as_many_requests_as_connections_carry_are_taken_and_one_more_is_refused_untouched() {
    let folder = tempfile::tempdir().unwrap();
    let (path, far) = (folder.path().join("n1.sock"), Arc::new(Far::default()));
    at(&path, &far).await;
    let (wire, node, target) = (wire(&path), node(), target());
    let most = CONNECTIONS * usize::try_from(STREAMS).unwrap();
    let mut inside = FuturesUnordered::new();
    while inside.len() < most {
        for _ in 0..STREAMS {
            inside.push(wire.send(&node, &target, get("/hang")));
        }
        let (far, wanted) = (Arc::clone(&far), inside.len());
        tokio::select! {
            Some(sent) = inside.next() => panic!("{:?}", sent.map(|_| ())),
            () = until(move || far.running() == wanted) => {}
        }
    }
    let error = wire.send(&node, &target, post("/echo", body::full("precious"))).await.unwrap_err();
    let HopError::Overloaded { request, .. } = error else { panic!("{error:?}") };
    assert_eq!(request.into_body().collect().await.unwrap().to_bytes(), "precious");
    drop(inside);
    until(|| far.running() == 0).await;
    assert!(echoes(&wire).await);
}

#[tokio::test(start_paused = true)]
async fn a_node_without_requests_is_let_go() {
    let folder = tempfile::tempdir().unwrap();
    let (path, far) = (folder.path().join("n1.sock"), Arc::new(Far::default()));
    at(&path, &far).await;
    let wire = wire(&path);
    assert!(echoes(&wire).await);
    assert_eq!(wire.nodes(), 1);
    tokio::time::sleep(REST + REST / 2).await;
    assert_eq!(wire.nodes(), 0);
    assert!(echoes(&wire).await);
}

#[tokio::test]
async fn requests_that_are_no_hop_go_to_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let (path, far) = (folder.path().join("n1.sock"), Arc::new(Far::default()));
    at(&path, &far).await;
    for (fields, expected) in [("", "other /logs"), ("tutti-hop-node: n1\r\n", "HTTP/1.1 421")] {
        let mut stream = tutti_base::socket::connect(&path).await.unwrap();
        let request = format!("GET /logs HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{fields}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains(expected), "{answer}");
    }
    assert_eq!(far.served.load(Ordering::SeqCst), 0);
}
