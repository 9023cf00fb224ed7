//! More load, more workers: without being told, and with a reason that can be read.

use crate::harness::{Cloud, wait_for};

const SERVICE: &str = "example.com:web";

fn serving(cloud: &Cloud) -> usize {
    let instances = cloud.items("instances");
    instances
        .iter()
        .filter(|it| it["spec"]["goal"]["goal"] == "serve" && it["status"]["state"] == "ready")
        .count()
}

#[test]
fn load_brings_workers_up_to_max_and_a_set_number_stays() {
    let cloud = Cloud::start();
    let version = format!("{SERVICE}@1.0");
    cloud.push_python(&version, "max = 3\nstandby = \"0s\"\nscale = { rps = 1 }", &[]);
    cloud.ok(&["deploy", &version, "100%"]);
    assert_eq!(serving(&cloud), 1);
    wait_for("load brings more", || {
        assert_eq!(cloud.get("web.example.com.localhost", "/").status, 200);
        serving(&cloud) == 3
    });
    let said = cloud.ok(&["explain", SERVICE]);
    assert!(
        said.contains("3 workers serve it for its load") && said.contains("at most 3 by its manifest"),
        "{said}"
    );
    cloud.ok(&["scale", SERVICE, "2"]);
    wait_for("a number that was set stays", || {
        assert_eq!(cloud.get("web.example.com.localhost", "/").status, 200);
        serving(&cloud) == 2
    });
    assert!(!cloud.ok(&["explain", SERVICE]).contains("for its load"));
}
