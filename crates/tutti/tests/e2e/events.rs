//! `tutti events` tells what happened, and follows what happens.

use crate::{harness::Cloud, traffic::push_wasm};
use std::io::{BufRead as _, BufReader};

#[test]
fn a_deploy_is_told_from_its_first_step_to_its_last() {
    let cloud = Cloud::start();
    let mut follow = cloud
        .command()
        .args(["events", "-f", "-o", "json"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("it follows");
    push_wasm(&cloud, "example.com:hello@1.0", "");
    cloud.ok(&["deploy", "example.com:hello@1.0", "100%"]);

    let events = cloud.json(&["events", "--service", "example.com:hello"]);
    let told: Vec<&str> =
        events.as_array().unwrap().iter().map(|event| event["spec"]["what"].as_str().unwrap()).collect();
    assert_eq!(told.last(), Some(&"done"), "{told:?}");
    assert!(told.contains(&"ready") && told.contains(&"shifting"), "{told:?}");
    let text = cloud.ok(&["events"]);
    for what in ["leads ", "registered ", "node ", "instance i-", "deployment d-"] {
        assert!(text.contains(what), "{what}: {text}");
    }

    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    let last = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("\"done\"")));
    follow.kill().and_then(|()| follow.wait()).unwrap();
    assert!(last.is_some(), "the deployment's end was not followed");
}
