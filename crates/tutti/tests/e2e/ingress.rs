//! The way in: every protocol and shape of traffic through the real binary, and what callers are told when it fails.

use crate::{
    harness::{Cloud, PATIENCE, wait_for},
    traffic::{curl, grpc, push_grpc, push_program, push_wasm},
};
use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::Path,
};

const HELLO: &str = "hello.example.com.localhost";
const PROCESS: &str = "process.example.com.localhost";
const LARGE: usize = 100 * 1024 * 1024;
/// What a hundred mebibytes on their way may add to the memory of the whole process.
const BOUND_KIB: u64 = 64 * 1024;

fn with_wasm() -> Cloud {
    let cloud = Cloud::start();
    push_wasm(&cloud, "example.com:hello@1.0", "");
    cloud.ok(&["deploy", "example.com:hello@1.0", "100%"]);
    cloud
}

fn with_process(section: &str) -> Cloud {
    let cloud = Cloud::start();
    push_program(&cloud, "example.com:process@1.0", &[], section);
    cloud.ok(&["deploy", "example.com:process@1.0", "100%"]);
    cloud
}

/// A curl call whose answer must come: its output.
fn fetch(cloud: &Cloud, host: &str, path: &str, more: &[&str]) -> String {
    let (url, host) = (format!("http://{}{path}", cloud.http), format!("Host: {host}"));
    let said = curl(&[more, &["-H", &host, &url]].concat());
    assert_eq!(said.code, 0, "{path}: {}{}", said.out, said.err);
    said.out
}

#[test]
fn http_1_and_http_2_and_proxy_requests_reach_the_service() {
    let cloud = with_wasm();
    let status = ["-o", "/dev/null", "-w", "%{http_code} %{http_version}"];
    assert_eq!(fetch(&cloud, HELLO, "/", &status), "200 1.1");
    assert_eq!(fetch(&cloud, HELLO, "/", &[&status[..], &["--http1.0"]].concat()), "200 1");
    assert_eq!(fetch(&cloud, HELLO, "/", &[&status[..], &["--http2-prior-knowledge"]].concat()), "200 2");
    // The host's letters have no case, and its port is not part of it.
    assert_eq!(fetch(&cloud, "HELLO.Example.com.localhost:80", "/", &status), "200 1.1");

    // An absolute request target, as through a proxy.
    let (proxy, url) = (format!("http://{}", cloud.http), format!("http://{HELLO}/"));
    let said = curl(&["-x", &proxy, "--noproxy", "", &url]);
    assert_eq!(said.out, "Hello from wasm, version 1.0\n", "{}", said.err);

    // A body goes both ways, over either protocol.
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        assert_eq!(fetch(&cloud, HELLO, "/echo", &[version, "-d", "there and back"]), "there and back");
    }
    let head = fetch(&cloud, HELLO, "/", &["-I"]).to_ascii_lowercase();
    for header in ["tutti-service: example.com:hello", "tutti-version: 1.0", "tutti-instance: i-"] {
        assert!(head.contains(header), "{header} is missing: {head}");
    }
}

#[test]
fn a_process_is_told_who_asks() {
    let cloud = with_process("");
    let text = fetch(&cloud, PROCESS, "/headers", &["-H", "X-Own: kept"]);
    let headers: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&headers["host"], &headers["x-own"]), (&PROCESS.into(), &"kept".into()), "{headers:#}");
    assert!(headers["traceparent"].is_string(), "{headers:#}");
    assert!(headers["x-forwarded-for"].as_str().expect("who asks").contains("127.0.0.1"), "{headers:#}");
}

#[test]
fn a_websocket_is_carried_both_ways() {
    let cloud = with_process("");
    let mut stream = TcpStream::connect(cloud.http).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let handshake = format!(
        "GET /websocket HTTP/1.1\r\nHost: {PROCESS}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(handshake.as_bytes()).expect("sent");
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head).expect("a line"), 0, "{head}");
    }
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    // The answer to the key of RFC 6455, 1.3.
    assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");

    for text in ["hello", "again"] {
        let mask = [1, 2, 3, 4];
        let masked = text.bytes().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        let length = 0x80 | u8::try_from(text.len()).expect("short");
        let frame: Vec<u8> = [0x81, length].into_iter().chain(mask).chain(masked).collect();
        stream.write_all(&frame).expect("a frame is sent");
        let mut echoed = vec![0; 2 + text.len()];
        reader.read_exact(&mut echoed).expect("a frame");
        assert_eq!(&echoed[2..], text.as_bytes());
    }
}

#[test]
fn events_arrive_when_they_are_sent() {
    let cloud = with_process("");
    let mut stream = TcpStream::connect(cloud.http).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    write!(stream, "GET /events HTTP/1.1\r\nHost: {PROCESS}\r\n\r\n").expect("sent");
    let mut lines = BufReader::new(stream).lines().map(|line| line.expect("a line"));
    assert!(lines.any(|line| line == "data: first"));
    // The second is sent only now: if the first had been held back until the end, this would not be reached.
    assert_eq!(cloud.get(PROCESS, "/go").status, 200);
    assert!(lines.any(|line| line == "data: second"));
}

#[test]
fn services_without_instances_and_routes_of_paths_are_served() {
    let cloud = with_process("");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut line = String::new();
        BufReader::new(stream.try_clone().expect("a second handle")).read_line(&mut line).expect("a line");
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nplain\n";
        stream.write_all(answer.as_bytes()).expect("answered");
        line
    });
    cloud.ok(&["service", "create", "example.com:plain", "--upstream", &format!("127.0.0.1:{port}")]);
    cloud.ok(&["route", "create", "shop.test/api", "example.com:plain"]);
    cloud.ok(&["route", "create", "shop.test", "example.com:process"]);

    wait_for("both routes have reached the ingress", || {
        // The later one is there: tables come in order.
        cloud.get("shop.test", "/").status == 200
    });
    assert_eq!(cloud.get("shop.test", "/api/items?q=1").body, "plain\n");
    assert_eq!(server.join().expect("one request"), "GET /api/items?q=1 HTTP/1.1\r\n");
    assert_eq!(cloud.get("shop.test", "/").header("tutti-service"), Some("example.com:process"));
    // A prefix ends at a slash.
    assert_eq!(cloud.get("shop.test", "/apis").header("tutti-service"), Some("example.com:process"));
    cloud.ok(&["route", "delete", "shop.test"]);
    wait_for("the route has left the ingress", || cloud.get("shop.test", "/").status == 404);
}

/// An answer that the platform gives itself: its status, and a problem that says why.
fn assert_problem(cloud: &Cloud, host: &str, path: &str, status: u16, why: &[&str]) {
    let answer = cloud.get(host, path);
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{answer:?}");
    let problem: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!(problem["status"], status);
    for field in ["type", "title", "detail", "code", "request_id"] {
        assert!(!problem[field].as_str().unwrap_or("").is_empty(), "no {field}: {problem:#}");
    }
    for word in why {
        assert!(answer.body.contains(word), "{word:?} is missing: {problem:#}");
    }
}

#[test]
fn http_callers_are_told_what_is_wrong() {
    let cloud = with_process("timeout = \"1s\"");
    assert_problem(&cloud, "nobody.test", "/", 404, &["nobody.test", "tutti route create"]);

    push_wasm(&cloud, "example.com:idle@1.0", "");
    wait_for("the ingress knows it", || cloud.get("idle.example.com.localhost", "/").status != 404);
    assert_problem(&cloud, "idle.example.com.localhost", "/", 503, &["example.com:idle", "tutti deploy"]);

    cloud.ok(&["service", "create", "example.com:gone", "--upstream", "127.0.0.1:1"]);
    wait_for("the ingress knows it", || cloud.get("gone.example.com.localhost", "/").status != 404);
    assert_problem(&cloud, "gone.example.com.localhost", "/", 502, &["127.0.0.1:1", "refused"]);
    assert_problem(&cloud, PROCESS, "/die", 502, &["example.com:process"]);
    assert_problem(&cloud, PROCESS, "/slow?ms=20000", 504, &["1s"]);
    assert_eq!(cloud.get(PROCESS, "/slow?ms=1").status, 200, "it still serves");
}

#[test]
fn grpc_reaches_processes_and_its_callers_are_told_what_is_wrong() {
    let cloud = Cloud::start();
    let address = cloud.http.to_string();
    let status = |host: &str, path: &str| {
        let report = grpc(&["status", &address, host, path]);
        let text = |key: &str| report[key].as_str().unwrap_or_default().to_owned();
        (text("code"), text("details"))
    };
    let hello = "/com.example.HelloWorld/SayHello";

    let (code, details) = status("nobody.test", "/no.Such/Call");
    assert_eq!(code, "NOT_FOUND", "{details}");
    assert!(details.contains("/no.Such/Call"), "{details}");

    push_grpc(&cloud, "1.0", "");
    wait_for("the ingress knows it", || status("any.test", hello).0 != "NOT_FOUND");
    let (code, details) = status("any.test", hello);
    assert_eq!(code, "UNAVAILABLE", "{details}");
    assert!(details.contains("com.example.HelloWorld"), "{details}");

    cloud.ok(&["deploy", "com.example.HelloWorld@1.0", "100%"]);
    assert_eq!(status("any.test", hello).0, "OK");
    assert_eq!(status("helloworld.example.com.localhost", hello).0, "OK");
    // The service's own answer is not the platform's.
    assert_eq!(status("any.test", "/com.example.HelloWorld/Nothing").0, "UNIMPLEMENTED");

    cloud.ok(&["service", "create", "example.com:gone", "--upstream", "127.0.0.1:1"]);
    wait_for("the ingress knows it", || cloud.get("gone.example.com.localhost", "/").status != 404);
    let (code, details) = status("gone.example.com.localhost", hello.replace("Hello", "Bye").as_str());
    assert_eq!(code, "UNAVAILABLE", "{details}");
    assert!(details.contains("127.0.0.1:1"), "{details}");

    push_program(&cloud, "example.com:silent@1.0", &[("SILENT", "1")], "timeout = \"1s\"");
    cloud.ok(&["deploy", "example.com:silent@1.0", "100%"]);
    let (code, details) = status("silent.example.com.localhost", "/any.Silent/Call");
    assert_eq!(code, "DEADLINE_EXCEEDED", "{details}");
}

/// The highest resident memory of a process so far, in KiB.
fn peak_kib(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a living process");
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a high-water mark");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// A file without repetition at the sizes of buffers.
fn large_file(path: &Path) {
    let mut state = 1_u64;
    let words = (0..LARGE / 8).flat_map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_le_bytes()
    });
    std::fs::write(path, words.collect::<Vec<u8>>()).expect("a large file");
}

#[test]
fn large_bodies_stream_through_bounded_memory() {
    let cloud = with_wasm();
    push_program(&cloud, "example.com:process@1.0", &[], "timeout = \"60s\"");
    cloud.ok(&["deploy", "example.com:process@1.0", "100%"]);
    let (file, back) = (cloud.scratch().join("large"), cloud.scratch().join("back"));
    large_file(&file);
    let (source, sink) = (file.to_str().expect("a path"), back.to_str().expect("a path"));
    // What code and caches need is there before it is measured.
    assert_eq!(fetch(&cloud, HELLO, "/echo", &["-d", "small"]), "small");
    let before = peak_kib(cloud.pid());

    for version in ["--http1.1", "--http2-prior-knowledge"] {
        // Through a component, up and down at once.
        fetch(&cloud, HELLO, "/echo", &[version, "-T", source, "-o", sink]);
        let same = crate::traffic::clean("cmp").args([source, sink]).status().expect("cmp runs");
        assert!(same.success(), "{version}: what came back is not what was sent");
        // To a process, with a length; and from one.
        let told = fetch(&cloud, PROCESS, "/upload", &[version, "-T", source]);
        let sum = crate::traffic::run(crate::traffic::clean("sha256sum").arg(source));
        assert_eq!(told.split(' ').nth(1), sum.split(' ').next(), "{version}: {told}");
        let size = ["-o", "/dev/null", "-w", "%{size_download}", version];
        let bytes = fetch(&cloud, PROCESS, &format!("/download?bytes={LARGE}"), &size);
        assert_eq!(bytes, LARGE.to_string());
    }
    let grown = peak_kib(cloud.pid()).saturating_sub(before);
    assert!(grown < BOUND_KIB, "memory grew by {grown} KiB for {LARGE} bytes each way");
}
