//! Notices over a NATS server that is killed, comes back, and carries what somebody made up: deployments go on.

use crate::harness::{request, wait_until};
use crate::members::{World, free_port};
use std::{
    io::Write as _,
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
};

/// A NATS server, the same port at each start.
struct Nats {
    port: u16,
    child: Option<Child>,
}

impl Nats {
    fn start() -> Option<Nats> {
        if Command::new("nats-server").arg("--version").stdout(Stdio::null()).status().is_err() {
            println!("skipped: this test runs nats-server (Debian: nats-server), which is not installed");
            return None;
        }
        let mut nats = Nats { port: free_port(), child: None };
        nats.run();
        Some(nats)
    }

    fn run(&mut self) {
        let port = self.port.to_string();
        let mut command = Command::new("nats-server");
        command.args(["-a", "127.0.0.1", "-p", &port]).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().unwrap());
        wait_until("NATS listens", || {
            TcpStream::connect(("127.0.0.1", self.port)).map(drop).map_err(|error| error.to_string())
        });
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Publishes what control did not say.
    fn forge(&self, cluster: &str) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.write_all(b"CONNECT {\"verbose\":false}\r\n").unwrap();
        for round in 0..200_u64 {
            let revision = if round % 2 == 0 { u64::MAX } else { 0 };
            for topic in ["tables", "nodes", "instances.w1", "node.w1"] {
                let notice = format!("{{\"changed\":{{\"{topic}\":{revision}}}}}");
                let subject = format!("tutti.{cluster}.local.main.changed.{topic}");
                write!(stream, "PUB {subject} {}\r\n{notice}\r\n", notice.len()).unwrap();
                write!(stream, "PUB {subject} 3\r\n\u{7f}{{x\r\n").unwrap();
            }
        }
        stream.flush().unwrap();
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.kill();
    }
}

#[test]
fn deployments_go_on_whatever_becomes_of_nats() {
    let Some(mut nats) = Nats::start() else { return };
    let Some(world) = World::start() else { return };
    let settings = format!("notices = \"nats://127.0.0.1:{}\"\n", nats.port);
    std::fs::write(world.path("tutti.toml"), settings).unwrap();
    let mut control = world.server("c1", &["--init"]);
    let ready = control.ready();
    let api = ready["api"].as_str().unwrap().trim_start_matches("https://").to_owned();
    let cluster = ready["cluster"].as_str().unwrap().to_owned();
    let port = format!("127.0.0.1:{}", free_port());
    let joined = world.join("w1", &api, &world.token(&[]), &["--advertise", &port]);
    assert_eq!(joined.code, 0, "{joined:?}");
    let mut agent = world.role("w1", &["agent", "--listen", &port]);
    agent.ready();
    let mut ingress = world.role("w1", &["ingress", "--http", "127.0.0.1:0"]);
    let http: SocketAddr =
        ingress.ready()["http"].as_str().unwrap().trim_start_matches("http://").parse().unwrap();
    world.ok(&["domain", "create", "example.com"]);

    let logs = ["w1-agent.log", "w1-ingress.log"];
    let told = |what: &str, times: usize| {
        wait_until(what, || {
            for log in logs {
                let text = std::fs::read_to_string(world.path(log)).unwrap_or_default();
                if text.matches(what).count() < times {
                    return Err(text);
                }
            }
            Ok(())
        });
    };
    let deploy = |number: &str| {
        let version = format!("example.com:web@{number}");
        world.push(&version);
        world.ok(&["deploy", &version, "100%", "--timeout", "30s"]);
        let head = "GET / HTTP/1.1\r\nhost: web.example.com.localhost\r\nconnection: close\r\n\r\n";
        let answer = request(http, head);
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("tutti-version"), Some(number));
    };
    let status = || world.ok(&["status"]).split_whitespace().collect::<Vec<_>>().join(" ");

    told("control is heard by notices", 1);
    deploy("1.0");
    nats.forge(&cluster);
    deploy("1.1");

    nats.kill();
    deploy("1.2");
    told("control is not heard by notices: watches take over", 1);
    assert!(status().contains("NATS is not reached"), "{}", status());
    deploy("1.3");

    nats.run();
    told("control is heard by notices", 2);
    wait_until("status is well again", || {
        let status = status();
        if status.contains("NATS") { Err(status) } else { Ok(()) }
    });
    deploy("1.4");
}
