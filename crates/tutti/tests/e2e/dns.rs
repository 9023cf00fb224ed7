//! `tutti dns`: names of a cluster lead to the ingresses that live, asked with `dig`, and go on doing so without control.

use crate::{
    harness::{Answer, request, wait_for, wait_until},
    members::{Role, World, free_port},
};
use serde_json::Value;
use std::{net::SocketAddr, process::Command};

const HOST: &str = "web.example.com.apps.test";

/// What `dig` was told, in its own words.
fn dig(server: SocketAddr, arguments: &[&str]) -> String {
    let output = Command::new("dig")
        .args([&format!("@{}", server.ip()), "-p", &server.port().to_string(), "+tries=1", "+time=2"])
        .args(arguments)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The addresses that a name has, in order.
fn addresses(server: SocketAddr, name: &str) -> Vec<String> {
    let mut addresses: Vec<String> = dig(server, &["+short", name, "A"]).lines().map(str::to_owned).collect();
    addresses.sort();
    addresses
}

/// What a name is answered: the state, and the line with the flags and the numbers of records.
fn states(server: SocketAddr, arguments: &[&str]) -> String {
    let said = dig(server, arguments);
    let of = |word: &str| said.lines().find(|line| line.contains(word)).unwrap_or_default().to_owned();
    format!("{} {}", of("status:"), of(";; flags:"))
}

fn get(ingress: SocketAddr) -> Answer {
    request(ingress, &format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n"))
}

/// Joins a machine for these roles.
fn joins(world: &World, machine: &str, control: &str, roles: &str, more: &[&str]) {
    let token = world.token(&["--runs", roles]);
    let said = world.join(machine, control, &token, &[&["--role", roles], more].concat());
    assert_eq!(said.code, 0, "{said:?}");
}

fn dns(world: &World, machine: &str, at: &str) -> Role {
    let arguments = ["dns", "--dns", at, "--host-suffix", "apps.test", "--names", "cloud.example.com"];
    let servers = ["--name-servers", "ns1.apps.test=127.0.0.1,ns.elsewhere.test"];
    world.role(machine, &[&arguments[..], &servers].concat())
}

#[test]
fn names_lead_to_the_ingresses_that_live_with_control_and_without() {
    let Some(world) = World::start() else { return };
    let mut server = world.server("c1", &["--init", "--host-suffix", "apps.test"]);
    let control = server.ready()["api"].as_str().unwrap().trim_start_matches("https://").to_owned();
    let agent = format!("127.0.0.1:{}", free_port());
    joins(&world, "w1", &control, "agent", &["--advertise", &agent]);
    let mut node = world.role("w1", &["agent", "--listen", &agent]);
    node.ready();
    world.ok(&["domain", "create", "example.com"]);
    world.push("example.com:web@1.0");
    world.ok(&["deploy", "example.com:web@1.0", "100%"]);

    // Two ways in, at two addresses and one port; the second listens on all, and is known by what it says.
    joins(&world, "f1", &control, "ingress,dns", &[]);
    joins(&world, "f2", &control, "ingress", &[]);
    let port = free_port();
    let http = |ip: &str| format!("{ip}:{port}");
    let mut first = world.role("f1", &["ingress", "--http", &http("127.0.0.1")]);
    first.ready();
    let mut second = world.role("f2", &["ingress", "--http", &http("127.0.0.2"), "--public", "127.0.0.2"]);
    second.ready();
    let mut names = dns(&world, "f1", "127.0.0.1:0");
    let ready = names.ready();
    let at: SocketAddr = ready["dns"].as_str().unwrap().parse().unwrap();
    assert_eq!((ready["name"].as_str(), ready["ready"].as_bool()), (Some("f1"), Some(true)));

    wait_until("the service's name leads to both ways in", || {
        let found = addresses(at, HOST);
        if found == ["127.0.0.1", "127.0.0.2"] { Ok(()) } else { Err(format!("{found:?}")) }
    });
    for address in addresses(at, HOST) {
        let answer = get(format!("{address}:{port}").parse().unwrap());
        assert_eq!(answer.status, 200, "{address}: {answer:?}");
    }
    answers_as_a_name_server(at);
    is_seen(&world, at);

    // A machine that was not admitted for it gets no further, and one of another cluster no answer.
    let mut refused = dns(&world, "f2", "127.0.0.1:0");
    refused.ends();
    let log = std::fs::read_to_string(world.path("f2-dns.log")).unwrap();
    assert!(log.contains("was not admitted for the role dns"), "{log}");

    second.kill();
    wait_until("the lost ingress has left the answers", || {
        let found = addresses(at, HOST);
        if found == ["127.0.0.1"] { Ok(()) } else { Err(format!("{found:?}")) }
    });
    // The last stays: whoever asks is better off with it than with nothing.
    first.kill();
    wait_until("control hears no ingress", || {
        let zone = world.json(&["status"])["zones"][0].take();
        if zone["ingresses"] == 0 { Ok(()) } else { Err(zone.to_string()) }
    });
    assert_eq!(addresses(at, HOST), ["127.0.0.1"]);
    let mut first = world.role("f1", &["ingress", "--http", &http("127.0.0.1")]);
    first.ready();

    // Without control it answers on, and starts again by what it has kept.
    let kept = || std::fs::read_to_string(world.path("f1-dns/names.json")).unwrap_or_default();
    wait_for("what is known is kept", || kept().contains(HOST) && !kept().contains("127.0.0.2"));
    server.kill();
    assert_eq!(addresses(at, HOST), ["127.0.0.1"]);
    names.kill();
    let mut names = dns(&world, "f1", &at.to_string());
    assert_eq!(names.ready()["dns"], at.to_string());
    assert_eq!(addresses(at, HOST), ["127.0.0.1"]);
    assert_eq!(get(format!("127.0.0.1:{port}").parse().unwrap()).status, 200);
    assert!(states(at, &["nobody.apps.test", "A"]).contains("NXDOMAIN"));
    names.stop();
}

/// What any resolver relies on.
fn answers_as_a_name_server(at: SocketAddr) {
    for (arguments, wanted) in [
        // Names of ours, in any letters, over both protocols, with and without EDNS.
        (&["WEB.Example.COM.apps.test", "A"][..], "NOERROR aa ANSWER: 2"),
        (&["+tcp", HOST, "A"], "NOERROR aa ANSWER: 2"),
        (&["+noedns", HOST, "A"], "NOERROR aa ANSWER: 2"),
        (&["apps.test", "A"], "NOERROR aa ANSWER: 2"),
        (&["cloud.example.com", "A"], "NOERROR aa ANSWER: 2"),
        (&["ns1.apps.test", "A"], "NOERROR aa ANSWER: 1"),
        // Nothing of the kind, and no such name: each with the start of the zone.
        (&[HOST, "AAAA"], "NOERROR aa ANSWER: 0, AUTHORITY: 1"),
        (&[HOST, "TXT"], "NOERROR aa ANSWER: 0, AUTHORITY: 1"),
        (&["example.com.apps.test", "A"], "NOERROR aa ANSWER: 0, AUTHORITY: 1"),
        (&["other.example.com.apps.test", "A"], "NXDOMAIN aa ANSWER: 0, AUTHORITY: 1"),
        (&["www.cloud.example.com", "A"], "NXDOMAIN aa ANSWER: 0, AUTHORITY: 1"),
        (&["apps.test", "SOA"], "NOERROR aa ANSWER: 1"),
        (&["apps.test", "NS"], "NOERROR aa ANSWER: 2"),
        // Not ours.
        (&["example.com", "A"], "REFUSED ANSWER: 0, AUTHORITY: 0"),
        (&["version.bind", "CH", "TXT"], "REFUSED"),
        (&["+edns=1", "+noednsneg", HOST, "A"], "BADVERS"),
    ] {
        let states = states(at, &[&["+norecurse"], arguments].concat());
        let is_said =
            |part: &str| states.contains(&format!(" {part}")) || states.contains(&format!(": {part}"));
        let parts = wanted.split(" ANSWER: ").collect::<Vec<_>>();
        let all = parts[0].split(' ').all(is_said)
            && parts.get(1).is_none_or(|counts| states.contains(&format!("ANSWER: {counts}")));
        assert!(all, "{arguments:?}: wanted {wanted}, got {states}");
    }
    assert!(dig(at, &["apps.test", "AXFR"]).contains("Transfer failed"));
    let servers = dig(at, &["+short", "cloud.example.com", "NS"]);
    assert_eq!(servers.lines().collect::<Vec<_>>().len(), 2, "{servers}");
    let start = dig(at, &["nobody.apps.test", "A"]);
    let start = start.lines().find(|line| line.contains("SOA")).unwrap_or_default();
    let words: Vec<&str> = start.split_whitespace().collect();
    assert_eq!((words[0], words[1], words[4]), ("apps.test.", "5", "ns1.apps.test."), "{start}");
}

/// What an operator sees of it.
fn is_seen(world: &World, at: SocketAddr) {
    wait_until("control has heard the server", || {
        let machine = world.json(&["node", "show", "f1"]);
        let text = machine.to_string();
        let roles = find_roles(&machine);
        let dns = roles.iter().find(|role| role["role"] == "dns");
        match dns {
            Some(dns) if dns["heard_at"].is_number() && dns["release"].is_string() => Ok(()),
            _ => Err(text),
        }
    });
    let list = world.ok(&["node", "list"]);
    assert!(list.lines().any(|line| line.starts_with("f1") && line.contains("dns")), "{list}");
    let socket = format!("unix:{}", world.text("f1-dns/dns.sock"));
    let inspected = world.json(&["debug", "inspect", &socket]);
    assert_eq!((inspected["role"].as_str(), inspected["told"].as_bool()), (Some("dns"), Some(true)));
    assert_eq!(inspected["dns"], at.to_string());
    assert!(world.ok(&["debug", "inspect", &socket]).contains("names lead to 127.0.0.1, 127.0.0.2"));
}

/// The roles of a machine, wherever they stand.
fn find_roles(value: &Value) -> Vec<Value> {
    match value {
        Value::Object(fields) => match fields.get("roles").and_then(Value::as_array) {
            Some(roles) if roles.iter().any(Value::is_object) => roles.clone(),
            _ => fields.values().flat_map(find_roles).collect(),
        },
        Value::Array(items) => items.iter().flat_map(find_roles).collect(),
        _ => Vec::new(),
    }
}
