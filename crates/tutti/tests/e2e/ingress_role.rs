//! `tutti ingress` beside `tutti dev`: a second way in, which serves on and starts again whatever becomes of control.

use crate::{
    agent::Agent,
    harness::{Answer, Cloud, PATIENCE, Said, request, said, signal, wait_for, wait_until},
    traffic::deployment_when,
};
use serde_json::Value;
use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

const HOST: &str = "web.example.com.localhost";

/// A running `tutti ingress` of a cloud.
struct Ingress {
    name: &'static str,
    data_dir: PathBuf,
    log: PathBuf,
    child: Option<Child>,
    /// What it said when it was ready.
    ready: Value,
    /// Where it listens; the same at each start.
    http: SocketAddr,
}

impl Ingress {
    /// Starts one in this folder and waits until it is ready.
    fn start(cloud: &Cloud, folder: &str, name: &'static str) -> Self {
        let mut ingress = Ingress {
            name,
            data_dir: cloud.scratch().join(folder),
            log: cloud.scratch().join(format!("{folder}.log")),
            child: None,
            ready: Value::Null,
            http: ([127, 0, 0, 1], 0).into(),
        };
        ingress.start_again(cloud);
        ingress
    }

    /// Starts it again in the same folder, and waits until it is ready.
    fn start_again(&mut self, cloud: &Cloud) {
        let mut out = self.begin(cloud);
        self.until_ready(&mut out);
    }

    /// Starts it, and leaves it to the test whether it becomes ready.
    fn begin(&mut self, cloud: &Cloud) -> BufReader<ChildStdout> {
        assert!(self.child.is_none(), "it runs already");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&self.log).unwrap();
        let mut command = command(cloud, &self.data_dir, self.name, &self.http.to_string());
        let mut child = command.args(["-o", "json"]).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        self.child = Some(child);
        out
    }

    fn until_ready(&mut self, out: &mut BufReader<ChildStdout>) {
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        self.ready = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        self.http = self.ready["http"].as_str().unwrap().trim_start_matches("http://").parse().unwrap();
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn get(&self, host: &str, path: &str) -> Answer {
        request(self.http, &head(host, path))
    }

    /// Asks some times, each of which must be answered well by this version.
    fn serves(&self, version: &str) {
        for _ in 0..20 {
            let answer = self.get(HOST, "/");
            assert_eq!(answer.status, 200, "{answer:?}");
            assert!(answer.header("tutti-version").is_some_and(|of| of.ends_with(version)), "{answer:?}");
        }
    }

    /// Ends it as a crash would.
    fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Tells it to end in order.
    fn told_to_end(&self) {
        signal(self.child.as_ref().unwrap().id(), "TERM");
    }

    /// Waits for its end, which must be a good one.
    fn ended(&mut self) {
        let mut child = self.child.take().unwrap();
        let mut code = None;
        wait_for("tutti ingress ends", || {
            code = child.try_wait().unwrap();
            code.is_some()
        });
        assert!(code.unwrap().success(), "{code:?}");
    }

    fn stop(&mut self) {
        self.told_to_end();
        self.ended();
    }
}

impl Drop for Ingress {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Already gone is fine.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- log of ingress {}\n{}", self.name, self.log());
        }
    }
}

fn command(cloud: &Cloud, data_dir: &Path, name: &str, http: &str) -> Command {
    let mut command = cloud.command();
    command.arg("ingress").arg("--data-dir").arg(data_dir).args(["--name", name, "--http", http]);
    command.arg("--control").arg(control(cloud));
    command
}

fn control(cloud: &Cloud) -> String {
    format!("unix:{}", cloud.data_dir().join("control.sock").display())
}

fn head(host: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")
}

/// Waits until so many ingresses count.
fn ingresses(cloud: &Cloud, count: usize) {
    wait_until("every ingress counts, and none that is gone", || {
        let zone = cloud.get_json("/v1/status")["zones"][0].take();
        if zone["ingresses"] == count { Ok(()) } else { Err(zone.to_string()) }
    });
}

/// Lets nothing new run in control's own process, so that it comes to the agent.
fn cordon_own(cloud: &Cloud, agent: &str) {
    let nodes = cloud.items("nodes");
    let own = nodes.iter().filter_map(|node| node["name"].as_str()).find(|node| *node != agent).unwrap();
    cloud.ok(&["node", "cordon", own]);
}

#[test]
fn it_serves_while_control_is_gone_and_starts_again_without_it() {
    let cloud = Cloud::start();
    cloud.push_wasm("example.com:own@1.0", &[]);
    cloud.ok(&["deploy", "example.com:own@1.0", "100%"]);
    let _agent = Agent::start(&cloud, "two");
    cordon_own(&cloud, "two");
    cloud.push_python("example.com:web@1.0", "", &[]);
    cloud.ok(&["deploy", "example.com:web@1.0", "100%"]);

    let mut front = Ingress::start(&cloud, "front", "front");
    assert_eq!(front.ready["ready"], true);
    assert_eq!(front.ready["name"], "front");
    assert_eq!(front.ready["control"], control(&cloud));
    assert_eq!(front.ready["data_dir"], front.data_dir.to_str().unwrap());
    front.serves("1.0");
    assert_eq!(front.get("nobody.test", "/").status, 404);
    // What runs in control's own process is its own ingress's alone.
    assert_eq!(cloud.get("own.example.com.localhost", "/").status, 200);
    let answer = front.get("own.example.com.localhost", "/");
    assert!(answer.status == 503 && answer.body.contains("is not known here"), "{answer:?}");

    // A new version's table comes to it as to the other.
    cloud.push_python("example.com:web@1.1", "", &[]);
    cloud.ok(&["deploy", "example.com:web@1.1", "100%"]);
    front.serves("1.1");
    let instance = front.get(HOST, "/").header("tutti-instance").unwrap().to_owned();
    let kept = || std::fs::read_to_string(front.data_dir.join("tables.json")).unwrap_or_default();
    wait_for("the tables are kept", || kept().contains(&instance) && kept().contains("agent.sock"));

    signal(cloud.pid(), "KILL");
    wait_for("control is gone", || TcpStream::connect(cloud.api).is_err());
    front.serves("1.1");
    front.kill();
    front.start_again(&cloud);
    front.serves("1.1");
    assert_eq!(front.get("nobody.test", "/").status, 404);
    front.stop();
    front.start_again(&cloud);
    front.serves("1.1");
}

#[test]
fn each_counts_by_itself_and_goes_on_with_a_control_that_starts_anew() {
    let mut cloud = Cloud::start();
    cloud.push_wasm("example.com:web@1.0", &[]);
    cloud.ok(&["deploy", "example.com:web@1.0", "100%"]);
    ingresses(&cloud, 1);
    // Whoever has the same name is another all the same.
    let mut first = Ingress::start(&cloud, "first", "front");
    let mut second = Ingress::start(&cloud, "second", "front");
    ingresses(&cloud, 3);
    second.stop();
    ingresses(&cloud, 2);
    wait_until("an ingress that leaves is told", || {
        let text = cloud.ok(&["events"]);
        let (came, left) =
            (text.matches("registered  ingress front.").count(), text.contains("gone        ingress front."));
        if came == 2 && left { Ok(()) } else { Err(text) }
    });
    second.start_again(&cloud);
    ingresses(&cloud, 3);
    cloud.kill();
    cloud.start_again(&[]);
    ingresses(&cloud, 3);
    // It acknowledges what it reads, or this would not end.
    cloud.push_wasm("example.com:web@1.1", &[]);
    cloud.ok(&["deploy", "example.com:web@1.1", "100%"]);
    first.kill();
    // After a while nobody waits for the dead one any more.
    ingresses(&cloud, 2);
    cloud.stop();
    cloud.start_again(&[]);
    ingresses(&cloud, 2);
}

#[test]
fn a_deployment_waits_for_the_acknowledgement_of_each() {
    let cloud = Cloud::start();
    cloud.push_wasm("example.com:web@1.0", &[]);
    cloud.push_wasm("example.com:web@1.1", &[]);
    cloud.ok(&["deploy", "example.com:web@1.0", "100%"]);
    let front = Ingress::start(&cloud, "front", "front");
    ingresses(&cloud, 2);
    // A process that is stopped says nothing; what waits for it is told by name until its lease has run out, and on a
    // machine that is too busy to get there in time another try is made.
    let pid = front.child.as_ref().unwrap().id();
    let mut versions = ["example.com:web@1.1", "example.com:web@1.0"].into_iter().cycle();
    wait_until("a deployment waits for it", || {
        signal(pid, "STOP");
        cloud.ok(&["deploy", versions.next().unwrap(), "100%", "--no-wait"]);
        let named = |deployment: &Value| {
            let text = deployment.to_string();
            text.contains("ingress front.") && text.contains("has not acknowledged")
        };
        let is_done = |deployment: &Value| deployment["status"]["phase"] == "done";
        let waits = deployment_when(&cloud, "example.com:web", "it waits, or is done", |deployment| {
            named(deployment) || is_done(deployment)
        });
        signal(pid, "CONT");
        deployment_when(&cloud, "example.com:web", "it is done", is_done);
        ingresses(&cloud, 2);
        if named(&waits) { Ok(()) } else { Err(waits.to_string()) }
    });
}

#[test]
fn requests_that_run_are_finished_when_it_is_to_end() {
    let cloud = Cloud::start();
    let _agent = Agent::start(&cloud, "two");
    cordon_own(&cloud, "two");
    cloud.push_python("example.com:web@1.0", "", &[]);
    cloud.ok(&["deploy", "example.com:web@1.0", "100%"]);
    let mut front = Ingress::start(&cloud, "front", "front");
    let mut stream = TcpStream::connect(front.http).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(head(HOST, "/events?n=300").as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while !line.starts_with("data:") {
        line.clear();
        assert_ne!(reader.read_line(&mut line).unwrap(), 0, "it ended before its first event");
    }
    front.told_to_end();
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert_eq!(rest.matches("data:").count(), 299, "{rest}");
    front.ended();
    ingresses(&cloud, 1);
}

#[test]
fn without_tables_it_waits_for_control_and_says_so() {
    let mut cloud = Cloud::start();
    cloud.push_wasm("example.com:web@1.0", &[]);
    cloud.ok(&["deploy", "example.com:web@1.0", "100%"]);
    cloud.stop();
    let nowhere: SocketAddr = ([127, 0, 0, 1], 0).into();
    let folder = cloud.scratch().join("front");
    let log = cloud.scratch().join("front.log");
    let mut front =
        Ingress { name: "front", data_dir: folder, log, child: None, ready: Value::Null, http: nowhere };
    let says = |front: &Ingress| {
        wait_for("it says that control is away", || {
            let log = front.log();
            log.contains(&format!("control is away at {}", control(&cloud)))
                && log.contains("--control unix:PATH")
        });
    };
    // It can be ended while it waits, and has said nothing of being ready.
    let mut out = front.begin(&cloud);
    says(&front);
    front.stop();
    let mut text = String::new();
    out.read_to_string(&mut text).unwrap();
    assert_eq!(text, "");

    std::fs::remove_file(&front.log).unwrap();
    let mut out = front.begin(&cloud);
    says(&front);
    cloud.start_again(&[]);
    front.until_ready(&mut out);
    assert_eq!(front.get("nobody.test", "/").status, 404);
    ingresses(&cloud, 2);
}

#[test]
fn an_ingress_that_cannot_be_is_refused_and_says_why() {
    let cloud = Cloud::start();
    let mut front = Ingress::start(&cloud, "front", "front");
    let elsewhere = cloud.scratch().join("elsewhere");
    let refused = |mut command: Command| -> Said {
        let said = said(command.output().unwrap());
        assert!(said.code != 0 && said.out.is_empty() && said.err.contains("hint: "), "{said:?}");
        said
    };
    for busy in [cloud.http, front.http] {
        let Said { err, .. } = refused(command(&cloud, &elsewhere, "other", &busy.to_string()));
        assert!(
            err.contains(&format!("http cannot listen on {busy}")) && err.contains("--http ADDR:PORT"),
            "{err}"
        );
        assert!(!elsewhere.exists(), "what never started left its folder");
    }
    let Said { code, err, .. } = refused(command(&cloud, &front.data_dir, "other", ":0"));
    let pid = front.child.as_ref().unwrap().id();
    assert!(code == 8 && err.contains(&format!("is in use by process {pid}")), "{code} {err}");

    let mut wrong = command(&cloud, &elsewhere, "Front.1", "80");
    wrong.env("TUTTI_LOG_FORMAT", "xml");
    let said = said(wrong.output().unwrap());
    assert_eq!(said.code, 3, "{said:?}");
    for key in ["ingress.name", "ingress.http", "log_format"] {
        assert!(said.err.contains(&format!("{key} = ")), "no {key}: {said:?}");
    }
    let mut remote = cloud.command();
    remote.arg("ingress").arg("--data-dir").arg(&elsewhere).args(["--control", "http://127.0.0.1:7070"]);
    let Said { code, err, .. } = crate::harness::said(remote.output().unwrap());
    assert!(code == 3 && err.contains("ingress.control") && err.contains("write unix:/PATH"), "{code} {err}");
    front.stop();
}

#[test]
fn an_agent_and_an_ingress_tell_their_owner_what_they_do_also_while_control_is_gone() {
    let cloud = Cloud::start();
    let _agent = Agent::start(&cloud, "two");
    cordon_own(&cloud, "two");
    cloud.push_python("example.com:web@1.0", "", &[("PASSWORD", "correct-horse")]);
    cloud.ok(&["deploy", "example.com:web@1.0", "100%"]);
    let front = Ingress::start(&cloud, "front", "front");
    front.serves("1.0");
    signal(cloud.pid(), "KILL");
    wait_for("control is gone", || TcpStream::connect(cloud.api).is_err());

    let socket = |folder: &str, file: &str| cloud.scratch().join(folder).join(file).display().to_string();
    let agent = cloud.json(&["debug", "inspect", &format!("unix:{}", socket("two", "agent.sock"))]);
    assert_eq!((&agent["role"], &agent["node"]), (&"agent".into(), &"two".into()), "{agent}");
    let instance = &agent["instances"][0];
    assert_eq!((&instance["state"], &instance["runs"]), (&"ready".into(), &true.into()), "{agent}");
    assert_eq!(instance["version"], "example.com:web@1.0", "{agent}");
    assert!(!agent.to_string().contains("correct-horse"), "{agent}");

    let ingress = cloud.json(&["debug", "inspect", &socket("front", "ingress.sock")]);
    assert_eq!(ingress["tables"][0]["name"], "example.com:web", "{ingress}");
    assert_eq!((&ingress["nodes"][0]["node"], &ingress["nodes"][0]["out"]), (&"two".into(), &Value::Null));
    assert!(ingress["reached"].as_u64() > Some(0), "{ingress}");
    let text = cloud.ok(&["debug", "inspect", &socket("front", "ingress.sock")]);
    assert!(text.contains("1.0 100%") && text.contains("agent.sock"), "{text}");
    let nobody = cloud.tutti(&["debug", "inspect", "unix:/nowhere/agent.sock"]);
    assert!(nobody.code != 0 && nobody.err.contains("nobody answers at"), "{nobody:?}");
}
