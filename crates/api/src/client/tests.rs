//! Against a server that says, byte for byte, what the test wrote down, one connection after the other.

use super::*;
use crate::watch::{Change, WatchEvent};
use crate::zone::ZoneApi as _;
use futures_util::StreamExt as _;
use std::sync::Mutex;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tutti_base::sha256;
use tutti_model::{ErrorCode, Resource, Timestamp, Uid, domain::DomainSpec};

/// Longest that a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server that answers its connections in turn with these bytes, and gives the requests it was sent. An empty answer
/// closes the connection without one.
async fn server(answers: Vec<String>) -> (Client, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base: Uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let served = tokio::spawn(async move {
        let mut requests = Vec::new();
        for answer in answers {
            let (mut socket, _) = listener.accept().await.unwrap();
            requests.push(request(&mut socket).await);
            socket.write_all(answer.as_bytes()).await.unwrap();
            socket.shutdown().await.unwrap();
        }
        requests
    });
    (Client::new(&base, Some(Secret::new("s3cret".into()))).unwrap(), served)
}

/// One request, head and body as text.
async fn request(socket: &mut TcpStream) -> String {
    let mut text = Vec::new();
    loop {
        let whole = String::from_utf8_lossy(&text).into_owned();
        if let Some((head, body)) = whole.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return whole;
            }
        }
        let mut piece = [0; 4096];
        match socket.read(&mut piece).await.unwrap() {
            0 => return whole,
            read => text.extend_from_slice(&piece[..read]),
        }
    }
}

/// An answer that ends with its connection.
fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nconnection: close\r\n\r\n{body}")
}

async fn patiently<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}

fn domain(name: &str) -> Resource<DomainSpec> {
    Resource::new(name, Uid::from_bits(1), Timestamp(0), DomainSpec::default())
}

fn lines(events: &[WatchEvent<DomainSpec>]) -> String {
    events.iter().map(|event| serde_json::to_string(event).unwrap() + "\n").collect()
}

#[tokio::test]
async fn every_failure_is_a_problem_with_something_to_do() {
    let refused = |answered: String| async {
        let (client, _) = server(vec![answered]).await;
        patiently(client.status()).await.unwrap_err()
    };
    let said = refused(answer(
        "409 Conflict",
        r#"{"type":"urn:tutti:problem:conflict","title":"Conflict","status":409,"detail":"busy","code":"conflict","hint":"wait","faults":["a","b"]}"#,
    ))
    .await;
    assert_eq!(
        (said.code, said.detail.as_str(), said.hint.as_deref()),
        (ErrorCode::Conflict, "busy: a; b", Some("wait"))
    );
    let stranger = refused(answer("502 Bad Gateway", "<html>")).await;
    assert_eq!(stranger.code, ErrorCode::Unavailable);
    assert!(stranger.detail.contains("answered 502 Bad Gateway"), "{stranger}");
    let garbled = refused(answer("200 OK", "{}")).await;
    assert_eq!(garbled.code, ErrorCode::Internal);
    assert!(garbled.detail.contains("cannot be read: missing field"), "{garbled}");
    let cut = refused("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".into()).await;
    assert!(cut.detail.contains("was cut off"), "{cut}");

    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let client = Client::new(&format!("http://{free}").parse().unwrap(), None).unwrap();
    let nobody = patiently(client.status()).await.unwrap_err();
    assert_eq!(nobody.detail, format!("no control answers at http://{free}"));
    assert_eq!(nobody.hint.as_deref(), Some("start one with: tutti dev"));
}

/// A cluster's control that answers every request over TLS with this, and what a member connects to it with.
async fn control(world: &World, status: &'static str) -> (HostPort, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().into();
    let config = tutti_pki::listens(
        Arc::clone(&world.control),
        tutti_pki::Listens {
            table: Arc::clone(&world.table),
            roles: Vec::new(),
            issued: None,
            members_only: false,
        },
        Arc::new(SystemClock),
    );
    let acceptor = Arc::new(tutti_pki::Acceptor::new(config.unwrap()));
    let serving = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok((mut stream, peer)) = acceptor.accept(stream).await else { continue };
            assert_eq!(peer.unwrap().named.unwrap().name.as_str(), "n1");
            let mut asked = [0; 4096];
            if stream.read(&mut asked).await.unwrap_or(0) == 0 {
                continue;
            }
            let body = r#"{"version":"9.9.9","api":"v1"}"#;
            let _ = stream.write_all(answer(status, body).as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    (address, serving)
}

/// A control and an agent that know each other.
struct World {
    control: Arc<tutti_pki::Identity>,
    agent: Arc<tutti_pki::Identity>,
    table: Arc<tutti_pki::MemberTable>,
    root: tutti_model::Digest,
    pem: String,
}

fn world() -> World {
    use tutti_model::member::{MachineRole, Membership};
    let root = tutti_pki::Root::make("c1", Arc::new(SystemClock), Random::seeded(1)).unwrap();
    let zone = root.intermediate(&"dev/local".parse().unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let identity = |name: &str| {
        let identity = tutti_pki::Identity::open(&folder.path().join(name)).unwrap();
        let member =
            tutti_pki::MemberId::new("c1", "dev/local".parse().unwrap(), name.parse().unwrap()).unwrap();
        let addresses = ["127.0.0.1:1".parse().unwrap()];
        identity.take(zone.vouch(&identity.request().unwrap(), &member, &addresses).unwrap()).unwrap();
        Arc::new(identity)
    };
    let (control, agent, table) =
        (identity("c1"), identity("n1"), Arc::new(tutti_pki::MemberTable::default()));
    let member = |name: &str, role| Membership { name: name.parse().unwrap(), roles: [role].into() };
    table.replace([
        (member("c1", MachineRole::Server), vec![control.key()]),
        (member("n1", MachineRole::Agent), vec![agent.key()]),
    ]);
    let pem = tutti_pki::Chain::new(vec![root.certificate().clone()]).unwrap().to_pem();
    World { control, agent, table, root: root.fingerprint(), pem }
}

impl World {
    fn tls(&self) -> Arc<ClientConfig> {
        let expected = tutti_pki::Expected::Role(tutti_model::member::MachineRole::Server);
        let (identity, table) = (Some(Arc::clone(&self.agent)), Arc::clone(&self.table));
        tutti_pki::connects(identity, table, expected, None, Arc::new(SystemClock)).unwrap()
    }
}

#[tokio::test]
async fn a_member_goes_to_the_next_control_and_stays_with_one_that_answers() {
    let world = world();
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().into();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (away, _serving) = control(&world, "503 Service Unavailable").await;
    let (good, serving) = control(&world, "200 OK").await;
    let controls = [free, silent.local_addr().unwrap().into(), away, good.clone()];
    let client = Client::of_cluster(&controls, world.tls()).unwrap();
    // Refused, then silent, then one that cannot serve: that is said once, and the next request goes on.
    let refused = patiently(client.release()).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Unavailable, "{refused}");
    for _ in 0..2 {
        let began = std::time::Instant::now();
        patiently(client.health()).await.unwrap();
        assert!(began.elapsed() < CONNECT_TO_ONE, "it stays with the good one");
    }
    serving.abort();
    assert!(Client::of_cluster(&[], world.tls()).is_err());

    // When none of them can be reached it says so, after each was tried once.
    let gone = Client::of_cluster(&[controls[0].clone(), good], world.tls()).unwrap();
    let _ = serving.await;
    let nobody = patiently(gone.health()).await.unwrap_err();
    assert_eq!(nobody.code, ErrorCode::Unavailable, "{nobody}");
}

#[tokio::test]
async fn an_address_of_https_is_spoken_to_by_who_is_told_its_root() {
    let world = world();
    let (address, _serving) = control(&world, "200 OK").await;
    let base: Uri = format!("https://{address}").parse().unwrap();
    for pin in
        [tutti_pki::Pin::Fingerprint(world.root.clone()), tutti_pki::Pin::Authorities(world.pem.clone())]
    {
        // The control here asks who calls, so that it is told; a token alone would do for a real one.
        let tls = || {
            let identity = Some(Arc::clone(&world.agent));
            tutti_pki::connects_publicly(Some(&pin), identity, Arc::new(SystemClock))
        };
        let client = Client::with_tls(&base, Some(Secret::new("s".into())), tls).unwrap();
        patiently(client.health()).await.unwrap();
    }
    let wrong = tutti_pki::Pin::Fingerprint(sha256::digest(b"another"));
    let tls = || tutti_pki::connects_publicly(Some(&wrong), None, Arc::new(SystemClock));
    let client = Client::with_tls(&base, None, tls).unwrap();
    let problem = patiently(client.health()).await.unwrap_err();
    assert!(problem.detail.contains("was not taken for it: "), "{problem}");
    assert!(problem.hint.unwrap().contains("--ca"));
}

#[test]
fn an_address_that_cannot_be_spoken_to_is_refused() {
    for (address, why) in
        [("127.0.0.1:7070", "no scheme"), ("ftp://cloud.example.com", "no scheme"), ("http://a/?b", "query")]
    {
        let problem = Client::new(&address.parse().unwrap(), None).unwrap_err();
        assert!(problem.detail.contains(why), "{problem}");
    }
    let client =
        Client::new(&"http://a:1/below/".parse().unwrap(), Some(Secret::new("hush".into()))).unwrap();
    assert_eq!(client.base(), "http://a:1/below");
    assert!(!format!("{client:?}").contains("hush"));
}

#[tokio::test]
async fn a_list_is_read_over_all_its_pages() {
    let page = |items: &[Resource<DomainSpec>], cursor: Option<&str>| {
        let page =
            crate::wire::Page { items: items.to_vec(), cursor: cursor.map(str::to_owned), revision: 3 };
        answer("200 OK", &serde_json::to_string(&page).unwrap())
    };
    let (client, served) = server(vec![
        page(&[domain("a.com"), domain("b.com")], Some("b.com&x")),
        page(&[domain("c.com")], None),
    ])
    .await;
    let found: Vec<Resource<DomainSpec>> = patiently(client.list(&Filter::default())).await.unwrap();
    let names: Vec<&str> = found.iter().map(|domain| domain.name.as_str()).collect();
    assert_eq!(names, ["a.com", "b.com", "c.com"]);
    let requests = served.await.unwrap();
    assert!(requests[0].starts_with("GET /v1/domains HTTP/1.1\r\n"), "{}", requests[0]);
    assert!(requests[0].contains("authorization: Bearer s3cret\r\n"), "{}", requests[0]);
    assert!(requests[1].starts_with("GET /v1/domains?cursor=b%2Ecom%26x HTTP/1.1\r\n"), "{}", requests[1]);
}

#[tokio::test]
async fn a_watch_resumes_and_starts_over_and_ends_when_it_must() {
    let gone = r#"{"type":"","title":"","status":409,"detail":"compacted","code":"conflict"}"#;
    let forbidden = r#"{"type":"","title":"","status":403,"detail":"not yours","code":"forbidden"}"#;
    let put = |name: &str| vec![Change::Put(Box::new(domain(name)))];
    let first = [
        WatchEvent::Init,
        WatchEvent::InitItem(Box::new(domain("a.com"))),
        WatchEvent::InitDone { revision: 5 },
    ];
    let second = [WatchEvent::Changes { revision: 7, changes: put("b.com") }];
    let third = [WatchEvent::Init, WatchEvent::InitDone { revision: 90 }];
    // The first is cut off in the middle of a line, which is lost; the second ends with a problem in the stream.
    let cut = lines(&first) + &lines(&second)[..20];
    let (client, served) = server(vec![
        answer("200 OK", &cut),
        answer("200 OK", &(lines(&second) + gone + "\n")),
        answer("200 OK", &lines(&third)),
        answer("403 Forbidden", forbidden),
    ])
    .await;
    let lost = Arc::new(Mutex::new(Vec::new()));
    let client = client.on_loss({
        let lost = lost.clone();
        Arc::new(move |problem: &Problem| lost.lock().unwrap().push(problem.code))
    });
    let mut watch = client.watch::<DomainSpec>(&Filter::default(), None);
    let mut events = Vec::new();
    let end = loop {
        match patiently(watch.next()).await.expect("a watch ends with a problem") {
            Ok(event) => events.push(event),
            Err(problem) => break problem,
        }
    };
    assert!(patiently(watch.next()).await.is_none());
    assert_eq!(end.detail, "not yours");
    assert_eq!(events, [&first[..], &second, &third].concat());
    let requests = served.await.unwrap();
    let asked: Vec<&str> = requests.iter().map(|request| request.split(' ').nth(1).unwrap()).collect();
    let at = |after: &str| format!("/v1/domains?watch={after}");
    assert_eq!(asked, [at(""), at("5"), at(""), at("90")]);
    assert!(lost.lock().unwrap().iter().all(|code| *code == ErrorCode::Unavailable));
}

#[tokio::test]
async fn a_create_whose_answer_was_lost_is_sent_again_under_the_same_key() {
    let created = serde_json::to_string(&domain("a.com")).unwrap();
    let (client, served) = server(vec![String::new(), answer("201 Created", &created)]).await;
    let create = crate::wire::CreateDomain { name: "a.com".parse().unwrap() };
    let made = patiently(client.create_domain(&create)).await.unwrap();
    assert!(matches!(made, super::Claimed::Domain(made) if made.name == "a.com"));
    let keys: Vec<String> = served
        .await
        .unwrap()
        .iter()
        .map(|request| request.lines().find(|line| line.starts_with(IDEMPOTENCY_KEY)).unwrap().to_owned())
        .collect();
    assert_eq!(keys[0], keys[1]);
}

#[tokio::test]
async fn a_delete_whose_answer_was_lost_is_not_sent_again() {
    let (client, served) = server(vec![String::new()]).await;
    let problem = patiently(client.delete(tutti_model::Kind::Domain, "a.com")).await.unwrap_err();
    assert!(problem.detail.contains("closed the connection before it answered"), "{problem}");
    assert_eq!(served.await.unwrap().len(), 1);
}

fn accepted(location: &str) -> String {
    format!("HTTP/1.1 202 Accepted\r\nlocation: {location}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
}

fn pieces(texts: &[&'static str]) -> BlobSource {
    futures_util::stream::iter(
        texts.iter().map(|text| Ok(Bytes::from_static(text.as_bytes()))).collect::<Vec<_>>(),
    )
    .boxed()
}

#[tokio::test]
async fn a_blob_is_streamed_to_where_the_registry_says() {
    let service = "example.com:web".parse().unwrap();
    let digest = sha256::digest(b"hello");
    let place = "/v2/example.com/web/blobs/uploads/1?state=x";
    let (client, served) =
        server(vec![answer("404 Not Found", ""), accepted(place), answer("201 Created", "")]).await;
    assert!(!patiently(client.has_blob(&service, &digest)).await.unwrap());
    let sent = Arc::new(Mutex::new(Vec::new()));
    let told = sent.clone();
    let tell = move |bytes| told.lock().unwrap().push(bytes);
    patiently(client.put_blob(&service, &digest, 5, pieces(&["hel", "lo"]), tell)).await.unwrap();
    assert_eq!(*sent.lock().unwrap(), [3, 5]);
    let requests = served.await.unwrap();
    assert!(requests[0].starts_with(&format!("HEAD /v2/example.com/web/blobs/{digest} ")), "{}", requests[0]);
    assert!(requests[1].starts_with("POST /v2/example.com/web/blobs/uploads/ "), "{}", requests[1]);
    assert!(requests[2].starts_with(&format!("PUT {place}&digest={digest} ")), "{}", requests[2]);
    assert!(
        requests[2].contains("content-length: 5\r\n") && requests[2].ends_with("\r\n\r\nhello"),
        "{}",
        requests[2]
    );
}

#[tokio::test]
async fn a_blob_goes_to_no_other_host_and_a_failing_source_is_named() {
    let service = "example.com:web".parse().unwrap();
    let digest = sha256::digest(b"hello");
    let (client, _) = server(vec![accepted("http://elsewhere.example.com/v2/x")]).await;
    let problem =
        patiently(client.put_blob(&service, &digest, 5, pieces(&["hello"]), |_| ())).await.unwrap_err();
    assert!(problem.detail.contains("to another place"), "{problem}");

    let (client, _) = server(vec![accepted("/v2/example.com/web/blobs/uploads/1"), String::new()]).await;
    let broken = futures_util::stream::iter([Err(std::io::Error::other("the disk is gone"))]).boxed();
    let problem = patiently(client.put_blob(&service, &digest, 5, broken, |_| ())).await.unwrap_err();
    assert!(problem.detail.contains("could not be read: the disk is gone"), "{problem}");
}

#[tokio::test]
async fn the_registry_s_own_errors_are_understood() {
    let service = "example.com:web".parse().unwrap();
    let body =
        r#"{"errors":[{"code":"DIGEST_INVALID","message":"other bytes","detail":{"hint":"push again"}}]}"#;
    let (client, _) = server(vec![answer("400 Bad Request", body)]).await;
    let digest = sha256::digest(b"{}");
    let put = client.put_manifest(&service, &digest, "application/json", Bytes::from_static(b"{}"));
    let problem = patiently(put).await.unwrap_err();
    assert_eq!((problem.code, problem.detail.as_str()), (ErrorCode::Invalid, "other bytes"));
    assert_eq!(problem.hint.as_deref(), Some("push again"));
}

#[tokio::test]
async fn logs_end_with_the_problem_that_ended_them() {
    let line = r#"{"at":1,"instance":"i-0000000000","output":"stdout","line":"hi"}"#;
    let gone = r#"{"type":"","title":"","status":503,"detail":"node lost","code":"unavailable"}"#;
    let (client, served) = server(vec![answer("200 OK", &format!("{line}\n\n{gone}\n"))]).await;
    let scope = LogScope::Version("example.com:web@1.0".into());
    let request =
        LogsRequest { scope, tail: Some(5), since: Some(Timestamp(9)), follow: true, previous: false };
    let lines: Vec<_> = patiently(patiently(client.logs(&request)).await.unwrap().collect()).await;
    assert_eq!(lines[0].as_ref().unwrap().line, "hi");
    assert_eq!(lines[1].as_ref().unwrap_err().detail, "node lost");
    let requests = served.await.unwrap();
    let asked = "GET /v1/logs?version=example%2Ecom%3Aweb%401%2E0&tail=5&since=9&follow=true ";
    assert!(requests[0].starts_with(asked), "{}", requests[0]);
}

#[tokio::test]
async fn a_blob_that_does_not_come_whole_says_so() {
    let (whole, digest) = ("tutti", sha256::digest(b"tutti"));
    let sent =
        |length: &str, body: &str| format!("HTTP/1.1 200 OK\r\n{length}connection: close\r\n\r\n{body}");
    let read = |answer: String| async {
        let (client, _) = server(vec![answer]).await;
        let blob = patiently(ZoneClient::new(client).blob(&digest)).await?;
        let pieces: Vec<_> = patiently(blob.pieces.collect::<Vec<_>>()).await;
        let pieces: Result<Vec<Bytes>, Problem> = pieces.into_iter().collect();
        pieces.map(|pieces| (blob.size, pieces.concat()))
    };
    assert_eq!(read(sent("content-length: 5\r\n", whole)).await.unwrap(), (5, whole.as_bytes().to_vec()));
    let cut = read(sent("content-length: 5\r\n", "tut")).await.unwrap_err();
    assert!(cut.code == ErrorCode::Unavailable && cut.detail.contains("was cut off"), "{cut}");
    let other = read(sent("content-length: 5\r\n", "solos")).await.unwrap_err();
    assert!(other.detail.contains("sent other bytes than blob"), "{other}");
    let endless = read(sent("", whole)).await.unwrap_err();
    assert!(endless.detail.contains("without its size"), "{endless}");
}

/// A report is said again when its connection broke, and carries nothing that control would have to remember.
#[tokio::test]
async fn a_report_is_said_again_and_not_remembered() {
    let (client, served) = server(vec![String::new(), answer("204 No Content", "")]).await;
    let node = "n1".parse().unwrap();
    patiently(ZoneClient::new(client).report_instances(&node, reports(1))).await.unwrap();
    let requests = patiently(served).await.unwrap();
    assert_eq!(requests.len(), 2);
    for request in requests {
        assert!(request.starts_with("POST /v1/zone/nodes/n1/reports HTTP/1.1"), "{request}");
        assert!(!request.contains(IDEMPOTENCY_KEY), "{request}");
    }
}

fn reports(count: u64) -> Vec<crate::zone::InstanceReport> {
    let report = |bits| crate::zone::InstanceReport {
        instance: tutti_model::InstanceId::from_bits(bits),
        status: tutti_model::instance::InstanceStatus::default(),
    };
    (0..count).map(report).collect()
}

/// One batch is one transaction of the store, so that more would only be split there.
#[tokio::test]
async fn reports_go_in_batches_that_fit_a_transaction() {
    let done = || answer("204 No Content", "");
    let (client, served) = server(vec![done(), done()]).await;
    let all = reports(limits::STORE_TXN_OPERATIONS as u64 + 1);
    patiently(ZoneClient::new(client).report_instances(&"n1".parse().unwrap(), all)).await.unwrap();
    let requests = patiently(served).await.unwrap();
    let said: Vec<usize> = requests.iter().map(|request| request.matches("\"instance\"").count()).collect();
    assert_eq!(said, [limits::STORE_TXN_OPERATIONS, 1]);
}
