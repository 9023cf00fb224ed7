//! `kill -9` at every state of a deploy, before and after its write: the next start goes on from there by itself.
//!
//! Each case starts a cloud, brings it to where its story begins, starts it again with the crash point set, plays the
//! story until the process dies, starts it once more without, and looks: the deployment ends as it should, all is well,
//! nothing acknowledged is lost, no request fails, and nothing is left over.
//!
//! One point is not among the cases: `zone/failed`, which a zone passes only if, in the very moment between a version's
//! failure and the undoing of its deployment, something else of the service changes too. What is written there is the
//! report, and `report/failed` is among them.

use crate::harness::{Cloud, wait_for, wait_until};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    net::TcpListener,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};
use tutti_model::deployment::Phase;

/// Cases that run at the same time: most of a case is waiting for processes to start.
const AT_ONCE: usize = 3;
/// Most writes beside a deploy, to be looked for after the crash.
const WRITES: usize = 40;

const SERVICE: &str = "example.com:web";
const HOST: &str = "web.example.com.localhost";

/// A way to come by a crash point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Story {
    /// The very first deploy of a service.
    First,
    /// 1.0 serves, and 1.1 is deployed.
    Plain,
    /// 1.1 is deployed in two steps; after the crash it is promoted.
    Steps,
    /// 1.1 is deployed in two steps, and aborted at the first.
    Abort,
    /// 1.1 does not start.
    Fail,
    /// Only one of the two instances that 1.1 needs finds a node; after the crash it is aborted.
    Crowded,
    /// 1.1 takes its time to start, and a route is made meanwhile.
    Held,
}

/// A crash point and how to come by it.
#[derive(Debug, Clone)]
struct Case {
    point: String,
    story: Story,
}

fn cases() -> Vec<Case> {
    let both = |names: &[&str], story| -> Vec<Case> {
        let sides = names.iter().flat_map(|name| ["before", "after"].map(|side| format!("{name}/{side}")));
        sides.map(|point| Case { point, story }).collect()
    };
    let one = |name: &str, story| vec![Case { point: name.to_owned(), story }];
    let mut cases = Vec::new();
    for phase in Phase::ALL {
        let story = match phase {
            Phase::Placing | Phase::Preloading | Phase::Starting | Phase::Shifting | Phase::Done => {
                Story::Plain
            }
            Phase::Observing => Story::Steps,
            Phase::Failing | Phase::Failed => Story::Fail,
            Phase::Aborting | Phase::Aborted => Story::Abort,
        };
        cases.extend(both(&[&format!("deployment/{phase}")], story));
    }
    cases.extend(both(&["zone/preloading", "zone/shifting", "zone/settled"], Story::Plain));
    cases.extend(both(&["zone/placing", "report/placing"], Story::Crowded));
    cases.extend(both(&["zone/starting"], Story::Held));
    cases.extend(both(
        &["report/preloading", "report/starting", "report/shifting", "report/settled"],
        Story::First,
    ));
    cases.extend(both(&["report/failed", "agent/failed", "agent/backoff"], Story::Fail));
    cases.extend(both(&["agent/preloading", "agent/starting", "agent/ready"], Story::First));
    cases.extend(both(&["agent/draining", "agent/stopped"], Story::Plain));
    cases.extend(one("agent/recorded", Story::First));
    cases.extend(one("agent/started", Story::First));
    cases.extend(one("ingress/applied", Story::First));
    cases.extend(one("handed-down/after", Story::Plain));
    cases.extend(both(&["api/deployment"], Story::Plain));
    cases
}

#[test]
fn killed_at_any_state_of_a_deploy_it_goes_on_by_itself() {
    // One of them by name, to look closer.
    let only = std::env::var("TUTTI_E2E_CRASH").ok();
    let cases: Vec<Case> = cases()
        .into_iter()
        .filter(|case| only.as_ref().is_none_or(|only| case.point.starts_with(only)))
        .collect();
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if catch_unwind(AssertUnwindSafe(|| play(case))).is_err() {
                        eprintln!("--- that was {case:?}");
                        failed.lock().unwrap().push(case.point.clone());
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} of {} cases failed: {failed:?}", failed.len(), cases.len());
}

fn play(case: &Case) {
    let story = case.story;
    let mut cloud = Cloud::start();
    // What is replaced goes at once, so that it can be seen whether anything stays.
    let lines = "standby = \"0s\"\n";
    cloud.push_python("example.com:web@1.0", lines, &[("VERSION", "1.0")]);
    let gate = TcpListener::bind("127.0.0.1:0").expect("a gate");
    if story != Story::First {
        cloud.ok(&["deploy", "example.com:web@1.0", "100%"]);
        push_next(&cloud, story, lines, &gate);
    }
    let before = cloud.json(&["status"]);
    cloud.kill();
    cloud.start_again(&[("TUTTI_CRASH_AT", &case.point)]);

    // The zone says again what it has settled as soon as it starts, or for the first time, if it was killed between
    // what a push hands down and that; all else waits for the deploy.
    assert!(cloud.is_ready() || case.point.starts_with("report/settled/"), "it died before its time");
    let acknowledged = if cloud.is_ready() { provoke(&mut cloud, story) } else { Vec::new() };
    cloud.wait_for_end();
    cloud.start_again(&[]);
    assert!(cloud.is_ready(), "it does not start again");
    drop(gate);

    for domain in &acknowledged {
        cloud.get_json(&format!("/v1/domains/{domain}"));
    }
    for version in ["1.0", "1.1"].iter().take(if story == Story::First { 1 } else { 2 }) {
        cloud.get_json(&format!("/v1/versions/example.com:web@{version}"));
    }
    converges(&cloud, story, &before);
    cloud.stop();
    let left = cloud.processes();
    assert!(left.is_empty(), "left: {left:?}");
}

fn push_next(cloud: &Cloud, story: Story, lines: &str, gate: &TcpListener) {
    let gate = gate.local_addr().expect("an address").port().to_string();
    let mut env = vec![("VERSION", "1.1")];
    let mut lines = lines.to_owned();
    match story {
        Story::Fail => env.push(("START", "fail")),
        Story::Held => env.push(("GATE", &gate)),
        Story::Crowded => {
            let cpus = std::thread::available_parallelism().expect("a number of cpus").get();
            lines.push_str(&format!("min = 2\ncpu = \"{}m\"\n", cpus * 600));
        }
        Story::First | Story::Plain | Story::Steps | Story::Abort => {}
    }
    cloud.push_python("example.com:web@1.1", &lines, &env);
}

/// Plays the story until the process dies. Gives the domains that were made meanwhile and acknowledged.
fn provoke(cloud: &mut Cloud, story: Story) -> Vec<String> {
    let mut arguments = vec!["deploy", "example.com:web@1.1", "100%", "--no-wait"];
    match story {
        Story::First => arguments = vec!["deploy", "example.com:web@1.0", "100%", "--no-wait"],
        Story::Steps | Story::Abort => {
            arguments =
                vec!["deploy", "example.com:web@1.1", "--steps", "50%,100%", "--every", "1h", "--no-wait"];
        }
        Story::Plain | Story::Fail | Story::Crowded | Story::Held => {}
    }
    let mut acknowledged = Vec::new();
    std::thread::scope(|scope| {
        let at_the_same_time = scope.spawn(|| make_domains(cloud));
        // It may die before it has answered.
        cloud.tutti(&arguments);
        acknowledged = at_the_same_time.join().expect("domains are made");
    });
    let waited_for = match story {
        Story::Abort => "observing",
        Story::Held => "starting",
        _ => return acknowledged,
    };
    wait_for(waited_for, || !cloud.runs() || phase(cloud).as_deref() == Some(waited_for));
    if cloud.runs() {
        // These too may get no answer.
        if story == Story::Abort {
            cloud.tutti(&["deployment", "abort", SERVICE, "--no-wait"]);
        } else {
            cloud.tutti(&["route", "create", "shop.example.org", SERVICE]);
        }
    }
    acknowledged
}

fn make_domains(cloud: &Cloud) -> Vec<String> {
    let mut made = Vec::new();
    for number in 0..WRITES {
        let name = format!("tenant-{number}.example.org");
        match cloud.try_call("POST", "/v1/domains", Some(&json!({ "name": name }))) {
            Ok((201, _)) => made.push(name),
            _ => break,
        }
    }
    made
}

/// The newest deployment.
fn newest(cloud: &Cloud) -> Option<Value> {
    let (status, body) = cloud.try_call("GET", "/v1/deployments", None).ok()?;
    let mut items = if status == 200 { body["items"].as_array()?.clone() } else { return None };
    items.sort_by_key(|item| item["created_at"].as_u64());
    items.pop()
}

fn phase(cloud: &Cloud) -> Option<String> {
    newest(cloud).and_then(|newest| Some(newest["status"]["phase"].as_str()?.to_owned()))
}

/// Nobody touches it, but for the orders that the story ends with; and no request fails on the way.
fn converges(cloud: &Cloud, story: Story, before: &Value) {
    let deployed = newest(cloud)
        .filter(|newest| story == Story::First || newest["spec"]["target"]["version"]["version"] == "1.1");
    let Some(deployed) = deployed else {
        // It died before the deployment was written: nothing has happened, and the service is free.
        served(cloud, story);
        assert_eq!(cloud.json(&["status"])["services"][0]["split"], before["services"][0]["split"]);
        let version = if story == Story::First { "example.com:web@1.0" } else { "example.com:web@1.1" };
        cloud.ok(&["deploy", version, "100%"]);
        return settled(cloud, story, true);
    };
    let is_final = |phase: &str| matches!(phase, "done" | "failed" | "aborted");
    let mut ordered = false;
    wait_for("the deployment's end", || {
        served(cloud, story);
        let phase = phase(cloud).expect("a phase");
        let order = match (story, phase.as_str()) {
            (Story::Steps, "observing") => Some("promote"),
            (Story::Crowded, "placing") => Some("abort"),
            // The abort was never acknowledged.
            (Story::Abort, "observing") => Some("abort"),
            _ => None,
        };
        if let (Some(order), false) = (order, ordered) {
            ordered = cloud.tutti(&["deployment", order, SERVICE]).code == 0;
        }
        is_final(&phase)
    });
    let end = cloud.get_json(&format!("/v1/deployments/{}", deployed["name"].as_str().expect("a name")));
    let (wanted, newer) = match story {
        Story::First | Story::Plain | Story::Steps | Story::Held => ("done", true),
        Story::Fail => ("failed", false),
        Story::Abort | Story::Crowded => ("aborted", false),
    };
    assert_eq!(end["status"]["phase"], wanted, "{end}");
    if story == Story::Fail {
        let reason = end["status"]["failure"]["reason"].as_str().unwrap_or_default();
        assert!(reason.contains("exited with code 1"), "{end}");
        assert!(end["status"]["failure"]["last_lines"].to_string().contains("START=fail"), "{end}");
    }
    settled(cloud, story, newer);
}

/// A request is answered, whatever goes on.
fn served(cloud: &Cloud, story: Story) {
    if story != Story::First {
        let answer = cloud.get(HOST, "/");
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

/// All is well: what serves is what should, and nothing else is there.
fn settled(cloud: &Cloud, story: Story, newer: bool) {
    let version = if newer && story != Story::First { "1.1" } else { "1.0" };
    wait_until("nothing is left over", || {
        served(cloud, story);
        let (status, instances, processes) =
            (cloud.json(&["status"]), cloud.items("instances"), cloud.processes());
        let service = &status["services"][0];
        let is_well = status["problems"] == json!([])
            && service["state"] == "serving"
            && service["serving"] == json!({ version: "100%" })
            && instances.len() == 1
            && instances[0]["status"]["state"] == "ready"
            && cloud.programs().len() == 1
            // Besides the program there are only its shims.
            && processes.iter().all(|(_, line)| {
                let is_shim = line.split(' ').nth(1) == Some("shim");
                !is_shim || line.contains(instances[0]["name"].as_str().expect("a name"))
            });
        if is_well { Ok(()) } else { Err(format!("{service} {instances:?} {processes:?}")) }
    });
    let instances: BTreeSet<String> = cloud
        .items("instances")
        .iter()
        .map(|instance| instance["name"].as_str().expect("a name").to_owned())
        .collect();
    for table in cloud.items("tables") {
        for backend in table["spec"]["backend"]["versions"].as_array().into_iter().flatten() {
            let endpoints = backend["endpoints"].as_array().expect("endpoints");
            assert!(!endpoints.is_empty(), "{table}");
            for endpoint in endpoints {
                assert!(instances.contains(endpoint["instance"].as_str().expect("an id")), "{table}");
            }
        }
    }
    let answer = cloud.get(HOST, "/");
    assert_eq!((answer.status, answer.header("tutti-version")), (200, Some(version)), "{answer:?}");
}
