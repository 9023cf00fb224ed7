//! `tutti explain` in words a newcomer understands, with the command that helps - and that command does help.

use crate::{
    harness::{Cloud, wait_for},
    traffic::{deployment_when, newest_deployment, push_program, push_python, push_wasm},
};

const SERVICE: &str = "example.com:hello";

fn assert_says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is missing:\n{text}");
    }
}

#[test]
fn a_deployment_that_finds_no_node_says_which_node_and_what_helps() {
    let cloud = Cloud::start();
    push_wasm(&cloud, "example.com:hello@1.0", "");
    let node = cloud.json(&["node", "list"])[0]["name"].as_str().expect("a name").to_owned();
    cloud.ok(&["node", "cordon", &node]);
    cloud.ok(&["deploy", "example.com:hello@1.0", "100%", "--no-wait"]);
    deployment_when(&cloud, SERVICE, "it finds no node", |deployment| {
        deployment["status"]["message"].as_str().is_some_and(|message| message.contains("found no node"))
    });
    let id = newest_deployment(&cloud, SERVICE)["name"].as_str().expect("a name").to_owned();
    let remedy = format!("tutti node uncordon {node}");
    for object in [SERVICE, id.as_str()] {
        let text = cloud.ok(&["explain", object]);
        assert_says(&text, &["cannot go on", "cordoned", &node, &remedy, "tutti deployment abort"]);
    }
    // The command that helps is this one.
    cloud.ok(&["node", "uncordon", &node]);
    deployment_when(&cloud, SERVICE, "it is done", |deployment| deployment["status"]["phase"] == "done");
    assert_says(&cloud.ok(&["explain", SERVICE]), &["it serves 1.0 100%"]);

    push_wasm(&cloud, "example.com:hello@2.0", "memory = \"9999Gi\"");
    cloud.ok(&["deploy", "example.com:hello@2.0", "100%", "--no-wait"]);
    deployment_when(&cloud, SERVICE, "it finds no room", |deployment| {
        deployment["status"]["message"].as_str().is_some_and(|message| message.contains("found no node"))
    });
    let text = cloud.ok(&["explain", SERVICE]);
    assert_says(&text, &["9999Gi is needed", "memory free", "lower memory", "tutti deployment abort"]);
    cloud.tutti(&["deployment", "abort", SERVICE]);
    deployment_when(&cloud, SERVICE, "it is aborted", |deployment| {
        deployment["status"]["phase"] == "aborted"
    });
}

#[test]
fn a_failed_health_gate_is_explained_after_the_fact() {
    let cloud = Cloud::start();
    push_python(&cloud, "example.com:hello@1.0", &[], "");
    cloud.ok(&["deploy", "example.com:hello@1.0", "100%"]);
    push_python(&cloud, "example.com:hello@1.1", &[("START", "fail")], "");
    assert_eq!(cloud.tutti(&["deploy", "example.com:hello@1.1", "10%"]).code, 1);

    let id = newest_deployment(&cloud, SERVICE)["name"].as_str().expect("a name").to_owned();
    let text = cloud.ok(&["explain", &id]);
    assert_says(
        &text,
        &["it failed", "weights from before", "exited with code 1", "cannot start: START=fail"],
    );
    // Whoever asks for the service or the version is told of it as well.
    assert_says(&cloud.ok(&["explain", SERVICE]), &["it serves 1.0 100%", &id, "failed"]);
    let text = cloud.ok(&["explain", "example.com:hello@1.1"]);
    assert_says(&text, &["no share", &id, "exited with code 1", "cannot start: START=fail"]);
}

#[test]
fn a_paused_deployment_says_how_it_goes_on() {
    let cloud = Cloud::start();
    for version in ["1.0", "1.1"] {
        push_wasm(&cloud, &format!("{SERVICE}@{version}"), "");
    }
    cloud.ok(&["deploy", "example.com:hello@1.0", "100%"]);
    cloud.ok(&["deploy", "example.com:hello@1.1", "--steps", "10%,100%", "--every", "10m", "--no-wait"]);
    deployment_when(&cloud, SERVICE, "it is observed", |deployment| {
        deployment["status"]["phase"] == "observing"
    });
    let id = newest_deployment(&cloud, SERVICE)["name"].as_str().expect("a name").to_owned();
    cloud.ok(&["deployment", "pause", &id]);
    let remedy = format!("tutti deployment resume {id}");
    for object in [SERVICE, id.as_str()] {
        assert_says(&cloud.ok(&["explain", object]), &["paused", &remedy, "tutti deployment abort"]);
    }
}

#[test]
fn a_service_that_never_served_says_how_to_begin() {
    let cloud = Cloud::start();
    push_wasm(&cloud, "example.com:hello@1.0", "");
    let text = cloud.ok(&["explain", SERVICE]);
    let command = "tutti deploy example.com:hello@1.0 100%";
    assert_says(&text, &["nothing was ever deployed", command]);
    let arguments: Vec<&str> = command.split(' ').skip(1).collect();
    cloud.ok(&arguments);
    assert_eq!(cloud.get(crate::traffic::HELLO, "/").status, 200);
}

#[test]
fn what_keeps_a_starting_instance_is_said_while_it_starts() {
    let cloud = Cloud::start();
    // It answers 404 there, and the gate has a minute.
    push_program(&cloud, "example.com:hello@1.0", &[], "health = { http = \"/healthz\", start = \"60s\" }");
    cloud.ok(&["deploy", "example.com:hello@1.0", "100%", "--no-wait"]);
    let mut said = String::new();
    wait_for("it is said what keeps it", || {
        said = cloud.ok(&["explain", SERVICE]);
        said.contains("does not answer its health probe yet: GET /healthz on port ")
    });
    assert_says(&said, &["answered 404", "its instances start", "tutti deployment abort"]);
}

#[test]
fn a_service_whose_only_deployment_failed_is_not_called_idle() {
    let cloud = Cloud::start();
    let before = audited(&cloud);
    push_python(&cloud, "example.com:hello@1.0", &[("START", "fail")], "");
    assert_eq!(audited(&cloud), before + 1, "a push is one line of the audit log: {}", cloud.log());
    assert_eq!(cloud.tutti(&["deploy", "example.com:hello@1.0", "100%"]).code, 1);
    let status = cloud.ok(&["status"]);
    assert_says(&status, &["failed", "exited with code 1", "tutti explain example.com:hello"]);
    assert!(!status.contains("idle"), "{status}");
    assert_says(
        &cloud.ok(&["explain", SERVICE]),
        &["nothing serves it, because its deployment failed", "START=fail"],
    );
    // Whoever asks for its lines gets all of them, though it is gone.
    assert_says(&cloud.ok(&["logs", SERVICE]), &["cannot start: START=fail", "exited with code 1"]);
}

fn audited(cloud: &Cloud) -> usize {
    cloud.log().lines().filter(|line| line.contains("tutti::audit")).count()
}
