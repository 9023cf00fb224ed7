//! Traffic by real clients - wrk, curl, grpcio and a raw keep-alive connection - and the services that it goes to.

use crate::harness::{Answer, Cloud, PATIENCE, guest, root, said, wait_for};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

/// Host of the service `example.com:hello`, which is the wasm sample in these tests.
pub const HELLO: &str = "hello.example.com.localhost";
/// The gRPC sample's service.
pub const GRPC: &str = "com.example.HelloWorld";

/// A folder of one artifact and its manifest.
fn artifact(cloud: &Cloud, version: &str, file: &Path, manifest: &str) -> PathBuf {
    let folder = cloud.scratch().join(version.replace(['@', ':', '/'], "-"));
    std::fs::create_dir_all(&folder).expect("a folder");
    let name = file.file_name().expect("a file's name");
    std::fs::copy(file, folder.join(name)).expect("a copy of the artifact");
    std::fs::write(folder.join("tutti.toml"), manifest).expect("a manifest");
    folder
}

/// Pushes the wasm sample with this `[service]` section.
pub fn push_wasm(cloud: &Cloud, version: &str, section: &str) {
    let file = guest("hello-wasm/hello_wasm.wasm");
    let folder = artifact(cloud, version, &file, &format!("[service]\n{section}\n"));
    let file = folder.join("hello_wasm.wasm");
    cloud.ok(&["push", file.to_str().expect("a path"), version]);
}

/// Pushes the gRPC sample, which says `number` for its version, with further lines of `[service]`.
pub fn push_grpc(cloud: &Cloud, number: &str, section: &str) {
    let manifest = format!(
        "[service]\nisolate = \"process\"\nrun = [\"./hello-grpc\"]\nhealth = {{ grpc = true }}\n\
         env = {{ VERSION = \"{number}\" }}\n{section}\n"
    );
    let version = format!("{GRPC}@{number}");
    let folder = artifact(cloud, &version, &guest("hello-grpc/hello-grpc"), &manifest);
    cloud.ok(&["push", folder.to_str().expect("a path"), &version]);
}

/// Pushes the Python sample with these environment variables and further lines of `[service]`.
pub fn push_python(cloud: &Cloud, version: &str, env: &[(&str, &str)], section: &str) {
    push_script(cloud, version, &root().join("samples/hello-http-python/main.py"), env, section);
}

/// Pushes `programs/server.py` with these environment variables and further lines of `[service]`.
pub fn push_program(cloud: &Cloud, version: &str, env: &[(&str, &str)], section: &str) {
    push_script(cloud, version, &program("server.py"), env, section);
}

fn push_script(cloud: &Cloud, version: &str, file: &Path, env: &[(&str, &str)], section: &str) {
    let env: Vec<String> = env.iter().map(|(key, value)| format!("{key} = \"{value}\"")).collect();
    let name = file.file_name().and_then(|name| name.to_str()).expect("a file's name");
    let manifest = format!(
        "[service]\nisolate = \"process\"\nrun = [\"python3\", \"-u\", \"{name}\"]\nenv = {{ {} }}\n{section}\n",
        env.join(", ")
    );
    let folder = artifact(cloud, version, file, &manifest);
    cloud.ok(&["push", folder.to_str().expect("a path"), version]);
}

/// A file of `tests/e2e/programs`.
pub fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/programs").join(name)
}

/// A Python that has grpcio.
pub fn python() -> PathBuf {
    let path = std::env::var_os("TUTTI_TEST_PYTHON")
        .map_or_else(|| root().join("target/venv/bin/python"), PathBuf::from);
    assert!(path.exists(), "{} is missing: make test installs it", path.display());
    path
}

/// A command without proxies and other settings of the surroundings.
pub fn clean(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).stdin(Stdio::null());
    command
}

/// Runs a client to its end, which must be a good one, and gives its output.
pub fn run(command: &mut Command) -> String {
    let said = said(command.output().unwrap_or_else(|error| panic!("{command:?}: {error}")));
    assert_eq!(said.code, 0, "{command:?}\n{}\n{}", said.out, said.err);
    said.out
}

/// The stock gRPC client.
pub fn grpc(arguments: &[&str]) -> Value {
    let out = run(clean(python()).arg(program("grpc_client.py")).args(arguments));
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
}

/// curl, quiet but for errors, bounded in time; it may fail.
pub fn curl(arguments: &[&str]) -> crate::harness::Said {
    let mut command = clean("curl");
    command.args(["-sS", "--max-time", "60"]).args(arguments);
    said(command.output().expect("curl runs"))
}

/// What `/metrics` says.
pub fn metrics(cloud: &Cloud) -> String {
    run(clean("curl")
        .args(["-sSf", "--max-time", "60", "-H", &format!("Authorization: Bearer {}", cloud.token())])
        .arg(format!("http://{}/metrics", cloud.api)))
}

/// Constant load by wrk.
pub struct Wrk(Option<Child>);

/// What wrk saw.
#[derive(Debug, Clone)]
pub struct WrkReport {
    /// Answers.
    pub requests: u64,
    /// Answers outside 2xx and 3xx, and connections that failed.
    pub failed: u64,
    /// Answers by `STATUS VERSION`.
    pub answers: BTreeMap<String, u64>,
    /// What it wrote.
    pub text: String,
}

impl Wrk {
    /// Loads a host until it is stopped.
    pub fn start(address: SocketAddr, host: &str, path: &str, connections: u32) -> Wrk {
        let child = clean("wrk")
            .args(["-t", "1", "-c", &connections.to_string(), "-d", "600s", "--timeout", "20s"])
            .args(["-H", &format!("Host: {host}"), "-s"])
            .arg(program("wrk.lua"))
            .arg(format!("http://{address}{path}"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("wrk runs");
        Wrk(Some(child))
    }

    /// Ends the load and tells what it saw.
    pub fn stop(mut self) -> WrkReport {
        let child = self.0.take().expect("it runs");
        crate::harness::signal(child.id(), "INT");
        let text = said(child.wait_with_output().expect("wrk ends")).out;
        let line = text.lines().find(|line| line.starts_with('{')).unwrap_or_else(|| panic!("{text}"));
        let report: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let number = |key: &str| report[key].as_u64().expect("a number");
        let answers = report["answers"].as_object().expect("counts").iter();
        WrkReport {
            requests: number("requests"),
            failed: ["status", "connect", "read", "write", "timeout"].map(number).iter().sum(),
            answers: answers.map(|(key, count)| (key.clone(), count.as_u64().expect("a count"))).collect(),
            text,
        }
    }
}

impl WrkReport {
    /// There was load, and nothing of it failed.
    pub fn assert_clean(&self, cloud: &Cloud) {
        assert!(self.requests > 100, "too little load to show anything: {}", self.text);
        assert_eq!(self.failed, 0, "{}\n--- log\n{}", self.text, tail(&cloud.log()));
    }
}

impl Drop for Wrk {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            // Already gone is fine.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Constant load by the stock gRPC client: unary calls, short streams, and one long one.
pub struct GrpcLoad {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl GrpcLoad {
    /// Loads until it is stopped; the first call has been answered when this returns.
    pub fn start(address: SocketAddr) -> GrpcLoad {
        let mut child = clean(python())
            .arg(program("grpc_client.py"))
            .args(["load", &address.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python runs");
        let mut out = BufReader::new(child.stdout.take().expect("its output"));
        let mut line = String::new();
        out.read_line(&mut line).expect("its first line");
        assert_eq!(line, "loaded\n");
        GrpcLoad { child, out }
    }

    /// Ends the load, once the long stream has gone a little further still, and tells what it saw.
    pub fn stop(mut self) -> Value {
        drop(self.child.stdin.take());
        let mut text = String::new();
        self.out.read_to_string(&mut text).expect("its output");
        self.child.wait().expect("it ends");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

impl Drop for GrpcLoad {
    fn drop(&mut self) {
        // Already gone is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One HTTP/1.1 connection that is kept.
pub struct KeepAlive {
    stream: BufReader<TcpStream>,
    host: String,
}

impl KeepAlive {
    /// Connects.
    pub fn connect(address: SocketAddr, host: &str) -> KeepAlive {
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("an option");
        KeepAlive { stream: BufReader::new(stream), host: host.to_owned() }
    }

    /// One exchange; the answer must have a length.
    pub fn get(&mut self, path: &str) -> Answer {
        let text = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", self.host);
        self.stream.get_mut().write_all(text.as_bytes()).expect("a request is sent");
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("a status line");
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let mut headers = Vec::new();
        loop {
            line.clear();
            self.stream.read_line(&mut line).expect("a header");
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut answer = Answer { status, headers, body: String::new() };
        let length = answer.header("content-length").expect("a length").parse().expect("a number");
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).expect("a body");
        answer.body = String::from_utf8_lossy(&body).into_owned();
        answer
    }
}

/// The ids of a service's instances that are in this state, in order.
pub fn instances(cloud: &Cloud, service: &str, state: &str) -> Vec<String> {
    let list = cloud.json(&["ps", service]);
    let items = list.as_array().or_else(|| list["items"].as_array()).expect("a list of instances");
    let mut ids: Vec<String> = items
        .iter()
        .filter(|item| item["status"]["state"] == state)
        .map(|item| item["spec"]["instance"].as_str().expect("an id").to_owned())
        .collect();
    ids.sort();
    ids
}

/// The newest deployment's object.
pub fn newest_deployment(cloud: &Cloud, service: &str) -> Value {
    let list = cloud.json(&["deployment", "list", service]);
    let items = list.as_array().or_else(|| list["items"].as_array()).expect("a list of deployments");
    items.first().expect("a deployment").clone()
}

/// Waits until the newest deployment of a service satisfies a condition, and gives it.
pub fn deployment_when(cloud: &Cloud, service: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    wait_for(what, || {
        last = newest_deployment(cloud, service);
        holds(&last)
    });
    last
}

/// The end of a long text.
pub fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(60)..).unwrap_or_default().join("\n")
}
