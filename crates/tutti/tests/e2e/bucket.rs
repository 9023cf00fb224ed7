//! Artifacts in a bucket that two controls have: what is pushed to one is fetched through the other, and what goes on when
//! the bucket's server dies.

#[path = "../../../registry/src/bucket/tests/moto.rs"]
pub mod moto;

use crate::harness::{guest, request, wait_until};
use crate::members::{World, free_port};
use moto::{KEYS, Moto};
use std::net::SocketAddr;

const BUCKET: &str = "s3://tutti/clouds/one";

fn environment(moto: &Moto) -> Vec<(&'static str, String)> {
    let keys = KEYS.iter().map(|(name, value)| (*name, (*value).to_owned()));
    keys.chain([("AWS_ENDPOINT_URL", moto.endpoint())]).collect()
}

#[test]
fn controls_share_a_bucket_and_outlive_it() {
    let Some(mut moto) = Moto::start() else { return };
    moto.make("tutti");
    let Some(world) = World::with_bucket(BUCKET, environment(&moto)) else { return };
    let mut first = world.server("c1", &["--init"]);
    first.ready();
    let mut second = world.server("c2", &["--init"]);
    let other = second.ready();
    let address = other["api"].as_str().unwrap().trim_start_matches("https://");

    // The machine joins by the second alone; the context of whoever pushes is of the first.
    let advertise = format!("127.0.0.1:{}", free_port());
    let joined = world.join("w1", address, &world.token(&[]), &["--advertise", &advertise]);
    assert_eq!(joined.code, 0, "{joined:?}");
    let mut agent = world.role("w1", &["agent", "--listen", &advertise]);
    agent.ready();
    let mut ingress = world.role("w1", &["ingress", "--http", "127.0.0.1:0"]);
    let http: SocketAddr =
        ingress.ready()["http"].as_str().unwrap().trim_start_matches("http://").parse().unwrap();
    world.ok(&["domain", "create", "example.com"]);
    world.push("example.com:web@1.0");
    let listed = moto.send("GET", "/tutti?list-type=2&prefix=clouds/one/blobs/sha256/", b"");
    assert!(listed.matches("<Key>").count() >= 2, "{listed}");
    world.ok(&["deploy", "example.com:web@1.0", "100%"]);
    let serves = || {
        let text = "GET / HTTP/1.1\r\nhost: web.example.com.localhost\r\nconnection: close\r\n\r\n";
        let answer = request(http, text);
        if answer.status == 200 { Ok(()) } else { Err(answer.body) }
    };
    wait_until("it serves", serves);
    let log = std::fs::read_to_string(world.path("c2-server.log")).unwrap();
    assert!(log.contains("token=\"w1\" operation=\"register_node\""), "the agent is at the second: {log}");

    // Without the bucket what runs goes on, and a push says what is wrong.
    moto.kill();
    assert_eq!(serves(), Ok(()));
    let file = world.path("example.com-web-1.0").join("hello.wasm");
    let more = world.path("other.wasm");
    // A custom section at its end makes other bytes of the same component.
    let bytes = [std::fs::read(file).unwrap(), vec![0, 2, 1, b'x']].concat();
    std::fs::write(&more, bytes).unwrap();
    let push = ["push", more.to_str().unwrap(), "example.com:web@1.1"];
    let refused = world.tutti(&push);
    assert!(refused.code == UNAVAILABLE && refused.err.contains(BUCKET), "{refused:?}");
    assert!(refused.err.contains("s3.endpoint") && !refused.err.contains("test-secret"), "{refused:?}");
    assert_eq!(serves(), Ok(()));
    let log = std::fs::read_to_string(world.path("c1-server.log")).unwrap();
    assert!(!log.contains("test-secret"), "{log}");

    // A control is not started without it.
    second.stop();
    let mut again = world.server("c2", &[]);
    again.ends();
    let log = std::fs::read_to_string(world.path("c2-server.log")).unwrap();
    assert!(log.contains("cannot write and read a probe in s3://tutti/clouds/one: "), "{log}");

    // There again, and empty: the push that failed succeeds.
    moto.run();
    moto.make("tutti");
    world.ok(&push);
    world.ok(&["deploy", "example.com:web@1.1", "100%"]);
    assert_eq!(serves(), Ok(()));
}

/// The exit code of what cannot be done just now.
const UNAVAILABLE: i32 = 10;

#[test]
fn a_backup_takes_artifacts_from_a_bucket_and_puts_them_into_another() {
    let Some(moto) = Moto::start() else { return };
    moto.make("tutti");
    let Some(world) = World::with_bucket(BUCKET, environment(&moto)) else { return };
    let mut server = world.server("c1", &["--init"]);
    server.ready();
    world.ok(&["domain", "create", "example.com"]);
    let file = world.path("hello.wasm");
    std::fs::copy(guest("hello-wasm/hello_wasm.wasm"), &file).unwrap();
    world.ok(&["push", "--no-wait", file.to_str().unwrap(), "example.com:web@1.0"]);

    let (store, key, backup) = (world.store(), world.text("c1.key"), world.text("backup"));
    let of = ["--store", &store, "--key", &key, "--blobs", BUCKET, "--data-dir", &world.text("of-backup")];
    let told = world.json(&[&["backup", "--artifacts", &backup], &of[..]].concat());
    assert_eq!(told["artifacts"]["missing"], serde_json::json!([]), "{told}");
    assert!(told["artifacts"]["blobs"].as_u64() >= Some(3), "{told}");

    let (other, data) = ("s3://tutti/clouds/two", world.text("restored"));
    let to = ["--key", &key, "--blobs", other, "--data-dir", &data];
    let told = world.json(&[&["restore", &backup], &to[..]].concat());
    assert_eq!(told["artifacts"]["missing"], serde_json::json!([]), "{told}");
    let listed = moto.send("GET", "/tutti?list-type=2&prefix=clouds/two/blobs/sha256/", b"");
    assert_eq!(Some(listed.matches("<Key>").count() as u64), told["artifacts"]["blobs"].as_u64(), "{listed}");
}
