//! Six machines under steady load, of which one after the other dies, hangs, is cut off or runs out of disk. Nothing that
//! was acknowledged is lost, no singleton runs twice, and no request fails but those that what was harmed had.
//!
//! `c1` to `c3` have a member of etcd and a control each, `c1` and `c2` an ingress beside them, `c3` NATS; `w1` to `w3`
//! are nodes.

mod ledger;

use crate::harness::{PATIENCE, Said, binary, guest, root, said, signal, try_request, wait_for, wait_until};
use crate::machines::{Machine, Net, Runs};
use ledger::Ledger;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

const CONTROLS: [&str; 3] = ["c1", "c2", "c3"];
const INGRESSES: [&str; 2] = ["c1", "c2"];
const WORKERS: [&str; 3] = ["w1", "w2", "w3"];
const HOST: &str = "web.example.com.localhost";
const SERVICE: &str = "example.com:web";
const SINGLETON: &str = "example.com:only";
/// What a worker's data may take: more than it needs, and little enough to be filled in a moment.
const DISK: &str = "256m";

/// The machines, what runs there, and the commands of their operator.
struct Six {
    // Before the net, so that what runs is ended first.
    runs: BTreeMap<(String, &'static str), Runs>,
    disks: Vec<PathBuf>,
    net: Net,
    folder: tempfile::TempDir,
    /// The fingerprint of the root, and the file with the operator's token.
    access: Option<(String, String)>,
}

impl Six {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn run(&mut self, machine: &str, role: &'static str, command: Command) {
        let log = self.path(&format!("{machine}-{role}.log"));
        self.runs.insert((machine.to_owned(), role), Runs::start(command, &log));
    }

    fn of(&mut self, machine: &str, role: &'static str) -> &mut Runs {
        self.runs.get_mut(&(machine.to_owned(), role)).unwrap()
    }

    fn etcd(&mut self, name: &str) {
        let url = |machine: &Machine, port: u16| format!("http://{}:{port}", machine.address);
        let peers: Vec<String> =
            CONTROLS.iter().map(|name| format!("{name}={}", url(self.net.machine(name), 2380))).collect();
        let machine = self.net.machine(name);
        let mut command = machine.command("etcd");
        command
            .args(["--name", name, "--data-dir", &self.text(&format!("{name}-etcd"))])
            .args(["--listen-client-urls", &url(machine, 2379), "--listen-peer-urls", &url(machine, 2380)])
            .args(["--advertise-client-urls", &url(machine, 2379)])
            .args(["--initial-advertise-peer-urls", &url(machine, 2380)])
            .args(["--initial-cluster", &peers.join(",")])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap());
        self.run(name, "etcd", command);
    }

    fn nats(&mut self) {
        let machine = self.net.machine("c3");
        let mut command = machine.command("nats-server");
        command.args(["-a", &machine.address.to_string(), "-p", "4222"]);
        self.run("c3", "nats", command);
    }

    /// A role of `tutti` on a machine, with the folders that it has there.
    fn start(&mut self, name: &str, role: &'static str, more: &[&str]) {
        let mut command = self.net.machine(name).command(binary());
        let notices = format!("nats://{}:4222", self.net.machine("c3").address);
        command
            .args([role, "-o", "json", "--notices", &notices])
            .args(["--data-dir", &self.text(&format!("{name}-{role}"))])
            .args(["--member-dir", &self.text(&format!("{name}-member"))])
            .args(more);
        environment(&mut command, &self.folder);
        self.run(name, role, command);
    }

    fn server(&mut self, name: &str, more: &[&str]) {
        let store = CONTROLS.map(|name| format!("{}:2379", self.net.machine(name).address));
        let (store, api) =
            (format!("etcd://{}", store.join(",")), format!("{}:7070", self.net.machine(name).address));
        let (blobs, key) = (format!("shared:{}", self.text("blobs")), self.text(&format!("{name}.key")));
        let arguments =
            ["--store", &store, "--api", &api, "--blobs", &blobs, "--key", &key, "--vouch", "true"];
        let node = ["--node", name, "--role", "ingress"];
        self.start(name, "server", &[&arguments[..], &node, more].concat());
    }

    fn ingress(&mut self, name: &str) {
        let http = format!("{}:80", self.net.machine(name).address);
        self.start(name, "ingress", &["--http", &http]);
    }

    fn agent(&mut self, name: &str) {
        let listen = format!("{}:7071", self.net.machine(name).address);
        self.start(name, "agent", &["--listen", &listen]);
    }

    /// A command of the operator's, by whichever control answers.
    fn tutti(&self, arguments: &[&str]) -> Said {
        let mut last = None;
        for control in CONTROLS {
            let said = self.tutti_at(control, arguments);
            let is_away = ["no control answers", "no answer", "no connection to", "cannot be reached"];
            if !is_away.iter().any(|words| said.err.contains(words)) {
                return said;
            }
            last = Some(said);
        }
        last.unwrap()
    }

    fn tutti_at(&self, control: &str, arguments: &[&str]) -> Said {
        let operator = self.operator(control);
        said(operator.command().args(arguments).output().unwrap())
    }

    fn operator(&self, control: &str) -> Operator {
        let (ca, token_file) = self.access.clone().unwrap();
        let api = format!("https://{}:7070", self.net.machine(control).address);
        Operator { folder: self.folder.path().to_owned(), api, ca, token_file }
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let said = self.tutti(arguments);
        assert_eq!(said.code, 0, "tutti {}\n{}\n{}", arguments.join(" "), said.out, said.err);
        said.out
    }

    fn json(&self, arguments: &[&str]) -> Result<Vec<Value>, String> {
        let said = self.tutti(&[arguments, &["-o", "json"]].concat());
        if said.code != 0 {
            return Err(said.err);
        }
        let value: Value =
            serde_json::from_str(&said.out).map_err(|error| format!("{error}: {}", said.out))?;
        Ok(value.as_array().cloned().unwrap_or_else(|| vec![value]))
    }

    /// The instances of a service that are ready, by node.
    fn ready(&self, service: &str) -> Result<Vec<String>, String> {
        let all = self.json(&["ps"])?;
        let ready = all.iter().filter(|it| {
            let version = it["spec"]["version"].as_str().unwrap_or_default();
            version.starts_with(&format!("{service}@")) && it["status"]["state"] == "ready"
        });
        Ok(ready.map(|it| it["spec"]["node"].as_str().unwrap().to_owned()).collect())
    }

    fn leader(&self) -> Result<String, String> {
        let status = self.json(&["status"])?;
        let leader = status[0]["zones"][0]["leader"].as_str();
        leader.map(str::to_owned).ok_or_else(|| format!("nobody leads: {}", status[0]))
    }

    /// The nodes that control hears, and that are ready.
    fn heard(&self) -> Result<Vec<String>, String> {
        let all = self.json(&["node", "list"])?;
        let is_heard = |it: &&Value| {
            let conditions = it["conditions"].as_array().cloned().unwrap_or_default();
            let is_silent = conditions.iter().any(|it| it["type"] == "Heard" && it["met"] == false);
            it["kind"] == "node" && it["status"]["ready"] == true && !is_silent
        };
        Ok(all.iter().filter(is_heard).map(|it| it["name"].as_str().unwrap().to_owned()).collect())
    }

    /// Waits until exactly these workers are heard, and all that is to serve is ready there.
    fn is_well(&self, workers: &[&str]) {
        wait_until("all is well again", || {
            let heard = self.heard()?;
            let there =
                |service| Ok::<_, String>(self.ready(service)?.into_iter().filter(|at| heard.contains(at)));
            let (web, only) = (there(SERVICE)?.count(), there(SINGLETON)?.collect::<Vec<_>>());
            let is_well = heard == workers && web >= 3 && only.len() == 1;
            if is_well { Ok(()) } else { Err(format!("{web} of web, only {only:?}, heard {heard:?}")) }
        });
    }

    /// Where the singleton runs.
    fn has_singleton(&self) -> String {
        let mut found = None;
        wait_until("the singleton is ready at one place", || {
            let heard = self.heard()?;
            let all = self.ready(SINGLETON)?.into_iter().filter(|at| heard.contains(at)).collect::<Vec<_>>();
            found = (all.len() == 1).then(|| all[0].clone());
            if found.is_some() { Ok(()) } else { Err(format!("{all:?}")) }
        });
        found.unwrap()
    }
}

fn environment(command: &mut Command, folder: &tempfile::TempDir) {
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", folder.path())
        .env("XDG_CONFIG_HOME", folder.path().join("config"))
        .current_dir(folder.path())
        .stdin(Stdio::null());
}

/// Who speaks to one control.
#[derive(Clone)]
struct Operator {
    folder: PathBuf,
    api: String,
    ca: String,
    token_file: String,
}

impl Operator {
    fn command(&self) -> Command {
        let mut command = Command::new(binary());
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &self.folder)
            .args(["--api", &self.api, "--ca", &self.ca, "--token-file", &self.token_file])
            .current_dir(&self.folder)
            .stdin(Stdio::null());
        command
    }
}

impl Drop for Six {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for entry in std::fs::read_dir(self.folder.path()).unwrap().flatten() {
                let path = entry.path();
                if path.extension().is_some_and(|end| end == "log")
                    && !path.to_string_lossy().contains("etcd")
                {
                    eprintln!(
                        "--- {}\n{}",
                        path.display(),
                        std::fs::read_to_string(&path).unwrap_or_default()
                    );
                }
            }
        }
        for name in WORKERS {
            self.net.machine(name).kill();
        }
        for disk in &self.disks {
            let _ = Command::new("umount").arg("-l").arg(disk).status();
        }
    }
}

/// Six machines that serve; `None`, which is said, where they cannot be made.
fn six() -> Option<Six> {
    for (program, package) in [("etcd", "etcd-server"), ("nats-server", "nats-server")] {
        if Command::new(program).arg("--version").stdout(Stdio::null()).status().is_err() {
            println!("skipped: this test runs {program} (Debian: {package}), which is not installed");
            return None;
        }
    }
    let net = Net::start(&[CONTROLS, WORKERS].concat())?;
    let folder = tempfile::Builder::new().prefix("tutti-six-").tempdir().unwrap();
    let mut six = Six { runs: BTreeMap::new(), disks: Vec::new(), net, folder, access: None };
    CONTROLS.iter().for_each(|name| six.etcd(name));
    for name in CONTROLS {
        let (address, log) = (six.net.machine(name).address, six.path(&format!("{name}-etcd.log")));
        wait_until("etcd is well", || {
            let text = "GET /health HTTP/1.1\r\nhost: etcd\r\nconnection: close\r\n\r\n";
            match try_request((address, 2379).into(), text) {
                Ok(answer) if answer.body.contains("\"true\"") => Ok(()),
                other => Err(format!("{other:?}; {}", std::fs::read_to_string(&log).unwrap_or_default())),
            }
        });
    }
    six.nats();
    CONTROLS.iter().for_each(|name| six.server(name, &["--init"]));
    for name in CONTROLS {
        let ready = six.of(name, "server").ready();
        if let Some(token_file) = ready["token_file"].as_str() {
            six.access = Some((ready["root"].as_str().unwrap().to_owned(), token_file.to_owned()));
        }
    }
    for name in INGRESSES {
        six.ingress(name);
    }
    for name in WORKERS {
        let disk = six.path(&format!("{name}-agent"));
        std::fs::create_dir_all(&disk).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={DISK},mode=0700"), "tmpfs"])
            .arg(&disk)
            .status();
        assert!(mounted.unwrap().success());
        six.disks.push(disk);
        let created = six.ok(&["token", "create", "--node", "-o", "json"]);
        let token: Value = serde_json::from_str(&created).unwrap();
        let (machine, member) = (six.net.machine(name).clone(), six.text(&format!("{name}-member")));
        let controls = CONTROLS.map(|name| format!("{}:7070", six.net.machine(name).address)).join(",");
        let mut join = machine.command(binary());
        join.args(["join", &controls, "--node", name, "--member-dir", &member, "--role", "agent"])
            .args(["--advertise", &format!("{}:7071", machine.address)]);
        environment(&mut join, &six.folder);
        let joined = said(join.env("TUTTI_JOIN_TOKEN", token["token"].as_str().unwrap()).output().unwrap());
        assert_eq!(joined.code, 0, "{joined:?}");
        six.agent(name);
        assert_eq!(six.of(name, "agent").ready()["node"], name);
    }
    for name in INGRESSES {
        six.of(name, "ingress").ready();
    }
    Some(six)
}

fn deploy(six: &Six, beats: &str) {
    six.ok(&["domain", "create", "example.com"]);
    let web = six.path("web");
    std::fs::create_dir_all(&web).unwrap();
    std::fs::copy(guest("hello-wasm/hello_wasm.wasm"), web.join("hello.wasm")).unwrap();
    std::fs::write(web.join("tutti.toml"), "[service]\nmin = 3\ngrace = \"5s\"\n").unwrap();
    six.ok(&["push", web.join("hello.wasm").to_str().unwrap(), &format!("{SERVICE}@1.0")]);
    let only = six.path("only");
    std::fs::create_dir_all(&only).unwrap();
    let program = root().join("crates/tutti/tests/e2e/programs/singleton.py");
    std::fs::copy(program, only.join("singleton.py")).unwrap();
    let manifest = format!(
        "[service]\nisolate = \"process\"\nrun = [\"python3\", \"-u\", \"singleton.py\"]\nsingleton = true\n\
         grace = \"5s\"\nenv = {{ BEATS = \"{beats}\" }}\n"
    );
    std::fs::write(only.join("tutti.toml"), manifest).unwrap();
    six.ok(&["push", only.to_str().unwrap(), &format!("{SINGLETON}@1.0")]);
    six.ok(&["deploy", &format!("{SERVICE}@1.0"), "100%"]);
    six.ok(&["deploy", &format!("{SINGLETON}@1.0"), "100%"]);
}

/// Writes all the time, at one control after the other, and keeps what was acknowledged.
struct Writer {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Vec<String>>,
}

impl Writer {
    fn start(six: &Six) -> Writer {
        let operators = CONTROLS.map(|control| six.operator(control));
        let stop = Arc::<AtomicBool>::default();
        let stopping = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut acknowledged = Vec::new();
            let mut number = 0;
            while !stopping.load(Ordering::Relaxed) {
                let name = format!("user-{number}");
                let operator = &operators[number % operators.len()];
                let mut child = operator
                    .command()
                    .args(["user", "create", &name])
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()
                    .unwrap();
                let end = Instant::now() + PATIENCE;
                let status = loop {
                    if let Some(status) = child.try_wait().unwrap() {
                        break Some(status);
                    }
                    if Instant::now() > end {
                        child.kill().unwrap();
                        break None;
                    }
                    std::thread::sleep(Duration::from_millis(10));
                };
                if status.is_some_and(|status| status.success()) {
                    acknowledged.push(name);
                }
                number += 1;
            }
            acknowledged
        });
        Writer { stop, thread }
    }

    fn stop(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

#[test]
fn one_after_the_other_dies_hangs_or_is_cut_off_and_only_what_it_had_is_lost() {
    let Some(mut six) = six() else { return };
    let address = |six: &Six, name: &str| six.net.machine(name).address;
    let ingresses = INGRESSES.map(|name| address(&six, name));
    let mut ledger = Ledger::start(4, &[], HOST);
    let beats = ledger.hear(six.net.host());
    deploy(&six, &beats.to_string());
    six.is_well(&WORKERS);
    let mut load = Ledger::start(4, &ingresses, HOST);
    let writer = Writer::start(&six);
    wait_for("there is load", || load.answered() > 100);

    // The leader.
    let leader = six.leader().unwrap();
    load.harm(&format!("control {leader}, which leads, is killed"), &[], &[]);
    six.of(&leader, "server").kill();
    wait_until("another leads", || match six.leader() {
        Ok(now) if now != leader => Ok(()),
        other => Err(format!("{other:?}")),
    });
    six.server(&leader, &[]);
    six.of(&leader, "server").ready();

    // Another control.
    let leads = six.leader().unwrap();
    let other = CONTROLS.iter().find(|name| **name != leads && **name != leader).unwrap();
    load.harm(&format!("control {other} is killed"), &[], &[]);
    six.of(other, "server").kill();
    six.ok(&["deploy", &format!("{SERVICE}@1.0"), "100%"]);
    six.server(other, &[]);
    six.of(other, "server").ready();

    // A member of etcd.
    load.harm("the etcd of c2 is killed", &[], &[]);
    six.of("c2", "etcd").kill();
    six.ok(&["user", "create", "while-etcd-lacks-one"]);
    six.etcd("c2");
    six.is_well(&WORKERS);

    // What changes are told by.
    load.harm("NATS is killed", &[], &[]);
    six.of("c3", "nats").kill();
    six.ok(&["deploy", &format!("{SERVICE}@1.0"), "100%"]);
    six.nats();

    // A worker with all it runs: the one that has the singleton.
    let worker = six.has_singleton();
    let at = address(&six, &worker);
    load.harm(&format!("worker {worker} is killed"), &[at], &[&worker, &at.to_string()]);
    six.net.machine(&worker).kill();
    let left: Vec<&str> = WORKERS.into_iter().filter(|name| *name != worker).collect();
    six.is_well(&left);
    six.agent(&worker);
    six.of(&worker, "agent").ready();
    six.is_well(&WORKERS);

    // One of two ingresses.
    load.harm("the ingress of c1 is killed", &[ingresses[0]], &[]);
    six.of("c1", "ingress").kill();
    let before = load.answered();
    wait_for("the other serves", || load.answered() > before + 100);
    six.ingress("c1");
    six.of("c1", "ingress").ready();

    // A worker that is cut off, first both ways and then only in what it says: it has the singleton each time.
    for (how, cuts) in [("cut off", true), ("mute", false)] {
        let worker = six.has_singleton();
        let at = address(&six, &worker);
        let machine = six.net.machine(&worker).clone();
        let runs = ledger.ran().len();
        load.harm(&format!("worker {worker} is {how}"), &[at], &[&worker, &at.to_string()]);
        if cuts {
            machine.cut()
        } else {
            six.net.mute(&machine)
        }
        wait_for("the singleton runs elsewhere", || ledger.ran().len() > runs);
        let left: Vec<&str> = WORKERS.into_iter().filter(|name| *name != worker).collect();
        six.is_well(&left);
        if cuts {
            machine.join()
        } else {
            six.net.unmute(&machine)
        }
        six.is_well(&WORKERS);
    }

    // The leader hangs for longer than its lease, and then goes on as if it led.
    let leader = six.leader().unwrap();
    load.harm(&format!("control {leader}, which leads, hangs for 30 s"), &[], &[]);
    let (pid, since) = (six.of(&leader, "server").pid(), Instant::now());
    signal(pid, "STOP");
    wait_until("another leads", || match six.leader() {
        Ok(now) if now != leader => Ok(()),
        other => Err(format!("{other:?}")),
    });
    six.ok(&["deploy", &format!("{SERVICE}@1.0"), "100%"]);
    wait_for("30 s have passed", || since.elapsed() >= Duration::from_secs(30));
    signal(pid, "CONT");
    six.is_well(&WORKERS);

    // A worker's disk is full.
    let full = six.path("w1-agent").join("full");
    load.harm("the disk of w1 is full", &[], &[]);
    let filled =
        Command::new("dd").args(["if=/dev/zero", "bs=1M"]).arg(format!("of={}", full.display())).output();
    assert!(!filled.unwrap().status.success(), "the disk had no end");
    let before = load.answered();
    six.ok(&["deploy", &format!("{SERVICE}@1.0"), "100%"]);
    wait_for("it serves on", || load.answered() > before + 200);
    std::fs::remove_file(&full).unwrap();
    six.is_well(&WORKERS);

    // What came of it.
    let acknowledged = writer.stop();
    assert!(acknowledged.len() > 50, "only {} writes", acknowledged.len());
    let users = six.json(&["user", "list"]).unwrap();
    let known: Vec<&str> = users.iter().map(|user| user["name"].as_str().unwrap()).collect();
    let lost: Vec<&String> = acknowledged.iter().filter(|name| !known.contains(&name.as_str())).collect();
    assert!(lost.is_empty(), "of {} acknowledged writes these were lost: {lost:?}", acknowledged.len());
    let mut ran = ledger.ran();
    let count = ran.len();
    ran.sort();
    ran.dedup();
    assert_eq!(ran.len(), count, "the singleton ran twice at once: {:?}", ledger.ran());
    assert!(count >= 4, "it ran at {count} places only");
    let (unexplained, explained) = load.unexplained();
    println!("{} requests answered; failed: {explained:?}; {} writes", load.answered(), acknowledged.len());
    assert!(unexplained.is_empty(), "{} failed for no reason: {unexplained:#?}", unexplained.len());
}
