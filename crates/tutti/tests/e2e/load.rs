//! Nothing that changes what serves may fail a request: deploys, an abort, a rollback and fifty redeploys under load.
//!
//! Each service is tried twice: with instances that stand by and are taken back, and with instances that drain at
//! once and are started anew each time, which is when connections, streams and stops meet.

use crate::{
    harness::{Cloud, wait_for},
    traffic::{
        GRPC, GrpcLoad, HELLO, Wrk, deployment_when, instances, newest_deployment, push_grpc, push_python,
        push_wasm, tail,
    },
};

/// Instances drain at once; what they still serve has the time of the longest test.
const NO_STANDBY: &str = "standby = \"0s\"\ndrain = \"120s\"";
const HTTP_SERVICE: &str = "example.com:hello";

/// Everything that changes what serves, while somebody else loads it. Version 1.0 serves before.
fn churn(cloud: &Cloud, service: &str, redeploys: usize) {
    let version = |number: &str| format!("{service}@{number}");
    cloud.ok(&["deploy", &version("1.1"), "100%"]);

    cloud.ok(&["deploy", &version("1.0"), "--steps", "50%,100%", "--every", "10m", "--no-wait"]);
    deployment_when(cloud, service, "the first step serves", |deployment| {
        deployment["status"]["phase"] == "observing"
    });
    cloud.tutti(&["deployment", "abort", service]);
    let aborted = deployment_when(cloud, service, "the abort has ended", |deployment| {
        deployment["status"]["finished_at"].is_number()
    });
    assert_eq!(aborted["status"]["phase"], "aborted", "{aborted:#}");

    cloud.ok(&["rollback", service]);
    for round in 0..redeploys {
        cloud.ok(&["deploy", &version(if round % 2 == 0 { "1.1" } else { "1.0" }), "100%"]);
    }
    assert_eq!(newest_deployment(cloud, service)["status"]["phase"], "done");
}

fn http(section: &str) {
    let cloud = Cloud::start();
    push_wasm(&cloud, "example.com:hello@1.0", section);
    push_wasm(&cloud, "example.com:hello@1.1", section);
    cloud.ok(&["deploy", "example.com:hello@1.0", "100%"]);

    let load = Wrk::start(cloud.http, HELLO, "/", 16);
    churn(&cloud, HTTP_SERVICE, 50);
    let report = load.stop();
    report.assert_clean(&cloud);
    for version in ["200 1.0", "200 1.1"] {
        assert!(report.answers.contains_key(version), "no answer was {version}: {}", report.text);
    }
}

#[test]
fn no_http_request_fails_while_versions_stand_by() {
    http("");
}

#[test]
fn no_http_request_fails_while_versions_drain() {
    http(NO_STANDBY);
}

#[test]
fn no_http_request_to_a_process_fails_while_versions_drain() {
    let cloud = Cloud::start();
    let section = format!("health = {{ http = \"/healthz\" }}\n{NO_STANDBY}");
    push_python(&cloud, "example.com:hello@1.0", &[("VERSION", "1.0")], &section);
    push_python(&cloud, "example.com:hello@1.1", &[("VERSION", "1.1")], &section);
    cloud.ok(&["deploy", "example.com:hello@1.0", "100%"]);

    let load = Wrk::start(cloud.http, HELLO, "/", 8);
    churn(&cloud, HTTP_SERVICE, 20);
    load.stop().assert_clean(&cloud);
    wait_for("every replaced instance has gone", || {
        let all = cloud.json(&["ps", HTTP_SERVICE]);
        all.as_array().expect("instances").iter().all(|one| one["status"]["state"] == "ready")
    });
    assert_eq!(instances(&cloud, HTTP_SERVICE, "ready").len(), 1);
}

fn grpc(section: &str) {
    let cloud = Cloud::start();
    push_grpc(&cloud, "1.0", section);
    push_grpc(&cloud, "1.1", section);
    cloud.ok(&["deploy", "com.example.HelloWorld@1.0", "100%"]);

    let load = GrpcLoad::start(cloud.http);
    churn(&cloud, GRPC, 50);
    let report = load.stop();
    let failures = report["failures"].as_array().expect("a list");
    assert!(failures.is_empty(), "{report:#}\n--- log\n{}", tail(&cloud.log()));
    assert!(report["calls"].as_u64() > Some(100) && report["streams"].as_u64() > Some(1), "{report:#}");
    assert!(report["long"].as_u64() > Some(10), "the long stream was not kept busy: {report:#}");
    for version in ["1.0", "1.1"] {
        assert!(report["versions"][version].is_number(), "no answer was {version}: {report:#}");
    }
}

#[test]
fn no_grpc_call_or_stream_fails_while_versions_stand_by() {
    grpc("");
}

#[test]
fn no_grpc_call_or_stream_fails_while_versions_drain() {
    grpc(NO_STANDBY);
}
