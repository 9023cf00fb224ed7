//! What a domain may have: set by an admin, and compared by whatever would raise it.

use crate::harness::{Cloud, wait_for};

const SERVICE: &str = "example.com:web";
const QUOTA_EXCEEDED: i32 = 9;

fn serving(cloud: &Cloud) -> usize {
    let instances = cloud.items("instances");
    let serves =
        |it: &&serde_json::Value| it["spec"]["goal"]["goal"] == "serve" && it["status"]["state"] == "ready";
    instances.iter().filter(serves).count()
}

#[test]
fn a_quota_refuses_what_is_more_and_leaves_what_there_is() {
    let cloud = Cloud::start();
    let version = format!("{SERVICE}@1.0");
    cloud.push_python(&version, "max = 5\nstandby = \"0s\"\nscale = { rps = 1 }", &[]);
    cloud.ok(&["deploy", &version, "100%"]);
    cloud.ok(&["domain", "quota", "example.com", "--instances", "2", "--versions", "1"]);
    let shown = cloud.json(&["domain", "quota", "example.com"]);
    assert_eq!((&shown["limits"]["instances"], &shown["used"]["instances"]), (&2.into(), &1.into()));

    let refused = cloud.tutti(&["scale", SERVICE, "3"]);
    assert_eq!(refused.code, QUOTA_EXCEEDED, "{refused:?}");
    assert!(
        refused.err.contains("the quota of domain example.com allows 2 instances: 1 in use"),
        "{refused:?}"
    );
    let sample = crate::harness::root().join("samples/hello-http-python");
    let refused = cloud.tutti(&["push", sample.to_str().unwrap(), &format!("{SERVICE}@1.1")]);
    assert_eq!(refused.code, QUOTA_EXCEEDED, "{refused:?}");
    assert!(refused.err.contains("allows 1 versions: 1 in use"), "{refused:?}");

    // Load asks for more than the domain may have: it gets what it may, and says why not more.
    wait_for("load is served by what the quota allows, with the reason", || {
        assert_eq!(cloud.get("web.example.com.localhost", "/").status, 200);
        assert!(serving(&cloud) <= 2, "the quota was passed");
        cloud.ok(&["explain", SERVICE]).contains("the quota of domain example.com allows 2 instances")
    });
    wait_for("two serve", || serving(&cloud) == 2);

    cloud.ok(&["domain", "quota", "example.com", "--instances", "1", "--versions", "none"]);
    assert_eq!(cloud.get("web.example.com.localhost", "/").status, 200);
    assert_eq!(serving(&cloud), 2, "a quota that is lowered stops nobody");
    cloud.push_python(&format!("{SERVICE}@1.1"), "", &[]);
    let refused = cloud.tutti(&["deploy", &format!("{SERVICE}@1.1"), "100%"]);
    assert_eq!(refused.code, QUOTA_EXCEEDED, "{refused:?}");
    cloud.ok(&["domain", "quota", "example.com", "--instances", "none"]);
    cloud.ok(&["deploy", &format!("{SERVICE}@1.1"), "100%"]);
}
