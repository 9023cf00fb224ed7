//! The API on a real socket.

use super::*;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tutti_api::{Client, ZoneApi as _};
use tutti_base::Secret;
use tutti_model::{
    ErrorCode,
    member::{MachineRole, Membership},
    name::NodeName,
    node::{HostPort, NodeStatus},
};
use tutti_pki::{Acceptor, ClientConfig, Listens, MemberId, Pin, Root};

async fn read_some(stream: &mut TcpStream) -> String {
    let mut buffer = vec![0; 16 * 1024];
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut buffer))
        .await
        .expect("an answer in time");
    String::from_utf8_lossy(&buffer[..read.unwrap()]).into_owned()
}

#[tokio::test]
async fn it_answers_drains_and_ends() {
    let api = Api::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(serve(listener, api.router.clone(), api.tasks.clone()));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let answer = read_some(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("ok\n"), "{answer}");
    let request = format!(
        "GET /v1/services?watch HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n",
        api.tokens["admin"]
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    assert!(read_some(&mut stream).await.contains("x-ndjson"));
    // A watch is open, and an idle connection: neither holds the end up.
    let _idle = TcpStream::connect(address).await.unwrap();
    assert!(api.tasks.drain(Duration::from_secs(10)).await);
    server.await.unwrap();
    let mut rest = Vec::new();
    tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_connection_too_many_waits_and_a_slow_head_ends() {
    let api = Api::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let bounds = super::super::serve::Bounds { connections: 1, header_timeout: Duration::from_millis(300) };
    let (router, tasks) = (api.router.clone(), api.tasks.clone());
    tokio::spawn(super::super::serve::serve_within(bounds, listener, router, tasks));
    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
    let mut second = TcpStream::connect(address).await.unwrap();
    second.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    // The second is answered only once the first has had its time and is gone.
    assert!(read_some(&mut second).await.starts_with("HTTP/1.1 200"));
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_millis(50), slow.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the slow one was ended before the second was answered");
}

/// A listener of control over TLS, with the address it has and what a member connects to it with.
async fn over_tls(api: &Api, bounds: super::super::serve::Bounds) -> (HostPort, Member, Arc<MemberTable>) {
    let clock: Arc<dyn tutti_base::Clock> = Arc::new(tutti_base::SystemClock);
    let root = Root::make("c1", Arc::clone(&clock), Random::seeded(1)).unwrap();
    let zone = root.intermediate(&"dev/local".parse().unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let identity = |name: &str| {
        let identity = tutti_pki::Identity::open(&folder.path().join(name)).unwrap();
        let member = MemberId::new("c1", "dev/local".parse().unwrap(), name.parse().unwrap()).unwrap();
        let addresses = ["127.0.0.1:1".parse().unwrap()];
        identity.take(zone.vouch(&identity.request().unwrap(), &member, &addresses).unwrap()).unwrap();
        Arc::new(identity)
    };
    let (control, agent, table) = (identity("c1"), identity("n1"), Arc::new(MemberTable::default()));
    let admits = Listens {
        table: Arc::clone(&table),
        roles: Vec::new(),
        issued: control.chain(),
        members_only: false,
    };
    let config = tutti_pki::listens(control, admits, Arc::clone(&clock)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().into();
    let tasks = api.tasks.clone();
    let options =
        ServerOptions { members: Some(Arc::clone(&table)), ..options(&api.objects, Arc::default(), &tasks) };
    let acceptor = Arc::new(Acceptor::new(config));
    tokio::spawn(super::super::serve::serve_tls_within(bounds, listener, router(options), acceptor, tasks));
    (address, Member { agent, root: root.fingerprint() }, table)
}

struct Member {
    agent: Arc<tutti_pki::Identity>,
    root: Digest,
}

impl Member {
    fn knows(&self, table: &MemberTable) {
        let roles = [MachineRole::Agent].into();
        table.replace([(Membership { name: "n1".parse().unwrap(), roles }, vec![self.agent.key()])]);
    }

    fn tls(&self, identity: bool) -> Arc<ClientConfig> {
        let pin = Pin::Fingerprint(self.root.clone());
        let identity = identity.then(|| Arc::clone(&self.agent));
        tutti_pki::connects_publicly(Some(&pin), identity, Arc::new(tutti_base::SystemClock)).unwrap()
    }
}

#[tokio::test]
async fn over_tls_a_member_acts_for_its_node_until_it_is_removed_and_others_send_tokens() {
    let api = Api::with_roles().await;
    api.populate().await;
    let bounds = super::super::serve::Bounds { connections: 64, header_timeout: Duration::from_secs(10) };
    let (address, member, table) = over_tls(&api, bounds).await;
    let zone = |identity| {
        let client = Client::of_cluster(std::slice::from_ref(&address), member.tls(identity)).unwrap();
        tutti_api::client::ZoneClient::new(client)
    };
    let (one, two): (NodeName, NodeName) = ("n1".parse().unwrap(), "n2".parse().unwrap());
    let known = zone(true);
    // Its certificate is good, but the table does not know it.
    let refused = known.register_node(&one, NodeStatus::default()).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Unauthenticated, "{refused}");
    member.knows(&table);
    known.register_node(&one, NodeStatus::default()).await.unwrap();
    let mut watch = known.watch_node(&one, None);
    watch.next().await.unwrap().unwrap();
    let refused = known.register_node(&two, NodeStatus::default()).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Forbidden, "{refused}");
    let refused = zone(false).register_node(&one, NodeStatus::default()).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Unauthenticated, "{refused}");

    // On the same connection, once it was removed.
    table.replace([]);
    let refused = known.register_node(&one, NodeStatus::default()).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Unauthenticated, "{refused}");

    let base = format!("https://{address}").parse().unwrap();
    let token = Secret::new(api.tokens["viewer"].clone());
    let viewer = Client::with_tls(&base, Some(token), || Ok(member.tls(false))).unwrap();
    viewer.whoami().await.unwrap();
}

#[tokio::test]
async fn over_tls_a_handshake_takes_no_place_and_a_connection_too_many_is_closed() {
    let api = Api::start().await;
    let bounds = super::super::serve::Bounds { connections: 1, header_timeout: Duration::from_secs(10) };
    let (address, member, _) = over_tls(&api, bounds).await;
    let mut silent = Vec::new();
    for _ in 0..tutti_pki::HANDSHAKES + 1 {
        silent.push(TcpStream::connect((address.host(), address.port())).await.unwrap());
    }
    let open = || tutti_pki::dial(member.tls(false), &address);
    let mut first = open().await.unwrap();
    first.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut head = [0; 12];
    first.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    let mut second = open().await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(10), second.read(&mut head)).await.expect("it ends");
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
}

#[tokio::test]
async fn whoever_says_nothing_is_let_go() {
    let api = Api::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let bounds = super::super::serve::Bounds { connections: 8, header_timeout: Duration::from_millis(200) };
    let (router, tasks) = (api.router.clone(), api.tasks.clone());
    tokio::spawn(super::super::serve::serve_within(bounds, listener, router, tasks));
    // Nothing, what might be a method or a greeting, and the greeting of HTTP/2 with empty settings.
    for said in ["", "P", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(said.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "{said:?} stays");
    }
}

#[tokio::test]
async fn a_body_that_nobody_asked_for_takes_no_turn() {
    let api = Api::start().await;
    let never = || Body::from_stream(futures_util::stream::pending::<Result<bytes::Bytes, std::io::Error>>());
    let request = Request::builder().uri("/healthz").body(never()).unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(10), api.send(request)).await;
    answer.expect("it is not waited for").expect(200);
}

#[tokio::test]
async fn one_token_cannot_take_every_turn() {
    let api = Api::with_roles().await;
    let never = || Body::from_stream(futures_util::stream::pending::<Result<bytes::Bytes, std::io::Error>>());
    let mut slow = Vec::new();
    for _ in 0..crate::server::streams::REQUESTS_PER_TOKEN {
        let mut request = api.request("owner", Method::POST, "/v1/services", None);
        *request.body_mut() = never();
        let mut sent = Box::pin(api.router.clone().oneshot(request));
        // Once it waits for its body it has its place.
        for _ in 0..3 {
            assert!(futures_util::poll!(&mut sent).is_pending());
            tokio::task::yield_now().await;
        }
        slow.push(sent);
    }
    let refused = api.call("owner", Method::GET, "/v1/whoami", None).await.expect(429);
    assert!(refused.detail().contains("requests under way"), "{}", refused.body);
    api.call("deployer", Method::GET, "/v1/whoami", None).await.expect(200);
    slow.clear();
    api.call("owner", Method::GET, "/v1/whoami", None).await.expect(200);
}
