//! `/metrics` of every role of a cluster: what it says is what was done, and all of it is in its page.

use crate::harness::{request, root, wait_until};
use crate::members::{World, free_port};
use crate::traffic::{clean, run};
use std::{collections::BTreeSet, net::SocketAddr, path::Path};

/// What a role says on its own socket, which its owner alone may ask.
fn over_socket(socket: &Path) -> String {
    let address = socket.to_str().unwrap();
    run(clean("curl").args(["-sSf", "--max-time", "60", "--unix-socket", address, "http://role/metrics"]))
}

/// The value of the first sample that starts with this name and has all of these labels.
fn value(text: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let mut samples = text.lines().filter_map(|line| line.rsplit_once(' '));
    let found = samples.find(|(sample, _)| {
        let of = sample.split('{').next().unwrap_or_default();
        of == name && labels.iter().all(|label| sample.contains(label))
    });
    found.map(|(_, value)| value.parse().unwrap())
}

/// The families that are told of, by their names without the ends of samples.
fn families(text: &str) -> BTreeSet<String> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

#[test]
fn every_role_tells_what_it_did_and_each_figure_is_in_its_page() {
    let Some(world) = World::start() else { return };
    let mut server = world.server("c1", &["--init"]);
    let api = server.ready()["api"].as_str().unwrap().trim_start_matches("https://").to_owned();
    let listen = format!("127.0.0.1:{}", free_port());
    let joined = world.join("w1", &api, &world.token(&[]), &["--advertise", &listen]);
    assert_eq!(joined.code, 0, "{joined:?}");
    let mut agent = world.role("w1", &["agent", "--listen", &listen]);
    agent.ready();
    let mut ingress = world.role("w1", &["ingress", "--http", "127.0.0.1:0"]);
    let http: SocketAddr =
        ingress.ready()["http"].as_str().unwrap().trim_start_matches("http://").parse().unwrap();
    world.ok(&["domain", "create", "example.com"]);
    world.push("example.com:web@1.0");
    world.ok(&["deploy", "example.com:web@1.0", "100%"]);
    let get = |host: &str| {
        request(http, &format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")).status
    };
    for _ in 0..7 {
        assert_eq!(get("web.example.com.localhost"), 200);
    }
    for _ in 0..3 {
        assert_eq!(get("nobody.test"), 404);
    }

    let of_control = || over_socket(&world.path("c1-server/control.sock"));
    let web = ["service=\"example.com:web\"", "version=\"1.0\"", "node=\"w1\""];
    let node = ["node=\"w1\""];
    wait_until("control has what the node measured while the instance ran", || {
        let text = of_control();
        let memory = value(&text, "tutti_instance_memory_used_bytes", &web);
        if memory > Some(0.0) { Ok(()) } else { Err(text) }
    });
    let text = of_control();
    for (name, labels) in [
        ("tutti_instance_measured_age_seconds", &web[..]),
        ("tutti_node_measured_age_seconds", &node),
        ("tutti_node_heard_age_seconds", &node),
    ] {
        let age = value(&text, name, labels).unwrap_or_else(|| panic!("no {name}\n{text}"));
        assert!((0.0..30.0).contains(&age), "{name} {age}");
    }
    let of = |name: &str, labels: &[&str]| value(&text, name, labels).unwrap_or(f64::NAN);
    assert!(of("tutti_node_memory_used_bytes", &node) > 1e6, "{text}");
    assert!(of("tutti_node_memory_used_bytes", &node) < of("tutti_node_memory_capacity_bytes", &node));
    assert!(of("tutti_node_cpu_capacity_cores", &node) >= 1.0);
    assert!((of("tutti_instances", &["service=\"example.com:web\"", "state=\"ready\""]) - 1.0).abs() < 0.1);
    assert!((of("tutti_nodes", &["state=\"ready\""]) - 1.0).abs() < 0.1);
    assert!((of("tutti_control_leads", &[]) - 1.0).abs() < 0.1);
    assert!((of("tutti_leader", &["control=\"c1\""]) - 1.0).abs() < 0.1);
    assert!((of("tutti_store_up", &[]) - 1.0).abs() < 0.1);
    assert!(of("tutti_store_revision", &[]) > 10.0);
    assert!(of("tutti_store_watches", &[]) >= 1.0);
    assert!(of("tutti_store_request_seconds_count", &["operation=\"txn\""]) > 10.0);
    assert!(of("tutti_store_request_seconds_sum", &["operation=\"txn\""]) > 0.0);
    assert!(of("tutti_reconciler_runs_total", &["loop=\"zone\""]) >= 1.0);
    assert!(of("tutti_api_streams", &["of=\"machines\""]) >= 2.0);
    // Over the port it is for admins: the operator's token is one, and nobody is none.
    let anyone = clean("curl")
        .args(["-sSk", "--max-time", "60", "-o", "/dev/null", "-w", "%{http_code}"])
        .arg(format!("https://{api}/metrics"))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&anyone.stdout), "401");

    let of_ingress = over_socket(&world.path("w1-ingress/ingress.sock"));
    let of = |name: &str, labels: &[&str]| value(&of_ingress, name, labels).unwrap_or(f64::NAN);
    let version = ["service=\"example.com:web\"", "version=\"1.0\""];
    assert!((of("tutti_ingress_answers_total", &version) - 7.0).abs() < 0.1, "{of_ingress}");
    assert!((of("tutti_ingress_latency_seconds_count", &version) - 7.0).abs() < 0.1);
    assert!(of("tutti_ingress_errors_total", &version).abs() < 0.1);
    assert!((of("tutti_ingress_failures_total", &["code=\"not_found\""]) - 3.0).abs() < 0.1);
    assert!(of("tutti_ingress_table_age_seconds", &[]) < 30.0, "{of_ingress}");
    assert!(of("tutti_ingress_table_revision", &[]) > 0.0);
    assert!((of("tutti_ingress_nodes", &[]) - 1.0).abs() < 0.1);
    assert!(of("tutti_ingress_node_connections", &node) >= 1.0);
    assert!(of("tutti_ingress_node_out", &node).abs() < 0.1);
    assert!(of_ingress.contains("tutti_ingress_table_digest{digest=\"sha256:"), "{of_ingress}");

    let of_agent = over_socket(&world.path("w1-agent/agent.sock"));
    let of = |name: &str, labels: &[&str]| value(&of_agent, name, labels).unwrap_or(f64::NAN);
    assert!((of("tutti_node_requests_total", &["outcome=\"answered\""]) - 7.0).abs() < 0.1, "{of_agent}");
    assert!((of("tutti_node_instances", &["state=\"ready\""]) - 1.0).abs() < 0.1);

    // When control is gone the age grows, and what is routed by stays.
    server.kill();
    let digest = |text: &str| {
        text.lines().find(|line| line.starts_with("tutti_ingress_table_digest{")).map(str::to_owned)
    };
    wait_until("the tables are older than they ever are while control lives", || {
        let text = over_socket(&world.path("w1-ingress/ingress.sock"));
        assert_eq!(digest(&text), digest(&of_ingress));
        if value(&text, "tutti_ingress_table_age_seconds", &[]) > Some(5.0) { Ok(()) } else { Err(text) }
    });

    // The page has each of them, and no other.
    let page = std::fs::read_to_string(root().join("docs/reference/metrics.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `tutti_"));
    let told: BTreeSet<String> =
        rows.map(|row| format!("tutti_{}", row.split('`').next().unwrap())).collect();
    let said: BTreeSet<String> =
        [&text, &of_ingress, &of_agent].into_iter().flat_map(|text| families(text)).collect();
    assert_eq!(told, said, "docs/reference/metrics.md and what roles say");
    for text in [&text, &of_ingress, &of_agent] {
        assert!(text.ends_with("# EOF\n"));
        assert!(text.contains("tutti_build_info{release=\""));
    }
}
