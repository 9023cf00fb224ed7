//! Every shape of a gRPC call through the whole cloud to a component, by a stock client: streams of which one side is slow,
//! and calls that end before their time.

use crate::{
    harness::{Cloud, guest, root, wait_for},
    traffic::{clean, metrics, program, python},
};
use serde_json::{Value, json};
use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

const SERVICE: &str = "com.example.Echo";
/// Streams at once, of which each offers 4 GiB.
const STREAMS: u64 = 8;
/// The most that the cloud may grow by while it serves them: 8 MiB for each. That is a guest of about 2 MiB, and buffers of
/// both connections on the way, whose windows are below 2 MiB. What goes through before they stop is more: 12.5 MiB each.
const GROWTH: u64 = STREAMS * 8 * 1024 * 1024;

/// A cloud with the component of the wasm isolate's own tests, with these lines of `[service]`.
fn deployed(section: &str) -> Cloud {
    let cloud = Cloud::start();
    let folder = cloud.scratch();
    let component = folder.join("grpc_guest.wasm");
    std::fs::copy(guest("grpc_guest.wasm"), &component).expect("a copy of the guest");
    std::fs::write(folder.join("tutti.toml"), format!("[service]\n{section}\n")).expect("a manifest");
    let proto = root().join("crates/isolate-wasm/tests/grpc_guest/echo.proto");
    let version = format!("{SERVICE}@1.0");
    let path = |path: &std::path::Path| path.to_str().expect("a path").to_owned();
    cloud.ok(&["push", &path(&proto), &path(&component), &version]);
    cloud.ok(&["deploy", &version, "100%"]);
    cloud
}

/// A stock client at work, which says what it sees line by line.
struct Client {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Client {
    fn start(cloud: &Cloud, arguments: &[&str]) -> Client {
        let mut child = clean(python())
            .arg(program("grpc_streams.py"))
            .arg(cloud.http.to_string())
            .args(arguments)
            .current_dir(root().join("crates/isolate-wasm/tests/grpc_guest"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python runs");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        Client { input: child.stdin.take(), child, output }
    }

    #[track_caller]
    fn says(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("its output");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// Lets it go on.
    fn go_on(&mut self) {
        self.input.as_mut().expect("its input").write_all(b"\n").expect("a line is sent");
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Already gone is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Memory of the cloud's process now, in bytes.
fn memory(cloud: &Cloud) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", cloud.pid())).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

/// Requests that instances serve now.
fn running(cloud: &Cloud) -> u64 {
    let text = metrics(cloud);
    let line = text.lines().find_map(|line| line.strip_prefix("tutti_node_requests_running "));
    line.expect("the figure").parse().expect("a number")
}

/// The most that the cloud's process grows by while this client has slow streams. They stand while others are served: a
/// hundred calls of each shape, which is time enough for whatever is not held back.
fn grown(cloud: &Cloud, slow: &str) -> (u64, Client) {
    shapes(cloud);
    let before = memory(cloud);
    let mut client = Client::start(cloud, &[slow, &STREAMS.to_string()]);
    let read = client.says()["read"].as_u64().expect("a number");
    assert!(read > GROWTH, "{read} bytes say nothing of {GROWTH}");
    let mut most = memory(cloud);
    for _ in 0..3 {
        assert_eq!(running(cloud), STREAMS);
        shapes(cloud);
        most = most.max(memory(cloud));
    }
    (most.saturating_sub(before), client)
}

fn shapes(cloud: &Cloud) {
    let said = Client::start(cloud, &["shapes"]).says();
    assert_eq!(said, json!({ "unary": true, "client": [100, 100_000], "server": true, "both": true }));
}

#[test]
fn a_slow_reader_of_endless_streams_costs_bounded_memory_and_stops_the_guest() {
    let cloud = deployed("memory = \"32Mi\"");
    let (grown, mut client) = grown(&cloud, "slow-reader");
    assert!(grown < GROWTH, "it grew by {} KiB", grown >> 10);
    // The guests say what they have written: little more than what was read.
    let log = cloud.ok(&["logs", SERVICE, "--tail", "2000"]);
    let last = log.lines().filter_map(|line| line.rsplit_once("wrote ")?.1.trim().parse::<u64>().ok()).max();
    assert!((200..1000).contains(&last.expect("a guest wrote")), "{last:?}");
    client.go_on();
    assert_eq!(client.says()["alive"], STREAMS);
    wait_for("every stream has ended with its client", || running(&cloud) == 0);
}

#[test]
fn a_slow_server_stops_the_client_that_streams_to_it() {
    let cloud = deployed("memory = \"32Mi\"");
    let (grown, mut client) = grown(&cloud, "slow-server");
    assert!(grown < GROWTH, "it grew by {} KiB", grown >> 10);
    client.go_on();
    // Of 65536.
    let taken = client.says()["taken"].as_u64().expect("a number");
    assert!((200..2000).contains(&taken), "{taken}");
    assert_eq!(client.says()["alive"], STREAMS);
    wait_for("every stream has ended with its client", || running(&cloud) == 0);
}

/// With one place, each call that goes on after its client has gone would be one too many.
#[test]
fn calls_of_every_shape_end_by_deadline_and_by_cancelling_and_their_guests_with_them() {
    let cloud = deployed("concurrency = 1\nmin = 1\nmax = 1\ntimeout = \"300s\"");
    let mut client = Client::start(&cloud, &["ends"]);
    for (how, code) in [("deadline", "DEADLINE_EXCEEDED"), ("cancel", "CANCELLED")] {
        for shape in ["unary", "client", "server", "both"] {
            let mut said = client.says();
            if said["running"] == shape {
                wait_for("its guest is at work", || running(&cloud) == 1);
                client.go_on();
                said = client.says();
            }
            assert_eq!(said, json!({ "how": how, "shape": shape, "code": code, "after": true }));
        }
    }
    assert_eq!(running(&cloud), 0);
    // Nothing is written by the streams that have ended, while this takes as long as a hundred of their lines.
    let last = || {
        let log = cloud.ok(&["logs", SERVICE, "--tail", "100"]);
        log.lines().filter(|line| line.contains("wrote ")).map(str::to_owned).collect::<Vec<_>>()
    };
    let before = last();
    assert!(!before.is_empty());
    shapes(&cloud);
    let after = last();
    let fresh = after.iter().filter(|line| !before.contains(line)).count();
    // Those of `shapes` itself.
    assert!(fresh <= 100, "{fresh} {after:#?}");
}

#[test]
fn a_stream_may_begin_later_than_a_service_may_take_to_answer() {
    let cloud = deployed("timeout = \"300ms\"");
    let said = Client::start(&cloud, &["late", "1.5"]).says();
    assert_eq!(said, json!({ "both": [0, 1], "client": 2 }));
}
