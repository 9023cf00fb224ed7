//! What there is only between processes: control that goes and comes back, bytes of artifacts, and who may.

use super::*;
use crate::server::{audit, serve::OverSocket};
use proptest::prelude::*;
use tutti_api::{operations::operation, zone::REPORT_BYTES};
use tutti_model::{ErrorCode, ingress::IngressSpec};
use tutti_store::sqlite::{SqliteOptions, SqliteStore};

#[tokio::test]
async fn a_watch_goes_on_where_it_was_when_control_is_back() {
    let mut world = World::wired().await;
    let mut reader = Reader::new(world.zone.watch_tables(None)).begin().await;
    let mut instances = Reader::new(world.zone.watch_instances(&node("n1"), None)).begin().await;
    let (mut written, mut read) = (Vec::new(), Vec::new());
    for round in 0..4u64 {
        for number in 0..5 {
            written.push(world.table(&format!("example.com:s{number}"), format!("{round}")).await);
        }
        world.end().await;
        written.push(world.table("example.com:away", format!("{round}")).await);
        let instance = world.instance(round + 1, "n1");
        world.objects.write().create(&instance).commit().await.unwrap().unwrap();
        world.serve().await;
        while read.last() != written.last() {
            if !reader.next().await.is_empty() {
                read.extend(reader.reached);
            }
        }
        instances.until(|reader| reader.known.contains_key(&instance.name)).await;
    }
    assert_eq!(read, written, "nothing is skipped, and nothing said twice");
    assert_eq!((reader.inits, instances.inits), (1, 1));
}

/// As when control's process is another one: the store is closed and opened, and memory is gone.
#[tokio::test]
async fn a_watch_goes_on_over_another_run_of_control() {
    let folder = tempfile::tempdir().unwrap();
    let open = || -> Arc<dyn Store> {
        let options = SqliteOptions::default();
        Arc::new(SqliteStore::open(&folder.path().join("store.db"), options).unwrap())
    };
    let clock = VirtualClock::at(Timestamp(1_700_000_000_000));
    let mut world = World::over(open(), clock.clone()).wire().await;
    let mut reader = Reader::new(world.zone.watch_tables(None)).begin().await;
    for round in 0..3 {
        let revision = world.table("example.com:web", round.to_string()).await;
        reader.reach(revision).await;
        world.end().await;
        // The old one is closed before the new one is opened.
        world.objects = World::direct().objects.clone();
        world.objects = World::over(open(), clock.clone()).objects.clone();
        world.serve().await;
    }
    let revision = world.table("example.com:web", "after").await;
    reader.reach(revision).await;
    assert_eq!(reader.inits, 1);
}

#[tokio::test]
async fn calls_go_on_when_control_is_back() {
    let mut world = World::wired().await;
    let report = |reached| tutti_api::zone::IngressReport {
        ingress: "i1".to_owned(),
        spec: IngressSpec::default(),
        reached,
        stats: Vec::new(),
    };
    world.zone.register_node(&node("n1"), status("1")).await.unwrap();
    world.zone.report_ingress(report(1)).await.unwrap();
    world.end().await;
    let away = world.zone.register_node(&node("n1"), status("2")).await.unwrap_err();
    assert_eq!(away.code, ErrorCode::Unavailable);
    world.serve().await;
    world.zone.register_node(&node("n1"), status("2")).await.unwrap();
    world.zone.report_ingress(report(2)).await.unwrap();
    // The lease that the last run had given ends, and takes nothing with it.
    world.clock.advance(Millis::seconds(9));
    world.zone.report_ingress(report(2)).await.unwrap();
    world.clock.advance(Millis::seconds(9));
    world.zone.report_ingress(report(2)).await.unwrap();
    assert_eq!(world.objects.get::<IngressSpec>("i1").await.unwrap().status.reached, 2);
}

/// What another user finds who can open the socket file. Run by the test below, as that user.
#[test]
#[ignore = "it is run as another user, by a_stranger_is_refused"]
fn stranger() {
    use std::io::{Read as _, Write as _};
    let mut stream = std::os::unix::net::UnixStream::connect(std::env::var_os("SOCKET").unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
}

/// Needs root, to be another user; elsewhere there is nobody to refuse.
#[tokio::test]
async fn a_stranger_is_refused() {
    use std::os::unix::{fs::MetadataExt as _, fs::PermissionsExt as _, process::CommandExt as _};
    let world = World::wired().await;
    let (path, folder) = (&world.served().path, world.served().path.parent().unwrap());
    if std::fs::metadata(path).unwrap().uid() != 0 {
        eprintln!("skipped: only root can become another user, whom the socket is to refuse");
        return;
    }
    for (opened, mode) in [(folder, 0o755), (path.as_path(), 0o666)] {
        std::fs::set_permissions(opened, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    // Where another user may run it, whatever folder it was built in.
    let program = folder.join("stranger");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = std::process::Command::new(&program);
    command.args(["--ignored", "--exact", "server::tests::zone::wire::stranger"]);
    command.env("SOCKET", path).current_dir("/").uid(65534).gid(65534);
    let ran = patiently(tokio::process::Command::from(command).output()).await.unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && said.contains("1 passed"), "{said}");
    // The owner is let in all the same.
    world.zone.register_node(&node("n1"), status("1")).await.unwrap();
}

#[tokio::test]
async fn a_watch_that_missed_what_is_compacted_away_begins_anew() {
    let mut world = World::wired_retaining(10).await;
    world.table("example.com:gone", "1").await;
    let mut reader = Reader::new(world.zone.watch_tables(None)).begin().await;
    world.end().await;
    let gone = world.objects.get::<TableSpec>("example.com:gone").await.unwrap();
    world.objects.write().delete(&gone).commit().await.unwrap().unwrap();
    let mut last = 0;
    for number in 0..30 {
        last = world.table("example.com:web", number.to_string()).await;
    }
    world.serve().await;
    reader.reach(last).await;
    assert_eq!(reader.inits, 2);
    assert_eq!(reader.known.keys().collect::<Vec<_>>(), ["example.com:web"]);
}

/// Whoever watches little among much is told how far the watch is, and resumes there.
#[tokio::test]
async fn a_quiet_watch_keeps_up_with_what_it_does_not_see() {
    let mut world = World::wired_retaining(400).await;
    let mut reader = Reader::new(world.zone.watch_instances(&node("n1"), None)).begin().await;
    let began = reader.reached;
    let mut other = world.instance(1, "n2");
    world.objects.write().create(&other).commit().await.unwrap().unwrap();
    for generation in 0..390 {
        other = world.objects.get::<InstanceSpec>(&other.name).await.unwrap();
        other.generation = generation;
        world.objects.write().update(&other).commit().await.unwrap().unwrap();
    }
    reader.until(|reader| reader.reached > began.map(|began| began + 300)).await;
    world.end().await;
    for number in 0..100 {
        world.table("example.com:web", number.to_string()).await;
    }
    world.serve().await;
    let own = world.instance(2, "n1");
    world.objects.write().create(&own).commit().await.unwrap().unwrap();
    assert!(reader.next().await.is_empty(), "whoever resumes is answered at once");
    assert_eq!(reader.next().await, [own.name]);
    assert_eq!(reader.inits, 1);
}

#[tokio::test(start_paused = true)]
async fn control_may_be_away_for_as_long_as_it_likes() {
    let folder = tempfile::tempdir().unwrap();
    let zone = ZoneClient::new(Client::over_socket(&folder.path().join("control.sock")));
    let mut events = zone.watch_tables(Some(7));
    let week = Duration::from_secs(7 * 24 * 3600 / 24);
    assert!(tokio::time::timeout(week, events.next()).await.is_err(), "it neither ends nor says anything");
    let refused = zone.register_node(&node("n1"), status("1")).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Unavailable);
    assert!(refused.detail.starts_with("no control answers at unix:/"), "{refused}");
}

#[tokio::test]
async fn a_watch_that_nothing_can_mend_says_so_and_ends() {
    let api = Api::start().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    api.tasks.spawn("api", serve(listener, api.router.clone(), api.tasks.clone()));
    let secret = tutti_base::Secret::new(api.tokens["admin"].clone());
    let zone = ZoneClient::new(Client::new(&base, Some(secret)).unwrap());
    let refused = patiently(zone.watch_tables(None).next()).await.unwrap().unwrap_err();
    assert_eq!(refused.code, ErrorCode::Forbidden);
    assert_eq!(
        refused.detail,
        "watch zone tables is for agents, ingresses and DNS servers; token \"admin\" may not, and no token may"
    );
    let refused = zone.blob(&PUSHED.parse().unwrap()).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Forbidden);
}

#[tokio::test]
async fn blobs_come_whole_and_are_checked() {
    let world = World::wired().await;
    let client = &world.served().client;
    let read = |digest: &str| {
        let digest: Digest = digest.parse().unwrap();
        async move {
            let blob = client.blob(&digest).await?;
            let pieces: Vec<_> = patiently(blob.pieces.collect::<Vec<_>>()).await;
            let pieces: Vec<bytes::Bytes> = pieces.into_iter().collect::<Result<_, _>>()?;
            Ok::<_, Problem>((blob.size, pieces.concat()))
        }
    };
    assert_eq!(read(PUSHED).await.unwrap(), (0, Vec::new()));
    assert_eq!(read(PUSHED_TOO).await.unwrap(), (1, b"\n".to_vec()));
    let damaged = read(DAMAGED).await.unwrap_err();
    assert!(damaged.detail.contains("sent other bytes than blob"), "{damaged}");
    let missing = read(&tutti_base::sha256::digest(b"nobody pushed this").to_string()).await.unwrap_err();
    assert_eq!(missing.code, ErrorCode::NotFound);
}

/// A call as it comes over the socket, with this body.
async fn said(api: &Api, method: Method, path: &str, body: Vec<u8>) -> Got {
    let mut request = Request::builder().method(method).uri(path).body(Body::from(body)).unwrap();
    request.extensions_mut().insert(OverSocket);
    api.send(request).await
}

#[tokio::test]
async fn a_report_may_be_larger_than_other_bodies_but_not_endless() {
    let api = Api::start().await;
    let report = |padding: usize| {
        let http = "x".repeat(padding);
        json!({ "ingress": "i1", "spec": { "http": http }, "reached": 0, "stats": [] })
            .to_string()
            .into_bytes()
    };
    let path = "/v1/zone/ingresses/i1";
    // It is read whole; that the store has no room for such a name is another matter.
    let read = said(&api, Method::PUT, path, report(tutti_model::limits::API_BODY_BYTES)).await;
    assert!(!read.detail().contains("the body is longer"), "{}", read.body);
    let refused = said(&api, Method::PUT, path, report(REPORT_BYTES)).await.expect(429);
    assert!(refused.detail().contains(&format!("longer than {REPORT_BYTES} bytes")), "{}", refused.body);
    let zone = World::wired().await;
    let refused = zone.zone.report_ingress(tutti_api::zone::IngressReport {
        ingress: "i1".to_owned(),
        spec: IngressSpec { http: "x".repeat(REPORT_BYTES), ..IngressSpec::default() },
        reached: 0,
        stats: Vec::new(),
    });
    assert_eq!(refused.await.unwrap_err().code, ErrorCode::QuotaExceeded);
}

#[tokio::test]
async fn what_nodes_say_wrongly_is_refused() {
    let api = Api::start().await;
    let body = json!({ "ingress": "i2", "spec": { "http": "" }, "reached": 0, "stats": [] }).to_string();
    let refused = said(&api, Method::PUT, "/v1/zone/ingresses/i1", body.into()).await.expect(400);
    assert_eq!(refused.detail(), "ingress i1 cannot report for ingress i2");
    let long = format!("/v1/zone/ingresses/{}", "i".repeat(256));
    said(&api, Method::DELETE, &long, Vec::new()).await.expect(400);
    for (method, path, body) in [
        (Method::PUT, "/v1/zone/nodes/N%201/heartbeat", "{\"used\":{},\"running\":[]}"),
        (Method::PUT, "/v1/zone/nodes/n1/status", "{"),
        (Method::POST, "/v1/zone/nodes/n1/reports", "{}"),
        (Method::GET, "/v1/zone/tables?after=soon", ""),
        (Method::GET, "/v1/zone/tables?watch=1", ""),
        (Method::GET, "/v1/zone/blobs/sha256:x", ""),
    ] {
        let refused = said(&api, method, path, body.into()).await;
        assert_eq!(refused.status, 400, "{path}: {}", refused.body);
    }
}

#[tokio::test]
async fn the_owner_of_the_machine_is_an_admin_and_a_token_is_heeded() {
    let api = Api::with_roles().await;
    let who = said(&api, Method::GET, "/v1/whoami", Vec::new()).await.expect(200);
    assert_eq!(who.body, json!({ "token": "(this machine)", "role": "admin" }));
    said(&api, Method::POST, "/v1/domains", json!({ "name": "new.org" }).to_string().into())
        .await
        .expect(201);
    said(&api, Method::GET, "/v2/example.com/web/blobs/x", Vec::new()).await.expect(200);
    let mut request = api.request("viewer", Method::GET, "/v1/nodes", None);
    request.extensions_mut().insert(OverSocket);
    api.send(request).await.expect(403);
}

/// Tenants who take every turn and every place keep no node from being heard.
#[tokio::test]
async fn nodes_have_turns_and_places_of_their_own() {
    let api = Api::start().await;
    let app_turns = crate::server::dispatch::REQUESTS;
    let never = || Body::from_stream(stream::pending::<Result<bytes::Bytes, std::io::Error>>());
    let mut slow = Vec::new();
    for number in 0..app_turns {
        if number % crate::server::streams::REQUESTS_PER_TOKEN == 0 {
            let body = json!({ "name": format!("t{number}"), "role": "admin" });
            let made = api.post("/v1/tokens", body).await.expect(201);
            slow.push((made.body["secret"].as_str().unwrap().to_owned(), Vec::new()));
        }
        let (secret, waiting) = slow.last_mut().unwrap();
        let mut request = api.request(secret, Method::POST, "/v1/services", None);
        *request.body_mut() = never();
        let mut sent = Box::pin(api.router.clone().oneshot(request));
        for _ in 0..3 {
            assert!(futures_util::poll!(&mut sent).is_pending());
            tokio::task::yield_now().await;
        }
        waiting.push(sent);
    }
    let beat = json!({ "used": tutti_model::node::Resources::default(), "running": [] }).to_string();
    let heard = said(&api, Method::PUT, "/v1/zone/nodes/n1/heartbeat", beat.into());
    patiently(heard).await.expect(200);
}

#[test]
fn what_is_said_again_and_again_is_not_noted() {
    let noted = |id: &str| audit::is_noted(operation(id).unwrap());
    assert!(!noted("heartbeat_node") && !noted("report_instances") && !noted("report_ingress"));
    assert!(noted("register_node") && noted("leave_ingress") && noted("create_domain"));
    assert!(!noted("get_domain"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Wherever control ends between a watch's events, its reader ends up with what is stored, having read each
    /// change once.
    #[test]
    fn no_end_of_control_is_noticed(steps in prop::collection::vec(prop::option::weighted(0.8, 0..4usize), 1..24)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World::wired().await;
            let mut reader = Reader::new(world.zone.watch_tables(None)).begin().await;
            let mut written = Vec::new();
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Some(service) => {
                        written.push(world.table(&format!("example.com:s{service}"), number.to_string()).await);
                    }
                    None => {
                        world.end().await;
                        world.serve().await;
                    }
                }
            }
            let mut read = Vec::new();
            while read.last() != written.last() {
                if !reader.next().await.is_empty() {
                    read.extend(reader.reached);
                }
            }
            assert_eq!((read, reader.inits), (written, 1));
        });
    }
}
