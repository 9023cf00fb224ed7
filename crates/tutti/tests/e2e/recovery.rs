//! `tutti dev` killed, started again, and ended in order: what runs in a process runs on and loses no line, wasm
//! answers before anyone is told that the node is ready, and a signal leaves nothing.

use crate::harness::{Cloud, signal, wait_for, wait_until};
use serde_json::Value;
use std::net::TcpStream;

const HOST: &str = "web.example.com.localhost";

/// The only instance, once it is ready.
fn instance(cloud: &Cloud) -> Value {
    let mut found = Value::Null;
    wait_until("the instance is ready", || {
        let instances = cloud.items("instances");
        let [instance] = &instances[..] else { return Err(format!("{instances:?}")) };
        if instance["status"]["state"] != "ready" {
            return Err(instance.to_string());
        }
        found = instance.clone();
        Ok(())
    });
    found
}

/// Serves like the sample, and counts: one line with the next number as fast as a log file takes them in small bursts.
const COUNTER: &str = r#"
import itertools, runpy, sys, threading, time

def count():
    for number in itertools.count():
        # In one piece: what the main thread prints may stand before it on a line, never in it.
        sys.stdout.write(f"count {number}\n")
        sys.stdout.flush()
        time.sleep(0.002)

threading.Thread(target=count, daemon=True).start()
runpy.run_path("main.py", run_name="__main__")
"#;

/// The numbers that the log has, in the order of the lines.
fn counted(cloud: &Cloud) -> Vec<u64> {
    let lines = cloud.ok(&["logs", "example.com:web", "--tail", "100000"]);
    lines.lines().filter_map(|line| line.rsplit_once("count ")?.1.trim().parse().ok()).collect()
}

#[test]
fn a_killed_tutti_dev_takes_its_processes_up_again_and_loses_no_line() {
    let mut cloud = Cloud::start();
    cloud.push_python("example.com:other@1.0", "", &[]);
    let folder = cloud.scratch().join("counter");
    std::fs::create_dir_all(&folder).unwrap();
    let from = cloud.scratch().join("example.com-other-1.0");
    std::fs::copy(from.join("main.py"), folder.join("main.py")).unwrap();
    std::fs::write(folder.join("counter.py"), COUNTER).unwrap();
    let manifest = std::fs::read_to_string(from.join("tutti.toml")).unwrap().replace("gate.py", "counter.py");
    std::fs::write(folder.join("tutti.toml"), manifest).unwrap();
    cloud.ok(&["push", folder.to_str().unwrap(), "example.com:web@1.0"]);
    cloud.ok(&["deploy", "example.com:web@1.0", "100%"]);
    wait_until("it counts", || match counted(&cloud).last() {
        Some(last) if *last > 50 => Ok(()),
        last => Err(format!("{last:?}")),
    });
    let (before, programs) = (instance(&cloud), cloud.programs());
    assert_eq!(programs.len(), 1);

    cloud.kill();
    let reached = counted_on_disk(&cloud);
    wait_until("it counts on while nobody is there", || {
        let now = counted_on_disk(&cloud);
        if now > reached + 50 { Ok(()) } else { Err(format!("{now} lines after {reached}")) }
    });
    cloud.start_again(&[]);
    // From the first moment on.
    assert_eq!(cloud.get(HOST, "/").status, 200);
    let after = instance(&cloud);
    assert_eq!(cloud.programs(), programs, "it is another process");
    assert_eq!((&after["name"], &after["status"]["restarts"]), (&before["name"], &0.into()));

    let reached = *counted(&cloud).last().unwrap();
    wait_until("it counts on", || match counted(&cloud).last() {
        Some(last) if *last > reached + 50 => Ok(()),
        last => Err(format!("{last:?}")),
    });
    let numbers = counted(&cloud);
    assert!(numbers.iter().copied().eq(0..numbers.len() as u64), "lines were lost or repeated: {numbers:?}");
}

/// Lines with a count in the log's own files.
fn counted_on_disk(cloud: &Cloud) -> usize {
    let mut lines = 0;
    let mut folders = vec![cloud.data_dir().join("agent/logs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                lines +=
                    String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap()).matches("count ").count();
            }
        }
    }
    lines
}

#[test]
fn wasm_answers_before_anyone_is_told_that_it_is_ready() {
    let mut cloud = Cloud::start();
    cloud.push_wasm("example.com:web@1.0", &[("VERSION", "1.0")]);
    cloud.ok(&["deploy", "example.com:web@1.0", "100%"]);
    for _ in 0..3 {
        cloud.kill();
        cloud.start_again(&[]);
        let answer = cloud.get(HOST, "/");
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    cloud.stop();
    cloud.start_again(&[]);
    let answer = cloud.get(HOST, "/");
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[test]
fn ended_by_a_signal_nothing_is_left() {
    let mut cloud = Cloud::start();
    cloud.push_python("example.com:web@1.0", "", &[]);
    cloud.push_wasm("example.com:hello@1.0", &[("VERSION", "1.0")]);
    cloud.ok(&["deploy", "example.com:web@1.0", "100%"]);
    cloud.ok(&["deploy", "example.com:hello@1.0", "100%"]);
    let instances = cloud.items("instances");
    let names: Vec<String> =
        instances.iter().map(|instance| instance["name"].as_str().unwrap().to_owned()).collect();
    let groups_while_it_runs = groups(&names);
    cloud.stop();
    assert_eq!(cloud.processes(), []);
    assert_eq!(groups(&names), Vec::<String>::new(), "of {groups_while_it_runs:?}");
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    assert!(!mounts.contains(&cloud.mark()), "{mounts}");
    for address in [cloud.api, cloud.http] {
        assert!(TcpStream::connect(address).is_err(), "{address} still listens");
    }
    // And what ran runs again.
    cloud.start_again(&[]);
    wait_for("both answer", || {
        [HOST, "hello.example.com.localhost"].iter().all(|host| cloud.get(host, "/").status == 200)
    });
    // Being ended in order is no crash.
    let restarts = |instance: &Value| instance["status"]["restarts"].clone();
    let instances = cloud.items("instances");
    assert!(instances.iter().all(|instance| restarts(instance) == 0), "{instances:?}");
}

/// Control groups of these instances.
fn groups(instances: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![(std::path::PathBuf::from("/sys/fs/cgroup"), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            // Groups are not deeper, and the tree of a busy machine is large.
            if depth < 4 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if instances.iter().any(|instance| entry.file_name() == **instance) {
                    found.push(entry.path().display().to_string());
                }
                folders.push((entry.path(), depth + 1));
            }
        }
    }
    found
}

#[test]
fn an_instance_whose_shim_is_killed_starts_again_and_says_why() {
    let cloud = Cloud::start();
    cloud.push_python("example.com:web@1.0", "", &[]);
    cloud.ok(&["deploy", "example.com:web@1.0", "100%"]);
    let before = cloud.programs();
    // The outermost shim is the parent of all the others.
    let all: Vec<u32> = cloud.processes().into_iter().map(|(pid, _)| pid).collect();
    let mut outermost = all.iter().copied().filter(|pid| !all.contains(&parent(*pid)));
    let shim = outermost.next().expect("a shim");
    assert!(before.len() == 1 && !before.contains(&shim), "{before:?}, {shim}");
    signal(shim, "KILL");
    let mut reasons = Vec::new();
    wait_until("it is started again", || {
        let instances = cloud.items("instances");
        if let Some(reason) = instances[0]["status"]["reason"].as_str() {
            reasons.push(reason.to_owned());
        }
        let again = instances[0]["status"]["restarts"] == 1 && instances[0]["status"]["state"] == "ready";
        if again { Ok(()) } else { Err(format!("{instances:?}")) }
    });
    assert!(reasons.iter().any(|reason| reason.contains("restart 1")), "{reasons:?}");
    let after = cloud.programs();
    assert!(after.len() == 1 && after != before, "{before:?} {after:?}");
    wait_for("it answers", || cloud.get(HOST, "/").status == 200);
}

fn parent(pid: u32) -> u32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    after_name.split_whitespace().nth(1).and_then(|parent| parent.parse().ok()).unwrap_or(0)
}
