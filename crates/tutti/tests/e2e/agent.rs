//! `tutti agent` beside `tutti dev`: two nodes serve as one, and whichever process ends, is killed or comes back, what
//! can be served is served.

use crate::harness::{Cloud, binary, guest, said, signal, try_request, wait_for, wait_until};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

const HOST: &str = "web.example.com.localhost";

/// A running `tutti agent` of a cloud. What it leaves is stopped at the end of the test.
pub struct Agent<'a> {
    cloud: &'a Cloud,
    name: &'static str,
    child: Option<Child>,
    /// What it said when it was ready.
    ready: Value,
}

impl<'a> Agent<'a> {
    /// Starts one and waits until it is ready.
    pub fn start(cloud: &'a Cloud, name: &'static str) -> Self {
        let mut agent = Agent { cloud, name, child: None, ready: Value::Null };
        agent.start_again();
        agent
    }

    fn data_dir(&self) -> PathBuf {
        self.cloud.scratch().join(self.name)
    }

    fn log(&self) -> PathBuf {
        self.cloud.scratch().join(format!("{}.log", self.name))
    }

    fn begin(&mut self) -> BufReader<std::process::ChildStdout> {
        assert!(self.child.is_none(), "it runs already");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log()).unwrap();
        let mut child = self
            .cloud
            .command()
            .args(arguments(self.cloud, &self.data_dir(), self.name))
            .args(["-o", "json"])
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        self.child = Some(child);
        out
    }

    /// Starts it and waits until it is ready.
    fn start_again(&mut self) {
        let mut out = self.begin();
        self.until_ready(&mut out);
    }

    fn until_ready(&mut self, out: &mut BufReader<std::process::ChildStdout>) {
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        self.ready = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Ends it as a crash would.
    fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Ends it in order.
    fn stop(&mut self) {
        let mut child = self.child.take().unwrap();
        signal(child.id(), "TERM");
        let mut code = None;
        wait_for("tutti agent ends", || {
            code = child.try_wait().unwrap();
            code.is_some()
        });
        assert!(code.unwrap().success(), "{code:?}");
    }

    fn stop_instances(&self) -> String {
        let mut command = self.cloud.command();
        command.args(arguments(self.cloud, &self.data_dir(), self.name)).arg("--stop-instances");
        let said = said(command.output().unwrap());
        assert_eq!(said.code, 0, "{said:?}");
        said.out
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It leaves its processes, whichever way it ends.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!(
                "--- log of {}\n{}",
                self.name,
                std::fs::read_to_string(self.log()).unwrap_or_default()
            );
        }
        let mut command = self.cloud.command();
        command.args(arguments(self.cloud, &self.data_dir(), self.name)).arg("--stop-instances");
        let _ = command.output();
    }
}

fn arguments(cloud: &Cloud, data_dir: &Path, name: &str) -> Vec<String> {
    let control = format!("unix:{}", cloud.data_dir().join("control.sock").display());
    let data_dir = data_dir.display().to_string();
    ["agent", "--control", &control, "--data-dir", &data_dir, "--node", name].map(str::to_owned).to_vec()
}

/// The instances that are ready, by node.
fn ready(cloud: &Cloud) -> BTreeMap<String, Value> {
    let ready =
        cloud.items("instances").into_iter().filter(|instance| instance["status"]["state"] == "ready");
    ready.map(|instance| (instance["spec"]["node"].as_str().unwrap().to_owned(), instance)).collect()
}

fn name(instance: &Value) -> &str {
    instance["name"].as_str().unwrap()
}

/// Asks until these instances, and no others, have answered, each request well.
fn answered_by(cloud: &Cloud, wanted: &BTreeSet<String>) {
    let mut seen = BTreeSet::new();
    wait_until("each answers", || {
        let answer = cloud.get(HOST, "/");
        assert_eq!(answer.status, 200, "{answer:?}");
        seen.insert(answer.header("tutti-instance").unwrap().to_owned());
        if seen == *wanted { Ok(()) } else { Err(format!("{seen:?}")) }
    });
}

fn both(cloud: &Cloud) -> BTreeSet<String> {
    let ready = ready(cloud);
    assert_eq!(ready.len(), 2, "one on each node: {ready:?}");
    ready.values().map(|instance| name(instance).to_owned()).collect()
}

/// Asks without a pause from several clients until it is told to end, and gives how many were not answered well.
fn under_load(cloud: &Cloud, act: impl FnOnce(&AtomicUsize)) -> Vec<String> {
    let (stop, answered, failed) = (AtomicBool::new(false), AtomicUsize::new(0), Mutex::new(Vec::new()));
    let http = cloud.http;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let text = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n");
                    match try_request(http, &text) {
                        Ok(answer) if answer.status == 200 => {}
                        other => failed.lock().unwrap().push(format!("{other:?}")),
                    }
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let acted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| act(&answered)));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = acted {
            std::panic::resume_unwind(panic);
        }
    });
    failed.into_inner().unwrap()
}

/// Waits until so many more requests have been answered.
fn more(answered: &AtomicUsize, count: usize) {
    let from = answered.load(Ordering::Relaxed);
    wait_for("requests are answered", || answered.load(Ordering::Relaxed) >= from + count);
}

#[test]
fn an_agent_that_ends_loses_no_request_and_its_processes_run_on() {
    let cloud = Cloud::start();
    let mut agent = Agent::start(&cloud, "two");
    assert_eq!(agent.ready["node"], "two");
    assert_eq!(agent.ready["agent"], format!("unix:{}", agent.data_dir().join("agent.sock").display()));
    cloud.push_python("example.com:web@1.0", "min = 2", &[]);
    cloud.ok(&["deploy", "example.com:web@1.0", "100%"]);
    let (instances, programs) = (both(&cloud), cloud.programs());
    answered_by(&cloud, &instances);
    let blobs = agent.data_dir().join("blobs/sha256");
    assert!(std::fs::read_dir(blobs).unwrap().count() >= 2, "manifest and layer were fetched");

    let failed = under_load(&cloud, |answered| {
        for _ in 0..2 {
            more(answered, 50);
            agent.stop();
            more(answered, 50);
            agent.start_again();
            answered_by(&cloud, &instances);
        }
    });
    assert_eq!(failed, [""; 0], "requests were lost");
    assert_eq!(cloud.programs(), programs, "other processes run");
    assert_eq!(both(&cloud), instances);
    assert!(ready(&cloud).values().all(|instance| instance["status"]["restarts"] == 0));
}

/// Serves like the sample, and counts: one line with the next number as fast as a log file takes them in small bursts.
const COUNTER: &str = r#"
import itertools, runpy, sys, threading, time

def count():
    for number in itertools.count():
        sys.stdout.write(f"count {number}\n")
        sys.stdout.flush()
        time.sleep(0.005)

threading.Thread(target=count, daemon=True).start()
runpy.run_path("main.py", run_name="__main__")
"#;

fn push_counter(cloud: &Cloud) {
    cloud.push_python("example.com:other@1.0", "min = 2", &[]);
    let from = cloud.scratch().join("example.com-other-1.0");
    let folder = cloud.scratch().join("counter");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(from.join("main.py"), folder.join("main.py")).unwrap();
    std::fs::write(folder.join("counter.py"), COUNTER).unwrap();
    let manifest = std::fs::read_to_string(from.join("tutti.toml")).unwrap().replace("gate.py", "counter.py");
    std::fs::write(folder.join("tutti.toml"), manifest).unwrap();
    cloud.ok(&["push", folder.to_str().unwrap(), "example.com:web@1.0"]);
    cloud.ok(&["deploy", "example.com:web@1.0", "100%"]);
}

/// The numbers in these lines.
fn counted(lines: &str) -> Vec<u64> {
    lines.lines().filter_map(|line| line.rsplit_once("count ")?.1.trim().parse().ok()).collect()
}

#[test]
fn a_killed_agent_takes_its_processes_up_again_and_every_line_is_there_to_read() {
    let cloud = Cloud::start();
    let mut agent = Agent::start(&cloud, "two");
    push_counter(&cloud);
    let (instances, programs) = (both(&cloud), cloud.programs());
    let there = name(&ready(&cloud)["two"]).to_owned();
    let lines = || cloud.ok(&["logs", &there, "--tail", "100000"]);
    let mut last = 0;
    for how in ["kill", "stop"] {
        wait_until("it counts", || match counted(&lines()).last() {
            Some(now) if *now > last + 50 => {
                last = *now;
                Ok(())
            }
            now => Err(format!("{now:?}")),
        });
        if how == "kill" {
            agent.kill()
        } else {
            agent.stop()
        }
        // Both nodes were asked, and one does not answer.
        let said = cloud.ok(&["logs", "example.com:web", "--tail", "20"]);
        assert!(said.contains("node two does not answer") && said.contains("count "), "{said}");
        agent.start_again();
        answered_by(&cloud, &instances);
    }
    wait_until("it counts on", || match counted(&lines()).last() {
        Some(now) if *now > last + 50 => Ok(()),
        now => Err(format!("{now:?}")),
    });
    let numbers = counted(&lines());
    assert!(numbers.iter().copied().eq(0..numbers.len() as u64), "lines were lost or repeated: {numbers:?}");
    assert_eq!(cloud.programs(), programs, "other processes run");
    assert!(ready(&cloud).values().all(|instance| instance["status"]["restarts"] == 0));
}

#[test]
fn logs_are_followed_on_every_node_and_over_the_restart_of_one() {
    let cloud = Cloud::start();
    let mut agent = Agent::start(&cloud, "two");
    push_counter(&cloud);
    let instances = both(&cloud);
    let mut follower = cloud
        .command()
        .args(["logs", "example.com:web", "-f", "--tail", "0", "-o", "json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let heard: Mutex<Vec<Value>> = Mutex::default();
    let out = BufReader::new(follower.stdout.take().unwrap());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for line in out.lines().map_while(Result::ok) {
                heard.lock().unwrap().extend(serde_json::from_str::<Value>(&line));
            }
        });
        let of_each = |more: usize| {
            let from = heard.lock().unwrap().len();
            wait_until("lines of both come", || {
                let heard = heard.lock().unwrap();
                let new = heard.iter().skip(from);
                let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
                for line in new.filter(|line| line["output"] == "stdout") {
                    *counts.entry(line["instance"].as_str().unwrap()).or_default() += 1;
                }
                let enough =
                    instances.iter().all(|id| counts.get(id.as_str()).is_some_and(|count| *count > more));
                if enough { Ok(()) } else { Err(format!("{counts:?}")) }
            });
        };
        let acted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            of_each(20);
            agent.kill();
            wait_for("the loss is said", || {
                let heard = heard.lock().unwrap();
                heard.iter().any(|line| {
                    line["line"].as_str().is_some_and(|line| line.contains("node two does not answer"))
                })
            });
            agent.start_again();
            of_each(20);
        }));
        follower.kill().unwrap();
        follower.wait().unwrap();
        if let Err(panic) = acted {
            std::panic::resume_unwind(panic);
        }
    });
    // Of each instance every line, once and in order.
    for instance in &instances {
        let heard = heard.lock().unwrap();
        let lines = heard.iter().filter(|line| line["instance"] == **instance && line["output"] == "stdout");
        let text: Vec<&str> = lines.filter_map(|line| line["line"].as_str()).collect();
        let numbers = counted(&text.join("\n"));
        assert!(numbers.len() > 40 && numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    }
}

#[test]
fn what_gone_instances_wrote_is_found_on_every_node() {
    let cloud = Cloud::start();
    let _agent = Agent::start(&cloud, "two");
    let lines = "min = 2\nstandby = \"0s\"";
    cloud.push_python("example.com:web@1.0", lines, &[]);
    cloud.push_python("example.com:web@1.1", lines, &[]);
    cloud.ok(&["deploy", "example.com:web@1.0", "100%"]);
    let gone = both(&cloud);
    answered_by(&cloud, &gone);
    cloud.ok(&["deploy", "example.com:web@1.1", "100%"]);
    wait_for("the older ones are gone", || {
        cloud.items("instances").iter().all(|instance| !gone.contains(name(instance)))
    });
    let previous = cloud.ok(&["logs", "example.com:web", "--previous"]);
    for instance in &gone {
        assert!(previous.contains(instance), "{instance} of {gone:?}: {previous}");
        assert!(cloud.ok(&["logs", instance]).contains("GET /"));
    }
}

#[test]
fn a_killed_tutti_dev_leaves_the_agent_and_what_it_runs_alone() {
    let mut cloud = Cloud::start();
    let folder = cloud.scratch();
    let agent_pid;
    let (instances, program);
    {
        let mut agent = Agent::start(&cloud, "two");
        cloud.push_python("example.com:web@1.0", "min = 2", &[]);
        cloud.ok(&["deploy", "example.com:web@1.0", "100%"]);
        (instances, program) = (both(&cloud), cloud.programs());
        agent_pid = agent.pid();
        // It is ended by this test, not with this value.
        let child = agent.child.take().unwrap();
        std::mem::forget(agent);
        std::mem::forget(child);
    }
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        for _ in 0..2 {
            cloud.kill();
            cloud.start_again(&[]);
            // From the first moment on, and without anything that the agent needs to say.
            answered_by(&cloud, &instances);
            assert_eq!(cloud.programs(), program, "other processes run");
        }
        wait_until("the agent does what control wants again", || {
            let node = cloud.get_json("/v1/nodes/two");
            if node["status"]["ready"] == true { Ok(()) } else { Err(node.to_string()) }
        });
        // It is heard by the new control: a second version comes to it as well.
        cloud.push_python("example.com:web@2.0", "min = 2", &[]);
        cloud.ok(&["deploy", "example.com:web@2.0", "100%"]);
        wait_until("both nodes serve 2.0", || {
            let nodes: BTreeSet<String> = cloud
                .items("instances")
                .iter()
                .filter(|instance| {
                    instance["spec"]["version"] == "example.com:web@2.0"
                        && instance["status"]["state"] == "ready"
                })
                .map(|instance| instance["spec"]["node"].as_str().unwrap().to_owned())
                .collect();
            if nodes.len() == 2 { Ok(()) } else { Err(format!("{nodes:?}")) }
        });
        assert!(std::fs::read_link(format!("/proc/{agent_pid}/exe")).unwrap() == binary());
    }));
    signal(agent_pid, "KILL");
    let mut command = cloud.command();
    command.args(arguments(&cloud, &folder.join("two"), "two")).arg("--stop-instances");
    wait_for("what it left is stopped", || command.output().unwrap().status.success());
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn wasm_runs_on_an_agent_and_again_before_a_restarted_one_is_ready() {
    let cloud = Cloud::start();
    let mut agent = Agent::start(&cloud, "two");
    let folder = cloud.scratch().join("wasm");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(guest("hello-wasm/hello_wasm.wasm"), folder.join("hello.wasm")).unwrap();
    std::fs::write(folder.join("tutti.toml"), "[service]\nmin = 2\n").unwrap();
    cloud.ok(&["push", folder.join("hello.wasm").to_str().unwrap(), "example.com:web@1.0"]);
    cloud.ok(&["deploy", "example.com:web@1.0", "100%"]);
    let instances = both(&cloud);
    answered_by(&cloud, &instances);
    let failed = under_load(&cloud, |answered| {
        more(answered, 100);
        agent.stop();
        more(answered, 100);
        agent.start_again();
        answered_by(&cloud, &instances);
    });
    assert_eq!(failed, [""; 0], "requests were lost");
    agent.kill();
    agent.start_again();
    answered_by(&cloud, &instances);
}

#[test]
fn an_agent_that_is_gone_is_not_called_ready() {
    let cloud = Cloud::start();
    let mut agent = Agent::start(&cloud, "two");
    cloud.push_python("example.com:web@1.0", "min = 2", &[]);
    cloud.ok(&["deploy", "example.com:web@1.0", "100%"]);
    let there = name(&ready(&cloud)["two"]).to_owned();
    let line =
        |list: &str, of: &str| list.lines().find(|line| line.contains(of)).unwrap_or_default().to_owned();
    agent.kill();
    wait_for("the node and what it ran are said to be silent", || {
        line(&cloud.ok(&["node", "list"]), "two").contains("silent")
            && line(&cloud.ok(&["ps"]), &there).contains("silent")
    });
    assert!(cloud.ok(&["node", "show", "two"]).contains("silent: its agent was last heard"));
    let status = cloud.ok(&["status"]);
    assert!(status.contains("1 of 2 nodes ready") && status.contains("node two is silent"), "{status}");
    let why = cloud.ok(&["explain", "node/two"]);
    assert!(why.contains("its agent is silent") && why.contains("start its agent again"), "{why}");
    agent.start_again();
    wait_for("it is ready again", || {
        let (nodes, instances) = (cloud.ok(&["node", "list"]), cloud.ok(&["ps"]));
        line(&nodes, "two").contains("ready") && !instances.contains("silent")
    });
    assert!(cloud.ok(&["status"]).contains("2 of 2 nodes ready"));
}

#[test]
fn what_an_agent_left_can_be_stopped_and_starts_again_with_the_next() {
    let cloud = Cloud::start();
    let mut agent = Agent::start(&cloud, "two");
    cloud.push_python("example.com:web@1.0", "min = 2", &[]);
    cloud.ok(&["deploy", "example.com:web@1.0", "100%"]);
    let (instances, programs) = (both(&cloud), cloud.programs());
    assert_eq!(programs.len(), 2);
    let mut command = cloud.command();
    command.args(arguments(&cloud, &agent.data_dir(), "two")).arg("--stop-instances");
    let running = said(command.output().unwrap());
    assert!(running.code != 0 && running.err.contains("is in use by process"), "{running:?}");
    agent.stop();
    assert_eq!(cloud.programs(), programs);
    assert_eq!(agent.stop_instances(), "1 instance stopped\n");
    assert_eq!(cloud.programs().len(), 1);
    assert_eq!(agent.stop_instances(), "0 instances stopped\n");
    assert_eq!(cloud.get(HOST, "/").status, 200);
    agent.start_again();
    answered_by(&cloud, &instances);
    assert_eq!(cloud.programs().len(), 2);
}

#[test]
fn an_agent_that_cannot_be_is_refused_and_says_why() {
    let cloud = Cloud::start();
    let agent = Agent::start(&cloud, "two");
    let elsewhere = cloud.scratch().join("three");
    let refused = |data_dir: &Path, node: &str, more: &[&str]| {
        let said = said(cloud.command().args(arguments(&cloud, data_dir, node)).args(more).output().unwrap());
        assert!(said.code != 0 && said.out.is_empty(), "{said:?}");
        (said.code, said.err)
    };
    let (code, text) = refused(&elsewhere, "two", &[]);
    assert!(code == 7 && text.contains("node name \"two\" is taken by the agent at unix:/"), "{code} {text}");
    let own =
        cloud.items("nodes").iter().map(|node| name(node).to_owned()).find(|node| node != "two").unwrap();
    let (code, text) = refused(&elsewhere, &own, &[]);
    assert!(code == 7 && text.contains("is taken by the node in control's own process"), "{code} {text}");
    let (code, text) = refused(&agent.data_dir(), "three", &[]);
    assert!(code == 8 && text.contains(&format!("is in use by process {}", agent.pid())), "{code} {text}");
    let (code, text) = refused(&elsewhere.join("a".repeat(110)), "three", &[]);
    assert!(code == 3 && text.contains("107 bytes") && text.contains("--socket"), "{code} {text}");
    let (code, text) = refused(&elsewhere, "Three!", &["--socket", "tcp://a"]);
    assert!(code == 3 && text.contains("agent.node") && text.contains("agent.socket"), "{code} {text}");
    let taken = format!("unix:{}", agent.data_dir().join("agent.sock").display());
    let (_, text) = refused(&elsewhere, "three", &["--socket", &taken]);
    assert!(text.contains("another process listens there"), "{text}");
    let file = cloud.scratch().join("file");
    std::fs::write(&file, "mine").unwrap();
    let (_, text) = refused(&elsewhere, "three", &["--socket", file.to_str().unwrap()]);
    assert!(text.contains("something else than a socket"), "{text}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    // Nothing of it came to control.
    assert_eq!(cloud.items("nodes").len(), 2);
}

#[test]
fn an_agent_waits_for_control_and_one_that_ran_before_serves_meanwhile() {
    let mut cloud = Cloud::start();
    cloud.stop();
    let (data_dir, log) = (cloud.scratch().join("two"), cloud.scratch().join("agent.log"));
    let mut child = cloud
        .command()
        .args(arguments(&cloud, &data_dir, "two"))
        .args(["-o", "json"])
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let acted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        wait_for("it says that control is away", || {
            std::fs::read_to_string(&log).unwrap().contains("control is away")
        });
        cloud.start_again(&[]);
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("\"ready\":true"), "{line}");
    }));
    child.kill().unwrap();
    child.wait().unwrap();
    if let Err(panic) = acted {
        std::panic::resume_unwind(panic);
    }
    let list = cloud.ok(&["node", "show", "two"]);
    assert!(list.contains(&format!("unix:{}", data_dir.join("agent.sock").display())), "{list}");
}
