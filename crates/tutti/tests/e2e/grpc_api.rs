//! The management API over gRPC, by a stock client that has no generated code: it finds every method by reflection.

use crate::{
    harness::Cloud,
    traffic::{HELLO, clean, program, push_wasm, python, run},
};
use serde_json::{Value, json};

const SERVICE: &str = "example.com:hello";

fn client(cloud: &Cloud, arguments: &[&str]) -> Value {
    let address = cloud.api.to_string();
    let out = run(clean(python()).arg(program("grpc_api.py")).arg(address).args(arguments));
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
}

fn call(cloud: &Cloud, token: &str, method: &str, message: &Value) -> Value {
    client(cloud, &["call", token, method, &message.to_string()])
}

/// The one answer of a call that went well.
#[track_caller]
fn answer(said: &Value) -> &Value {
    assert_eq!(said["code"], "OK", "{said:#}");
    assert_eq!(said["answers"].as_array().map(Vec::len), Some(1), "{said:#}");
    &said["answers"][0]
}

#[test]
fn a_deployment_by_reflection_alone_from_the_lock_to_its_release() {
    let cloud = Cloud::start();
    let token = cloud.token();
    let services = client(&cloud, &["services"]);
    for service in ["tutti.v1.Domains", "tutti.v1.Control", "grpc.health.v1.Health"] {
        assert!(services.as_array().unwrap().contains(&service.into()), "{services}");
    }
    let newer = client(&cloud, &["services-v1"]);
    assert!(newer.as_array().unwrap().contains(&"tutti.v1.Domains".into()), "{newer}");
    let health = call(&cloud, "", "grpc.health.v1.Health/Check", &json!({}));
    assert_eq!(answer(&health)["status"], "SERVING");

    push_wasm(&cloud, &format!("{SERVICE}@1.0"), "min = 2\nbandwidth = \"0\"");
    let wanted = json!({ "service": SERVICE, "version": "1.0", "percent": 100 });
    let made = call(&cloud, &token, "tutti.v1.Domains/Deploy", &wanted);
    let made = answer(&made);
    assert_eq!((&made["service"], &made["version"]), (&SERVICE.into(), &"1.0".into()));
    let deployment = json!({ "deployment": made["deployment"] });
    let watched = call(&cloud, &token, "tutti.v1.Domains/WatchDeployment", &deployment);
    assert_eq!(watched["code"], "OK", "{watched:#}");
    let last = watched["answers"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["phase"], &last["ended"]), (&"PHASE_DONE".into(), &true.into()), "{last:#}");
    let served = cloud.get(HELLO, "/");
    assert_eq!((served.status, served.header("tutti-version")), (200, Some("1.0")), "{served:?}");

    // The four steps, in their order.
    let history: Vec<&str> =
        last["history"].as_array().unwrap().iter().map(|event| event["text"].as_str().unwrap()).collect();
    let steps = [
        "took the lock on example.com:hello",
        "estimated 2 workers: max(1, ceil(2 × 100%)) = 2",
        "): sent it the preload of 1.0",
        "holds 1.0 ready",
        "wrote the table at revision ",
        "released the lock on example.com:hello",
    ];
    let places: Vec<Option<usize>> =
        steps.iter().map(|step| history.iter().position(|text| text.contains(step))).collect();
    assert!(places.iter().all(Option::is_some), "{places:?} {history:#?}");
    assert!(places.is_sorted(), "{places:?} {history:#?}");
    // The command line tells them too.
    let shown = cloud.ok(&["deployment", "show", made["deployment"].as_str().unwrap()]);
    assert!(shown.contains(steps[1]), "{shown}");

    let got = call(&cloud, &token, "tutti.v1.Domains/GetDeployment", &deployment);
    assert_eq!(answer(&got)["history"].as_array().unwrap().len(), history.len());
    let over = call(&cloud, &token, "tutti.v1.Domains/Abort", &deployment);
    assert_eq!((&over["code"], &over["reason"]), (&"ABORTED".into(), &"CONFLICT".into()), "{over:#}");

    // A second version and back.
    push_wasm(&cloud, &format!("{SERVICE}@2.0"), "");
    let preload = json!({ "service": SERVICE, "version": "2.0", "wait": "20s" });
    let preloaded = call(&cloud, &token, "tutti.v1.Control/Preload", &preload);
    assert_eq!(answer(&preloaded)["ready"], true, "{preloaded:#}");
    // The command line asks the same.
    let shown = cloud.ok(&["version", "preload", &format!("{SERVICE}@2.0")]);
    assert!(shown.contains("HOLDS IT") && shown.contains("ready"), "{shown}");
    let absent = cloud.tutti(&["version", "preload", &format!("{SERVICE}@2.0"), "--node", "nowhere"]);
    assert!(absent.code == 6 && absent.err.contains("tutti node list"), "{}", absent.err);
    let half = json!({ "service": SERVICE, "version": "2.0", "percent": 50 });
    let half = call(&cloud, &token, "tutti.v1.Domains/Deploy", &half);
    let half = json!({ "deployment": answer(&half)["deployment"] });
    let watched = call(&cloud, &token, "tutti.v1.Domains/WatchDeployment", &half);
    let last = watched["answers"].as_array().unwrap().last().unwrap();
    assert_eq!(last["phase"], "PHASE_DONE", "{last:#}");
    let back = call(&cloud, &token, "tutti.v1.Domains/Rollback", &json!({ "service": SERVICE }));
    let back = json!({ "deployment": answer(&back)["deployment"] });
    let watched = call(&cloud, &token, "tutti.v1.Domains/WatchDeployment", &back);
    let last = watched["answers"].as_array().unwrap().last().unwrap();
    assert_eq!(last["phase"], "PHASE_DONE", "{last:#}");
    assert_eq!(last["targets"][0]["weights"], json!([{ "version": "1.0", "percent": 100.0 }]));
}

#[test]
fn what_is_refused_says_its_code_reason_and_hint() {
    let cloud = Cloud::start();
    let token = cloud.token();
    push_wasm(&cloud, &format!("{SERVICE}@1.0"), "");
    let made = cloud.json(&["token", "create", "looker", "--role", "viewer", "--domain", "example.com"]);
    let viewer = made["secret"].as_str().expect("a secret").to_owned();
    let deploy = |token: &str, version: &str, percent: f64| {
        let wanted = json!({ "service": SERVICE, "version": version, "percent": percent });
        call(&cloud, token, "tutti.v1.Domains/Deploy", &wanted)
    };
    for (said, code, reason, tells) in [
        (deploy("", "1.0", 100.0), "UNAUTHENTICATED", "UNAUTHENTICATED", "token"),
        (deploy("tutti_wrong", "1.0", 100.0), "UNAUTHENTICATED", "UNAUTHENTICATED", "token"),
        (deploy(&viewer, "1.0", 100.0), "PERMISSION_DENIED", "FORBIDDEN", "deployer or owner"),
        (deploy(&token, "1.1", 100.0), "NOT_FOUND", "NOT_FOUND", "example.com:hello@1.1"),
        (deploy(&token, "1.0", 250.0), "INVALID_ARGUMENT", "INVALID", "more than 100%"),
        (
            call(
                &cloud,
                &viewer,
                "tutti.v1.Control/Preload",
                &json!({ "service": SERVICE, "version": "1.0" }),
            ),
            "PERMISSION_DENIED",
            "FORBIDDEN",
            "admin",
        ),
    ] {
        assert_eq!((&said["code"], &said["reason"]), (&code.into(), &reason.into()), "{said:#}");
        assert!(said["message"].as_str().unwrap().contains(tells), "{said:#}");
        assert_eq!(said["domain"], "tutti");
        assert!(said["metadata"]["request_id"].is_string(), "{said:#}");
    }
    let near = deploy(&token, "1.1", 100.0);
    assert_eq!(near["metadata"]["hint"], "did you mean \"example.com:hello@1.0\"?", "{near:#}");
    assert_eq!(near["metadata"]["object"], "version example.com:hello@1.1");
}
