//! Machines that are far from each other: with 300 ms each way all goes on, later; with more than any limit a node counts
//! as silent and an ingress takes it out; and when that ends, both come back, and nothing that was acknowledged is lost.

use crate::harness::{PATIENCE, Said, binary, guest, said, try_request, wait_until};
use crate::machines::{Net, Runs};
use crate::relay::{Relay, Way};
use serde_json::Value;
use std::{
    net::SocketAddr,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

const HOST: &str = "web.example.com.localhost";
/// What a request's way there and back takes then, one way.
const FAR: Duration = Duration::from_millis(300);
/// Longer than anybody waits for a sign of life.
const LOST: Duration = Duration::from_secs(3600);

/// One machine with control and a way in, one with a node; relays before both.
struct Far {
    // Before the net, so that what runs is ended first.
    _server: Runs,
    _ingress: Runs,
    _agent: Runs,
    /// On the way to control, from the node and from the ingress.
    control: Relay,
    /// On the way from the ingress to the node.
    node: Relay,
    http: SocketAddr,
    net: Net,
    folder: tempfile::TempDir,
}

impl Drop for Far {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for name in ["server", "ingress", "agent"] {
                let log = std::fs::read_to_string(self.folder.path().join(format!("{name}.log")));
                eprintln!("--- {name}\n{}", log.unwrap_or_default());
            }
        }
        self.net.machine("w1").kill();
    }
}

fn surrounded(mut command: Command, folder: &tempfile::TempDir) -> Command {
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", folder.path())
        .env("XDG_CONFIG_HOME", folder.path().join("config"))
        .current_dir(folder.path());
    command
}

impl Far {
    /// `None`, which is said, where machines cannot be made.
    fn start() -> Option<Far> {
        let net = Net::start(&["c1", "w1"])?;
        let folder = tempfile::Builder::new().prefix("tutti-far-").tempdir().unwrap();
        let at = |name: &str, port: u16| SocketAddr::from((net.machine(name).address, port));
        let control = Relay::start(net.host().into(), at("c1", 7070));
        let node = Relay::start(net.host().into(), at("w1", 7071));
        let log = |role: &str| folder.path().join(format!("{role}.log"));
        let start = |machine: &str, role: &str, more: &[&str]| {
            let mut command = surrounded(net.machine(machine).command(binary()), &folder);
            let place = |what: &str| folder.path().join(format!("{machine}-{what}"));
            command.args([role, "-o", "json", "--data-dir"]).arg(place(role));
            command.arg("--member-dir").arg(place("member")).args(more);
            Runs::start(command, &log(role))
        };
        let (api, near) = (at("c1", 7070).to_string(), control.address.to_string());
        let options = ["--init", "--node", "c1", "--api", &api, "--advertise", &near, "--role", "ingress"];
        let mut server = start("c1", "server", &[&options[..], &["--vouch", "true"]].concat());
        server.ready();
        let mut ingress = start("c1", "ingress", &["--http", &at("c1", 80).to_string()]);

        let socket = format!("unix:{}", folder.path().join("c1-server/control.sock").display());
        let mut make = surrounded(Command::new(binary()), &folder);
        make.args(["token", "create", "--node", "-o", "json", "--api", &socket]);
        let made = said(make.output().unwrap());
        let made: Value = serde_json::from_str(&made.out).unwrap_or_else(|_| panic!("{made:?}"));
        let mut join = surrounded(net.machine("w1").command(binary()), &folder);
        join.args(["join", &near, "--node", "w1", "--role", "agent"])
            .args(["--advertise", &node.address.to_string(), "--member-dir"])
            .arg(folder.path().join("w1-member"))
            .env("TUTTI_JOIN_TOKEN", made["token"].as_str().unwrap());
        let joined = said(join.output().unwrap());
        assert_eq!(joined.code, 0, "{joined:?}");
        let mut agent = start("w1", "agent", &["--listen", &at("w1", 7071).to_string()]);
        agent.ready();
        ingress.ready();
        let http = at("c1", 80);
        Some(Far { _server: server, _ingress: ingress, _agent: agent, control, node, http, net, folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A command on control's own machine, which goes through no relay.
    fn tutti(&self, arguments: &[&str]) -> Said {
        let mut command = surrounded(Command::new(binary()), &self.folder);
        let socket = format!("unix:{}", self.path("c1-server/control.sock").display());
        said(command.args(arguments).args(["--api", &socket]).output().unwrap())
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let said = self.tutti(arguments);
        assert_eq!(said.code, 0, "tutti {}\n{}\n{}", arguments.join(" "), said.out, said.err);
        said.out
    }

    /// One of the operator's, from a machine as far away as the others.
    fn afar(&self, arguments: &[&str]) -> Said {
        said(surrounded(Command::new(binary()), &self.folder).args(arguments).output().unwrap())
    }

    fn push(&self, version: &str) {
        let folder = self.path(&version.replace([':', '@'], "-"));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("hello.wasm");
        std::fs::copy(guest("hello-wasm/hello_wasm.wasm"), &file).unwrap();
        self.ok(&["push", file.to_str().unwrap(), version]);
    }

    /// The version that answers, and how long that took.
    fn get(&self) -> Result<(String, Duration), String> {
        let began = Instant::now();
        let text = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n");
        let answer = try_request(self.http, &text).map_err(|error| error.to_string())?;
        match (answer.status, answer.header("tutti-version")) {
            (200, Some(version)) => Ok((version.to_owned(), began.elapsed())),
            _ => Err(format!("{answer:?}")),
        }
    }

    /// Whether control hears the node.
    fn is_heard(&self) -> Result<bool, String> {
        let said = self.tutti(&["node", "list", "-o", "json"]);
        let all: Value = serde_json::from_str(&said.out).map_err(|_| format!("{said:?}"))?;
        let node = all.as_array().and_then(|all| all.iter().find(|it| it["kind"] == "node"));
        let conditions = node.ok_or_else(|| all.to_string())?["conditions"].as_array().cloned();
        let is_silent = |it: &Value| it["type"] == "Heard" && it["met"] == false;
        Ok(!conditions.unwrap_or_default().iter().any(is_silent))
    }

    /// Whether the ingress has taken the node out.
    fn is_out(&self) -> Result<bool, String> {
        let mut command = Command::new("curl");
        let socket = self.path("c1-ingress/ingress.sock");
        let asked = command.args(["-sSf", "--max-time", "60", "http://ingress/metrics", "--unix-socket"]);
        let said = said(asked.arg(socket).output().unwrap());
        let sample = "tutti_ingress_node_out{node=\"w1\"} ";
        let value = said.out.lines().find_map(|line| line.strip_prefix(sample));
        Ok(value.ok_or_else(|| format!("{said:?}"))? == "1")
    }
}

fn holds(is: Result<bool, String>, why: &str) -> Result<(), String> {
    if is? { Ok(()) } else { Err(why.to_owned()) }
}

#[test]
fn what_is_far_away_works_and_what_is_lost_comes_back() {
    let Some(far) = Far::start() else { return };
    let mut acknowledged = vec!["example.com".to_owned()];
    far.ok(&["domain", "create", "example.com"]);
    far.push("example.com:web@1.0");
    far.ok(&["deploy", "example.com:web@1.0", "100%"]);
    far.get().unwrap();

    // With the latency of the other end of the world all goes on: heartbeats, watches, deploys, requests, commands.
    far.control.delay(FAR);
    far.node.delay(FAR);
    for number in 0..3 {
        let domain = format!("far{number}.example");
        let began = Instant::now();
        let said = far.afar(&["domain", "create", &domain]);
        assert_eq!(said.code, 0, "{said:?}");
        assert!(began.elapsed() >= 2 * FAR, "it went another way");
        acknowledged.push(domain);
    }
    far.push("example.com:web@1.1");
    far.ok(&["deploy", "example.com:web@1.1", "100%"]);
    for _ in 0..5 {
        let (version, took) = far.get().unwrap();
        assert!(version.ends_with("1.1"), "{version}");
        assert!(took >= 2 * FAR, "{took:?}: it went another way");
        assert_eq!((far.is_heard(), far.is_out()), (Ok(true), Ok(false)));
    }

    // The node's answers to the ingress are lost: its pings are missed, and it is out, and for control it is there.
    far.node.delay_one_way(Way::Back, LOST);
    // A node to which nothing is sent is not looked at.
    let began = Instant::now();
    let refused = far.get();
    assert!(refused.is_err(), "{refused:?}");
    assert!(began.elapsed() < PATIENCE);
    wait_until("the ingress takes the node out", || holds(far.is_out(), "it is in"));
    assert_eq!(far.is_heard(), Ok(true));
    far.node.delay(Duration::ZERO);
    wait_until("the ingress sends there again", || far.get().map(drop));
    assert_eq!(far.is_out(), Ok(false));

    // What the node says to control is lost: it is silent, and serves on.
    far.control.delay(LOST);
    wait_until("the node is silent", || holds(far.is_heard().map(|is| !is), "it is heard"));
    far.get().unwrap();
    far.ok(&["domain", "create", "silent.example"]);
    acknowledged.push("silent.example".to_owned());
    far.control.delay(Duration::ZERO);
    wait_until("the node is heard again", || holds(far.is_heard(), "it is silent"));
    far.push("example.com:web@1.2");
    far.ok(&["deploy", "example.com:web@1.2", "100%"]);
    wait_until("what is deployed then serves", || match far.get()? {
        (version, _) if version.ends_with("1.2") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let domains = far.ok(&["domain", "list"]);
    for domain in acknowledged {
        assert!(domains.contains(&domain), "{domain} is lost: {domains}");
    }
}
