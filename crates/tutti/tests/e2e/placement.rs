//! Where instances run: an operator's labels and taints, a service's constraints and tolerations, and what `tutti
//! explain` says where nothing fits.

use crate::{
    agent::Agent,
    harness::{Cloud, guest, wait_for},
};
use std::collections::BTreeSet;

const SERVICE: &str = "example.com:web";

/// Pushes the wasm hello with this section of its manifest, under a version.
fn push(cloud: &Cloud, version: &str, placement: &str) {
    let folder = cloud.scratch().join(format!("placed-{version}"));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("hello.wasm");
    std::fs::copy(guest("hello-wasm/hello_wasm.wasm"), &file).unwrap();
    let manifest = format!("[service]\nstandby = \"0s\"\nmin = 2\n[service.placement]\n{placement}\n");
    std::fs::write(folder.join("tutti.toml"), manifest).unwrap();
    cloud.ok(&["push", file.to_str().unwrap(), &format!("{SERVICE}@{version}")]);
}

/// The nodes that run ready instances.
fn nodes(cloud: &Cloud) -> BTreeSet<String> {
    let instances = cloud.items("instances");
    let ready = instances.iter().filter(|instance| instance["status"]["state"] == "ready");
    ready.map(|instance| instance["spec"]["node"].as_str().unwrap().to_owned()).collect()
}

fn only(name: &str) -> BTreeSet<String> {
    [name.to_owned()].into()
}

#[test]
fn labels_and_taints_say_where_instances_run_and_explain_says_why_not() {
    let cloud = Cloud::start();
    let _second = Agent::start(&cloud, "second");
    push(&cloud, "1.0", "constraints = [\"disk=ssd\"]\ntolerations = [\"team=ml\"]");

    // Nothing has the label, and each node says so.
    cloud.ok(&["deploy", &format!("{SERVICE}@1.0"), "100%", "--no-wait"]);
    let why = "node second has no label disk, and disk=ssd is asked";
    wait_for("it is explained", || cloud.tutti(&["explain", SERVICE]).out.contains(why));

    let said = cloud.ok(&["node", "label", "second", "disk=ssd", "rack=r1"]);
    assert!(said.contains("disk=ssd, node=second, os=linux, rack=r1"), "{said}");
    wait_for("it runs where the label is", || nodes(&cloud) == only("second"));
    let shown = cloud.ok(&["node", "show", "second"]);
    assert!(shown.contains("rack=r1"), "{shown}");

    // A taint that is tolerated moves nothing; one that is not moves what runs there, and nothing else fits.
    cloud.ok(&["node", "taint", "second", "team=ml:NoExecute"]);
    let first = cloud.items("nodes").iter().find(|node| node["name"] != "second").unwrap().clone();
    let first = first["name"].as_str().unwrap().to_owned();
    cloud.ok(&["node", "label", &first, "disk=ssd"]);
    assert_eq!(nodes(&cloud), only("second"));
    cloud.ok(&["node", "taint", "second", "spot:NoExecute"]);
    wait_for("they move away from the taint", || nodes(&cloud) == only(&first));
    assert_eq!(cloud.get("web.example.com.localhost", "/").status, 200);

    // What is none is refused whole, with what to write instead.
    let refused = cloud.tutti(&["node", "taint", "second", "spot:NoWay"]);
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("NoSchedule"), "{}", refused.err);
    let refused = cloud.tutti(&["node", "label", "second", "node=other"]);
    assert!(refused.err.contains("cannot be changed"), "{}", refused.err);
    let refused = cloud.tutti(&["node", "label", "third", "a=b"]);
    assert_eq!(refused.code, 6, "{}", refused.err);
    cloud.ok(&["node", "taint", "second", "spot-", "team-"]);
    cloud.ok(&["node", "label", "second", "rack-"]);
    let shown = cloud.ok(&["node", "show", "second"]);
    assert!(!shown.contains("rack") && !shown.contains("NoExecute"), "{shown}");
}
