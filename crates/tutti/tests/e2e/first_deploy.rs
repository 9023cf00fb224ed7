//! Push, deploy, split, roll back: the walk that the README takes.

use crate::harness::{Cloud, guest};

#[test]
fn push_deploy_split_and_roll_back() {
    let cloud = Cloud::start();
    cloud.push_wasm("example.com:hello@1.0", &[("VERSION", "1.0")]);
    cloud.push_wasm("example.com:hello@1.1", &[("VERSION", "1.1")]);
    let host = "hello.example.com.localhost";
    assert_eq!(cloud.get(host, "/").status, 503, "nothing is deployed yet");

    cloud.ok(&["deploy", "example.com:hello@1.0", "100%"]);
    let answer = cloud.get(host, "/");
    assert_eq!((answer.status, answer.header("tutti-version")), (200, Some("1.0")), "{answer:?}");
    assert!(answer.body.contains("1.0"), "{}", answer.body);

    cloud.ok(&["deploy", "example.com:hello@1.1", "50%"]);
    let mut newer = 0;
    for _ in 0..100 {
        let answer = cloud.get(host, "/");
        assert_eq!(answer.status, 200);
        newer += usize::from(answer.header("tutti-version") == Some("1.1"));
    }
    assert!((45..=55).contains(&newer), "{newer} of 100 went to 1.1");

    cloud.ok(&["rollback", "example.com:hello"]);
    for _ in 0..20 {
        assert_eq!(cloud.get(host, "/").header("tutti-version"), Some("1.0"));
    }

    let said = cloud.tutti(&["version", "delete", "example.com:hello@1.1"]);
    assert_eq!(said.code, 8, "a rollback of the rollback would need it: {}", said.err);
}

#[test]
fn what_is_pushed_is_ready_to_start_and_not_compiled_again_by_its_deployment() {
    let cloud = Cloud::start();
    let name = "example.com:hello@1.0";
    let file = guest("hello-wasm/hello_wasm.wasm");
    let said = cloud.ok(&["push", file.to_str().expect("a path"), name]);
    assert!(said.contains("ready to start on 1 of 1 nodes (prepared in "), "{said}");
    let compiled = || cloud.log().lines().filter(|line| line.contains("compiled")).count();
    assert_eq!(compiled(), 1, "{}", cloud.log());
    cloud.ok(&["deploy", name, "100%"]);
    assert_eq!(cloud.get("hello.example.com.localhost", "/").status, 200);
    assert_eq!(compiled(), 1, "deploying finds it ready: {}", cloud.log());

    let again = cloud.json(&["push", file.to_str().expect("a path"), name]);
    assert_eq!(again["readiness"], "serving", "{again}");
    let next = cloud.json(&["push", file.to_str().expect("a path"), "example.com:hello@1.1"]);
    assert_eq!(next["readiness"], "ready", "{next}");
    assert_eq!(next["preparation"]["ready"], 1, "{next}");
    let next = cloud.json(&["push", file.to_str().expect("a path"), "example.com:hello@1.2", "--no-wait"]);
    assert_eq!(next["readiness"], "unknown", "{next}");
    assert_eq!(compiled(), 1, "the same bytes are compiled once: {}", cloud.log());
}

#[test]
fn what_cannot_run_is_told_at_the_push() {
    let cloud = Cloud::start();
    let file = cloud.scratch().join("empty.wasm");
    // A component that exports nothing.
    std::fs::write(&file, b"\0asm\x0d\0\x01\0").expect("a file");
    let said = cloud.tutti(&["push", file.to_str().expect("a path"), "example.com:empty@1.0"]);
    assert_eq!(said.code, 3, "{said:?}");
    assert!(said.err.contains("example.com:empty@1.0 is stored, but cannot run"), "{said:?}");
    assert!(said.err.contains("does not export \"wasi:http/incoming-handler@0.2.x\""), "{said:?}");
    assert!(said.err.contains("tutti version delete example.com:empty@1.0"), "{said:?}");
    assert!(!said.out.contains("deploy it with"), "{said:?}");
    let shown = cloud.ok(&["version", "show", "example.com:empty@1.0"]);
    assert!(shown.contains("on 0 of 1 nodes"), "{shown}");

    cloud.ok(&["version", "delete", "example.com:empty@1.0"]);
    cloud.ok(&["node", "cordon", cloud.items("nodes")[0]["name"].as_str().expect("a name")]);
    let said = cloud.ok(&["push", file.to_str().expect("a path"), "example.com:nowhere@1.0"]);
    assert!(said.contains("no node could run it now") && said.contains("is cordoned"), "{said}");
}
