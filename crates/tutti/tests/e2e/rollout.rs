//! Rollouts in steps: they walk by themselves, wait for enough answers, give up on a bad version, obey, and go back.

use crate::{
    harness::{Cloud, PATIENCE, wait_for},
    traffic::{HELLO, Wrk, deployment_when, instances, metrics, newest_deployment, push_python, push_wasm},
};
use serde_json::Value;

const SERVICE: &str = "example.com:hello";
const NEWER: &str = "example.com:hello@1.1";

/// Two versions of the wasm sample, of which the older serves.
fn two_versions() -> Cloud {
    let cloud = Cloud::start();
    push_wasm(&cloud, "example.com:hello@1.0", "");
    push_wasm(&cloud, NEWER, "");
    cloud.ok(&["deploy", "example.com:hello@1.0", "100%"]);
    cloud
}

/// The versions that twenty requests reach, in order.
fn serving(cloud: &Cloud) -> Vec<String> {
    let mut versions: Vec<String> = (0..20)
        .map(|_| cloud.get(HELLO, "/").header("tutti-version").expect("a version").to_owned())
        .collect();
    versions.sort();
    versions.dedup();
    versions
}

fn observing(cloud: &Cloud, step: u64) -> Value {
    deployment_when(cloud, SERVICE, "the step is observed", |deployment| {
        deployment["status"]["phase"] == "observing" && deployment["status"]["step"] == step
    })
}

fn ended(cloud: &Cloud, phase: &str) -> Value {
    let deployment = deployment_when(cloud, SERVICE, "the deployment has ended", |deployment| {
        deployment["status"]["finished_at"].is_number()
    });
    assert_eq!(deployment["status"]["phase"], phase, "{deployment:#}");
    deployment
}

/// The value of a figure of one version at `/metrics`.
fn metric(cloud: &Cloud, name: &str, version: &str) -> f64 {
    let text = metrics(cloud);
    let labels = format!("{{service=\"{SERVICE}\",version=\"{version}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}{labels}")));
    line.map_or(0.0, |value| value.parse().expect("a number"))
}

#[test]
fn a_good_version_walks_through_its_steps_by_itself() {
    let cloud = two_versions();
    let load = Wrk::start(cloud.http, HELLO, "/", 2);
    let out = cloud.ok(&[
        "deploy",
        NEWER,
        "--steps",
        "10%,50%,100%",
        "--every",
        "2s",
        "--abort-if",
        // What is slow here is the machine that runs all tests at once; that a slow version is caught is proved in tutti-plan.
        "error_rate>1%,p99>5s",
    ]);
    load.stop().assert_clean(&cloud);
    assert_eq!(serving(&cloud), ["1.1"]);
    assert!(out.contains("1.1"), "{out}");

    let deployment = newest_deployment(&cloud, SERVICE);
    let history = deployment["status"]["history"].as_array().expect("a history");
    let times = |step: u64, phase: &str| -> Vec<u64> {
        let of_step = history.iter().filter(|entry| entry["step"] == step && entry["phase"] == phase);
        of_step.map(|entry| entry["at"].as_u64().expect("a time")).collect()
    };
    for step in [0, 1] {
        let (seen, next) = (times(step, "observing"), times(step + 1, "placing"));
        let next = next.first().or(times(step + 1, "shifting").first()).copied();
        let waited = next.expect("a next step") - seen.first().expect("it was observed");
        assert!(waited >= 1_990, "step {step} was observed for {waited} ms: {deployment:#}");
    }

    // What every version answered can be read, with how long it took.
    for version in ["1.0", "1.1"] {
        let answers = metric(&cloud, "tutti_ingress_answers_total", version);
        assert!(answers > 0.0, "{version} has answered nothing");
        assert!(metric(&cloud, "tutti_ingress_latency_seconds_count", version) > 0.0);
        assert!(metric(&cloud, "tutti_ingress_latency_seconds_sum", version) > 0.0);
        assert!((metric(&cloud, "tutti_ingress_errors_total", version)).abs() < 0.5);
    }
    let text = metrics(&cloud);
    assert!(text.contains("tutti_ingress_latency_seconds_bucket{"), "{text}");
    // OpenMetrics: a family has the name of its counters without their suffix, and the text says where it ends.
    let families: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    assert!(!families.iter().any(|family| family.contains("_total ")), "{families:?}");
    assert!(families.contains(&"tutti_ingress_answers counter"), "{families:?}");
    assert!(text.ends_with("# EOF\n") && text.matches("# EOF").count() == 1, "{text}");
}

#[test]
fn a_step_with_too_few_answers_waits_and_says_so() {
    let cloud = two_versions();
    cloud.ok(&[
        "deploy",
        NEWER,
        "--steps",
        "50%,100%",
        "--every",
        "100ms",
        "--abort-if",
        "error_rate>1%",
        "--no-wait",
    ]);
    deployment_when(&cloud, SERVICE, "it says that it waits for answers", |deployment| {
        deployment["status"]["message"].as_str().is_some_and(|message| message.contains("of the 50 answers"))
    });
    let said = cloud.tutti(&["explain", SERVICE]);
    assert!(said.out.contains("send it requests") && said.out.contains("promote"), "{}", said.out);
    assert_eq!(newest_deployment(&cloud, SERVICE)["status"]["step"], 0);

    // Half of these are its own.
    for _ in 0..110 {
        assert_eq!(cloud.get(HELLO, "/").status, 200);
    }
    ended(&cloud, "done");
    assert_eq!(serving(&cloud), ["1.1"]);
}

#[test]
fn a_bad_version_is_judged_and_taken_back() {
    let cloud = Cloud::start();
    push_python(&cloud, "example.com:hello@1.0", &[("VERSION", "1.0")], "");
    push_python(&cloud, NEWER, &[("VERSION", "1.1"), ("ERRORS", "1")], "");
    cloud.ok(&["deploy", "example.com:hello@1.0", "100%"]);

    let load = Wrk::start(cloud.http, HELLO, "/", 4);
    let said = cloud.tutti(&[
        "deploy",
        NEWER,
        "--steps",
        "20%,100%",
        "--every",
        "1s",
        "--abort-if",
        "error_rate>1%,p99>20s",
    ]);
    let report = load.stop();
    assert_eq!(said.code, 1, "{}{}", said.out, said.err);
    assert!(said.err.contains("error_rate"), "the reason is missing: {}{}", said.out, said.err);
    assert!(report.answers.contains_key("500 1.1"), "{}", report.text);
    let deployment = ended(&cloud, "aborted");
    let reason = deployment["status"]["failure"]["reason"].as_str().expect("a reason");
    assert!(reason.contains("error_rate"), "{reason}");
    assert_eq!(serving(&cloud), ["1.0"]);
    assert!(metric(&cloud, "tutti_ingress_errors_total", "1.1") > 0.0);
}

#[test]
fn pause_holds_resume_goes_on_promote_skips_and_abort_returns() {
    let cloud = two_versions();
    let order = |word: &str| cloud.ok(&["deployment", word, SERVICE]);
    // It would go on at once, were it not paused.
    cloud.ok(&["deploy", NEWER, "--steps", "10%,20%,50%,100%", "--every", "10m", "--no-wait"]);
    observing(&cloud, 0);
    order("promote");
    observing(&cloud, 1);
    order("pause");
    let said = cloud.ok(&["explain", SERVICE]);
    assert!(said.contains("paused") && said.contains("tutti deployment resume"), "{said}");
    // A second deployment is refused by the name of the first.
    let said = cloud.tutti(&["deploy", NEWER, "100%"]);
    let id = newest_deployment(&cloud, SERVICE)["name"].as_str().expect("a name").to_owned();
    assert!(said.code > 2 && said.err.contains(&id), "{} {}", said.code, said.err);
    order("resume");
    // The next one is promoted to the end.
    cloud.ok(&["deployment", "promote", SERVICE, "--full"]);
    ended(&cloud, "done");
    assert_eq!(serving(&cloud), ["1.1"]);

    cloud.ok(&["deploy", "example.com:hello@1.0", "--steps", "50%,100%", "--every", "10m", "--no-wait"]);
    observing(&cloud, 0);
    assert_eq!(serving(&cloud), ["1.0", "1.1"]);
    cloud.tutti(&["deployment", "abort", SERVICE]);
    ended(&cloud, "aborted");
    assert_eq!(serving(&cloud), ["1.1"]);
}

#[test]
fn a_paused_step_outlasts_its_time() {
    let cloud = two_versions();
    cloud.ok(&["deploy", NEWER, "--steps", "50%,100%", "--every", "1s", "--no-wait"]);
    observing(&cloud, 0);
    cloud.ok(&["deployment", "pause", SERVICE]);
    let paused = newest_deployment(&cloud, SERVICE);
    assert_eq!(paused["status"]["step"], 0, "it was too slow to pause: {paused:#}");
    // Another service's rollout of the same length ends meanwhile: time does go on.
    push_wasm(&cloud, "example.com:clock@1.0", "");
    push_wasm(&cloud, "example.com:clock@1.1", "");
    cloud.ok(&["deploy", "example.com:clock@1.0", "100%"]);
    cloud.ok(&["deploy", "example.com:clock@1.1", "--steps", "50%,100%", "--every", "2s"]);
    let still = newest_deployment(&cloud, SERVICE);
    assert_eq!((&still["status"]["step"], &still["status"]["phase"]), (&0.into(), &"observing".into()));
    assert_eq!(serving(&cloud), ["1.0", "1.1"]);
    cloud.ok(&["deployment", "resume", SERVICE]);
    ended(&cloud, "done");
}

#[test]
fn a_rollback_takes_back_the_instances_that_stand_by() {
    let cloud = Cloud::start();
    for version in ["1.0", "1.1"] {
        push_python(&cloud, &format!("{SERVICE}@{version}"), &[("VERSION", version)], "");
    }
    cloud.ok(&["deploy", "example.com:hello@1.0", "100%"]);
    let before = instances(&cloud, SERVICE, "ready");
    cloud.ok(&["deploy", NEWER, "100%"]);
    let all = instances(&cloud, SERVICE, "ready");
    assert_eq!((before.len(), all.len()), (1, 2), "one serves, one stands by");

    let began = std::time::Instant::now();
    cloud.ok(&["rollback", SERVICE]);
    assert!(began.elapsed() < PATIENCE / 6, "at once is not {:?}", began.elapsed());
    assert_eq!(serving(&cloud), ["1.0"]);
    let answer = cloud.get(HELLO, "/");
    assert_eq!(answer.header("tutti-instance"), before.first().map(String::as_str));
    assert_eq!(instances(&cloud, SERVICE, "ready"), all, "nothing was started or stopped");
}

#[test]
fn a_failed_health_gate_changes_nothing_and_says_why() {
    let cloud = Cloud::start();
    push_python(&cloud, "example.com:hello@1.0", &[("VERSION", "1.0")], "");
    cloud.ok(&["deploy", "example.com:hello@1.0", "100%"]);
    let before = instances(&cloud, SERVICE, "ready");

    push_python(&cloud, "example.com:hello@1.1", &[("START", "fail")], "");
    let health = "health = { http = \"/healthz\", start = \"2s\" }";
    push_python(&cloud, "example.com:hello@1.2", &[("HEALTH", "bad")], health);
    for (version, why, line) in [
        ("1.1", "exited with code 1", "cannot start: START=fail"),
        ("1.2", "GET /healthz", "GET /healthz 503"),
    ] {
        let said = cloud.tutti(&["deploy", &format!("{SERVICE}@{version}"), "50%"]);
        assert_eq!(said.code, 1, "{}{}", said.out, said.err);
        assert!(said.err.contains(why) && said.err.contains(line), "{}{}", said.out, said.err);
        ended(&cloud, "failed");
        assert_eq!(serving(&cloud), ["1.0"]);
        assert_eq!(instances(&cloud, SERVICE, "ready"), before);
        wait_for("the failed instance is taken away", || {
            cloud.json(&["ps", SERVICE]).as_array().expect("instances").len() == 1
        });
    }
}

/// Cpus as the API writes them, in thousandths.
fn thousandths(text: &str) -> u64 {
    match text.strip_suffix('m') {
        Some(thousandths) => thousandths.parse().expect("a number"),
        None => text.parse::<u64>().expect("whole cpus") * 1000,
    }
}

#[test]
fn on_a_full_node_what_stands_by_makes_room_for_a_deploy() {
    let cloud = Cloud::start();
    // Room for two instances, and not for three: by cpu, since of memory there is as much as others leave.
    let capacity = cloud.items("nodes")[0]["status"]["capacity"]["cpu"].clone();
    let each = thousandths(capacity.as_str().expect("cpus")) * 2 / 5;
    let cpu = format!("cpu = \"{each}m\"");
    for version in ["1.0", "2.0", "3.0"] {
        let name = format!("example.com:web@{version}");
        cloud.push_python(&name, &cpu, &[]);
        cloud.ok(&["deploy", &name, "100%"]);
        assert_eq!(cloud.get("web.example.com.localhost", "/").header("tutti-version"), Some(version));
    }
    let left = || {
        let mut left: Vec<String> = cloud
            .items("instances")
            .iter()
            .filter(|instance| instance["status"]["state"] != "stopped")
            .map(|instance| instance["spec"]["version"].as_str().expect("a version").to_owned())
            .collect();
        left.sort();
        left
    };
    wait_for("the one that made room has gone", || left() == ["example.com:web@2.0", "example.com:web@3.0"]);
    // What stands by is still there to return to; what made room is not, and is started anew in its place.
    cloud.ok(&["rollback", "example.com:web"]);
    assert_eq!(cloud.get("web.example.com.localhost", "/").header("tutti-version"), Some("2.0"));
    cloud.ok(&["deploy", "example.com:web@1.0", "100%"]);
    assert_eq!(cloud.get("web.example.com.localhost", "/").header("tutti-version"), Some("1.0"));
}
