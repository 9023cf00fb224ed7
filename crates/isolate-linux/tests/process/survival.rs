//! Whoever is killed, nothing is lost and nothing is left.

use crate::subject::{Host, driver, lines, spec};
use rustix::process::{Pid, Signal};
use std::{
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};
use tutti_base::Uptime;
use tutti_isolate::{Driver as _, Exit, Running, suite};
use tutti_model::{Millis, log::Output};

/// Counts for ever, and answers like hello.
const COUNTER: &str = r#"
import http.server, os, threading, time
class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "5")
        self.end_headers()
        self.wfile.write(b"hello")
    def log_message(self, *args):
        pass
def count():
    number = 0
    while True:
        os.write(1, b"count %d\n" % number)
        number += 1
        time.sleep(0.0005)
threading.Thread(target=count, daemon=True).start()
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Hello).serve_forever()
"#;

/// Set in the process that plays the agent: the folder to work in.
const AGENT: &str = "TUTTI_TEST_AGENT_FOLDER";

/// In a process of its own: starts an instance, says so, and waits to be killed.
#[tokio::test]
async fn act_as_agent() {
    let Some(folder) = std::env::var_os(AGENT).map(PathBuf::from) else { return };
    let sample = suite::Sample {
        artifact: crate::subject::artifact(&folder, &[("main.py", COUNTER.as_bytes(), 0o644)]),
        manifest: serde_json::from_str(r#"{"run":["python3","-u","main.py"]}"#).unwrap(),
    };
    let (driver, spec) = (driver(&folder), spec(&folder, 1, &sample));
    driver.preload(&spec.artifact).await.unwrap();
    println!("\nagent begins");
    let running = driver.start(&spec).await.unwrap();
    suite::answers(&*running).await.unwrap();
    println!("\nagent is ready");
    std::future::pending::<()>().await;
}

fn agent(folder: &Path) -> Child {
    agent_until(folder, "agent is ready")
}

/// An agent that has come as far as to say this.
fn agent_until(folder: &Path, point: &str) -> Child {
    let mut agent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "survival::act_as_agent", "--nocapture"])
        .env(AGENT, folder)
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let said = BufReader::new(agent.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(said.into_iter().any(|line| line == point), "the agent did not come up");
    agent
}

fn counter(host: &Host) -> suite::Sample {
    host.python(COUNTER, &[])
}

async fn exited(running: &Arc<dyn Running>) -> Exit {
    let mut exit = running.exit();
    let exit = tokio::time::timeout(Duration::from_secs(30), exit.wait_for(Option::is_some)).await.unwrap();
    exit.unwrap().clone().unwrap()
}

/// The ids of instance and shim.
fn pids(folder: &Path) -> (i32, i32) {
    let state: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("state.json")).unwrap()).unwrap();
    let pid = |who: &str| state[who]["pid"].as_i64().unwrap() as i32;
    (pid("process"), pid("shim"))
}

fn kill(pid: i32) {
    rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

#[tokio::test]
async fn an_instance_outlives_its_killed_agent_and_no_line_is_lost() {
    let host = Host::new();
    let mut agent = agent(host.folder.path());
    let spec = host.spec(1, &counter(&host));
    let before = pids(&spec.folder);
    // The whole group, as a terminal's hang-up or an impatient operator would.
    rustix::process::kill_process_group(Pid::from_child(&agent), Signal::KILL).unwrap();
    agent.wait().unwrap();

    let driver = host.driver();
    let running = driver.recover(&spec).await.unwrap().expect("recovered");
    suite::answers(&*running).await.unwrap();
    assert_eq!(pids(&spec.folder), before);
    assert!(running.exit().borrow().is_none());
    let error = driver.start(&spec).await.unwrap_err().chain();
    assert!(error.contains("already runs"), "{error}");

    // A second agent killed, at any moment, changes nothing either.
    drop((running, driver));
    let driver = host.driver();
    let running = driver.recover(&spec).await.unwrap().expect("recovered again");
    let exit = running.stop(Millis::seconds(5)).await;
    assert_eq!(exit.text, "killed by signal 15 (SIGTERM)");
    let counted: Vec<String> = lines(&spec.logs, &spec.instance)
        .await
        .into_iter()
        .filter(|line| line.output == Output::Stdout)
        .map(|line| line.line)
        .collect();
    let wanted: Vec<String> = (0..counted.len()).map(|number| format!("count {number}")).collect();
    assert!(counted.len() > 10);
    assert_eq!(counted, wanted);
    driver.remove(&spec).await.unwrap();
    assert_eq!(host.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn an_agent_killed_at_any_moment_of_a_start_leaves_what_the_next_can_take_up() {
    let (mut found, mut fresh) = (0, 0);
    for moment in 0..16 {
        let host = Host::new();
        let mut agent = agent_until(host.folder.path(), "agent begins");
        // Not a wait for anything: the moment of the fault, from before the shim to after the instance runs.
        std::thread::sleep(Duration::from_micros(800 * moment));
        rustix::process::kill_process_group(Pid::from_child(&agent), Signal::KILL).unwrap();
        agent.wait().unwrap();
        let (driver, spec) = (host.driver(), host.spec(1, &counter(&host)));
        let running = match driver.recover(&spec).await.unwrap() {
            Some(running) => {
                found += 1;
                running
            }
            None => {
                fresh += 1;
                driver.preload(&spec.artifact).await.unwrap();
                driver.start(&spec).await.unwrap_or_else(|error| panic!("after {moment}: {}", error.chain()))
            }
        };
        suite::answers(&*running).await.unwrap_or_else(|why| panic!("after {moment}: {why}"));
        host.end(&spec, &*running).await;
        assert_eq!(host.leftovers(), Vec::<String>::new(), "after {moment}");
    }
    eprintln!("killed {fresh} times before there was an instance, {found} times after");
    assert!(found > 0, "no moment was late enough");
}

#[tokio::test]
async fn agent_and_shim_killed_at_any_moment_of_a_start_leave_nothing_that_runs_unseen() {
    for moment in 0..16 {
        let host = Host::new();
        let mut agent = agent_until(host.folder.path(), "agent begins");
        // As above, the moment of the fault.
        std::thread::sleep(Duration::from_micros(800 * moment));
        rustix::process::kill_process_group(Pid::from_child(&agent), Signal::KILL).unwrap();
        for shim in host.shims() {
            let _ = rustix::process::kill_process(shim, Signal::KILL);
        }
        agent.wait().unwrap();
        let (driver, spec) = (host.driver(), host.spec(1, &counter(&host)));
        if let Some(running) = driver.recover(&spec).await.unwrap() {
            // A shim that was forked and not yet a program when we looked bore no name to be found by.
            for shim in host.shims() {
                let _ = rustix::process::kill_process(shim, Signal::KILL);
            }
            let text = exited(&running).await.text;
            assert_eq!(text, "killed by signal 9 (SIGKILL): its shim was killed", "after {moment}");
        }
        driver.remove(&spec).await.unwrap();
        assert_eq!(host.leftovers(), Vec::<String>::new(), "after {moment}");
    }
}

#[tokio::test]
async fn a_killed_shim_takes_its_instance_along_and_is_told() {
    let host = Host::new();
    let (spec, running) = host.start(1, &counter(&host)).await;
    suite::answers(&*running).await.unwrap();
    let (process, shim) = pids(&spec.folder);
    kill(shim);
    let exit = exited(&running).await;
    assert_eq!(exit.text, "killed by signal 9 (SIGKILL): its shim was killed");
    assert!(suite::get(&running.target()).await.is_err());
    assert!(!Path::new(&format!("/proc/{process}/exe")).exists());
    // A later agent hears the same.
    let again = host.driver().recover(&spec).await.unwrap().expect("known");
    assert_eq!(exited(&again).await, exit);
    // And it can be started again.
    let running = host.driver().start(&spec).await.unwrap();
    suite::answers(&*running).await.unwrap();
    host.end(&spec, &*running).await;
    assert_eq!(host.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn agent_and_shim_killed_together_are_told_as_well() {
    let host = Host::new();
    let (spec, running) = host.start(1, &counter(&host)).await;
    suite::answers(&*running).await.unwrap();
    let (_, shim) = pids(&spec.folder);
    drop(running);
    kill(shim);
    let running = host.driver().recover(&spec).await.unwrap().expect("known");
    assert_eq!(exited(&running).await.text, "killed by signal 9 (SIGKILL): its shim was killed");
    assert_eq!(running.stop(Millis(0)).await.signal, Some(9));
    host.driver().remove(&spec).await.unwrap();
    assert_eq!(host.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn a_lease_ends_an_instance_whose_agent_is_gone_and_only_a_renewed_one_moves_that_on() {
    let host = Host::new();
    let sample = counter(&host);
    let mut spec = host.spec(1, &sample);
    host.driver().preload(&spec.artifact).await.unwrap();
    spec.until = Some(Uptime::now());
    let late = host.driver().start(&spec).await.unwrap_err();
    assert!(late.chain().contains("its lease ran out before it was started"), "{}", late.chain());
    let first = Uptime::now().plus(Millis::seconds(5));
    spec.until = Some(first);
    let running = host.driver().start(&spec).await.unwrap();
    suite::answers(&*running).await.unwrap();
    let last = first.plus(Millis(500));
    running.extend(last).await;
    // Never brought nearer.
    running.extend(Uptime::now()).await;
    let (process, _) = pids(&spec.folder);
    drop(running);
    let again = host.driver().recover(&spec).await.unwrap().expect("known");
    let exit = exited(&again).await;
    assert!(Uptime::now() >= last, "ended early");
    assert_eq!(exit.text, "killed by signal 9 (SIGKILL): its lease ran out, and control gave it no other");
    assert!(!Path::new(&format!("/proc/{process}/exe")).exists());
    host.driver().remove(&spec).await.unwrap();
    // One that was started without an end is given none.
    let (spec, running) = host.start(2, &sample).await;
    running.extend(Uptime::now()).await;
    suite::answers(&*running).await.unwrap();
    host.end(&spec, &*running).await;
    assert_eq!(host.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn a_note_of_another_start_of_the_machine_is_not_believed() {
    let host = Host::new();
    let (spec, running) = host.start(1, &counter(&host)).await;
    running.stop(Millis::seconds(5)).await;
    drop(running);
    // As after a power cut: the note of who runs is there, with ids that others have now, but no note of an end.
    let path = spec.folder.join("state.json");
    let mut state: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    state["boot"] = "00000000-0000-0000-0000-000000000000".into();
    for who in ["process", "shim"] {
        state[who]["pid"] = std::process::id().into();
    }
    std::fs::write(&path, state.to_string()).unwrap();
    // Its shim lets go of the lock in a moment; until then it counts as alive.
    let gone = async {
        while std::fs::remove_file(spec.folder.join("exit.json")).is_ok()
            || host.driver().recover(&spec).await.unwrap().is_none()
        {}
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.unwrap();
    let running = host.driver().recover(&spec).await.unwrap().expect("known");
    assert_eq!(exited(&running).await.text, "ended with the machine, which was started again since");
    host.driver().remove(&spec).await.unwrap();
}

#[tokio::test]
async fn a_process_of_the_same_number_is_spared() {
    let host = Host::new();
    let (spec, running) = host.start(1, &counter(&host)).await;
    running.stop(Millis::seconds(5)).await;
    drop(running);
    let mut bystander = Command::new("sleep").arg("1000").spawn().unwrap();
    let path = spec.folder.join("state.json");
    let mut state: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for who in ["process", "shim", "init"] {
        state[who] = serde_json::json!({ "pid": bystander.id(), "started": 1 });
    }
    std::fs::write(&path, state.to_string()).unwrap();
    let _ = std::fs::remove_file(spec.folder.join("exit.json"));
    host.driver().remove(&spec).await.unwrap();
    assert!(bystander.try_wait().unwrap().is_none(), "an innocent was killed");
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

#[tokio::test]
async fn what_nobody_knows_any_more_is_swept_away() {
    let host = Host::new();
    let sample = counter(&host);
    let (kept, running) = host.start(1, &sample).await;
    let (swept, forgotten) = host.start(2, &sample).await;
    suite::answers(&*forgotten).await.unwrap();
    suite::answers(&*running).await.unwrap();
    drop(forgotten);
    let found = host.driver().sweep(std::slice::from_ref(&kept.instance)).await.unwrap();
    assert_eq!(found, vec![swept.instance.clone()]);
    assert!(!swept.folder.exists());
    suite::answers(&*running).await.unwrap();
    host.end(&kept, &*running).await;
    assert_eq!(host.leftovers(), Vec::<String>::new());
    assert!(host.driver().sweep(&[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_instance_whose_folder_is_removed_ends() {
    let host = Host::new();
    let (spec, running) = host.start(1, &counter(&host)).await;
    suite::answers(&*running).await.unwrap();
    let (process, _) = pids(&spec.folder);
    std::fs::remove_dir_all(&spec.folder).unwrap();
    let exit = exited(&running).await;
    assert_eq!(exit.text, "killed by signal 9 (SIGKILL): ended at once, without grace");
    assert!(!Path::new(&format!("/proc/{process}/exe")).exists());
}

#[tokio::test]
async fn a_shim_that_is_asked_by_signal_ends_its_instance_in_peace() {
    let host = Host::new();
    let (spec, running) = host.start(1, &counter(&host)).await;
    suite::answers(&*running).await.unwrap();
    let (_, shim) = pids(&spec.folder);
    rustix::process::kill_process(Pid::from_raw(shim).unwrap(), Signal::TERM).unwrap();
    assert_eq!(exited(&running).await.text, "killed by signal 15 (SIGTERM)");
    host.driver().remove(&spec).await.unwrap();
}
