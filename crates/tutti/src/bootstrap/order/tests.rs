use super::*;
use crate::bootstrap::spec::{Dns, Ssh};
use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, process::Command};
use tutti_model::scheduling::label;

fn host(name: &str, part: Part, address: &str) -> Host {
    let address: IpAddr = address.parse().unwrap();
    let labels = [label("disk=ssd").unwrap()].into();
    Host { name: name.parse().unwrap(), part, address, ssh: (format!("root@{address}"), 22), labels }
}

fn spec() -> Spec {
    let mut environment = SecretValues::default();
    environment.insert("PGPASSWORD", "hunter2".to_owned());
    Spec {
        store: "postgres://tutti@db/tutti".to_owned(),
        blobs: "s3://tutti".to_owned(),
        key: (zeroize::Zeroizing::new("ab".repeat(32)), PathBuf::from("cluster.key")),
        environment,
        names: Vec::new(),
        host_suffix: None,
        vouch: false,
        notices: false,
        dns: None,
        ssh: Ssh::default(),
        hosts: vec![
            host("op1", Part::Operator, "10.0.0.1"),
            host("op2", Part::Operator, "fd00::2"),
            host("w1", Part::Worker, "10.0.0.4"),
        ],
    }
}

fn files(order: &Order) -> BTreeMap<&str, &str> {
    order.files.reveal().collect()
}

#[test]
fn operators_have_the_key_and_the_secrets_and_workers_neither() {
    let spec = spec();
    let orders: Vec<Order> = spec.hosts.iter().map(|host| Order::of(&spec, host)).collect();
    let server = files(&orders[0])["/etc/tutti/server.env"];
    for line in
        ["PGPASSWORD=hunter2", "TUTTI_ADVERTISE=10.0.0.1:7070", "TUTTI_NODE=op1", "TUTTI_JOIN_ROLE=ingress"]
    {
        assert!(server.lines().any(|known| known == line), "{line}: {server}");
    }
    assert!(files(&orders[1])["/etc/tutti/server.env"].contains("TUTTI_ADVERTISE=[fd00::2]:7070\n"));
    assert_eq!(files(&orders[0])["/etc/tutti/cluster.key"].trim(), "ab".repeat(32));
    let worker = files(&orders[2]);
    assert_eq!(worker.keys().copied().collect::<Vec<_>>(), ["/etc/tutti/agent.env"]);
    let agent = worker["/etc/tutti/agent.env"];
    assert!(agent.contains("TUTTI_JOIN_CONTROLS=10.0.0.1:7070,[fd00::2]:7070\n"), "{agent}");
    assert!(agent.contains("TUTTI_AGENT_LABELS=disk=ssd\n") && !agent.contains("hunter2"), "{agent}");
    assert_eq!(orders[2].environment()["TUTTI_NODE"], "w1");
    assert!(!format!("{orders:?}").contains("hunter2"), "a secret is shown");
}

#[test]
fn operators_answer_alike_for_the_names_each_at_its_own_address() {
    let zones = ["apps.test", "cloud.test", "www.test"].map(str::to_owned).to_vec();
    let told = |at: Option<&str>| {
        let dns = Dns { at: at.map(|at| at.parse().unwrap()), zones: zones.clone() };
        let spec = Spec { dns: Some(dns), host_suffix: Some("apps.test".into()), ..spec() };
        spec.hosts.iter().map(|host| Order::of(&spec, host)).collect::<Vec<Order>>()
    };
    let orders = told(None);
    let units: Vec<&Unit> = orders.iter().flat_map(|order| &order.units).filter(|unit| unit.udp).collect();
    let ports: Vec<String> =
        units.iter().map(|unit| format!("{} {:?} {}", unit.name, unit.at, unit.port)).collect();
    assert_eq!(ports, ["tutti-dns Some(10.0.0.1) 53", "tutti-dns Some(fd00::2) 53"]);
    for (order, listens) in orders.iter().zip(["10.0.0.1:53", "[fd00::2]:53"]) {
        let env = files(order)["/etc/tutti/dns.env"];
        for line in [
            &format!("TUTTI_DNS_LISTEN={listens}"),
            "TUTTI_HOST_SUFFIX=apps.test",
            "TUTTI_DNS_NAMES=cloud.test,www.test",
            "TUTTI_DNS_NAME_SERVERS=ns1.apps.test=10.0.0.1,ns2.apps.test=fd00::2",
        ] {
            assert!(env.lines().any(|known| known == line), "{line}: {env}");
        }
        assert!(files(order)["/etc/tutti/server.env"].contains("TUTTI_JOIN_ROLE=ingress,dns\n"));
    }
    assert!(files(&orders[1])["/etc/tutti/ingress.env"].contains("TUTTI_INGRESS_PUBLIC=fd00::2\n"));
    assert!(!files(&orders[2]).contains_key("/etc/tutti/dns.env"), "a worker answers for names");
    let all = told(Some("0.0.0.0:5353"));
    assert_eq!(
        all[0].units.iter().find(|unit| unit.udp).map(|unit| (unit.at, unit.port)),
        Some((None, 5353))
    );
}

#[test]
fn systemd_takes_every_unit() {
    let dns = Some(Dns { at: None, zones: vec!["apps.test".into()] });
    let spec = Spec { notices: true, dns, ..spec() };
    let folder = tempfile::tempdir().unwrap();
    let units = spec.hosts.iter().flat_map(|host| Order::of(&spec, host).units);
    let paths: Vec<PathBuf> = units
        .map(|unit| {
            let path = folder.path().join(format!("{}.service", unit.name));
            // The program need not be there for its unit to be right.
            std::fs::write(&path, unit.text().replace(&unit.program, "/bin/true")).unwrap();
            path
        })
        .collect();
    let verify = |paths: &[PathBuf]| Command::new("systemd-analyze").arg("verify").args(paths).output();
    let Ok(output) = verify(&paths) else {
        println!("skipped: this test runs systemd-analyze (Debian: systemd), which is not installed");
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("tutti-"), "{said}");
    std::fs::write(&paths[0], "[Service]\nExecStart=nothing\nRestrat=always\n").unwrap();
    let output = verify(&paths[..1]).unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("tutti-server.service"), "it takes anything");
}

#[test]
fn with_nats_control_tells_and_all_others_only_hear() {
    let spec = Spec { notices: true, ..spec() };
    let orders: Vec<Order> = spec.hosts.iter().map(|host| Order::of(&spec, host)).collect();
    let names: Vec<&str> = orders[0].units.iter().map(|unit| unit.name.as_str()).collect();
    assert_eq!(names, ["tutti-server", "tutti-ingress", "tutti-nats"]);
    let (operator, worker) = (files(&orders[0]), files(&orders[2]));
    assert!(operator["/etc/tutti/server.env"].contains("CREDENTIALS=/etc/tutti/nats-control.credentials\n"));
    assert!(operator["/etc/tutti/ingress.env"].contains("CREDENTIALS=/etc/tutti/nats-reader.credentials\n"));
    assert!(worker["/etc/tutti/agent.env"].contains("TUTTI_NOTICES=tls://10.0.0.1:4222,[fd00::2]:4222\n"));
    assert!(worker["/etc/tutti/agent.env"].contains("TUTTI_NOTICES_CA=/var/lib/tutti/member/root.pem\n"));
    // For clients and between its servers; where there is a certificate to show, there is TLS and nothing else.
    assert_eq!(
        operator["/etc/tutti/nats.conf"].matches("cert_file: \"/var/lib/tutti/member/chain.pem\"").count(),
        2
    );
    assert_eq!(operator["/etc/tutti/nats.conf"].matches("verify: true").count(), 1);
    assert!(!worker.contains_key("/etc/tutti/nats-control.credentials"), "a worker could tell");
    assert_eq!(worker["/etc/tutti/nats-reader.credentials"], operator["/etc/tutti/nats-reader.credentials"]);
    let password = operator["/etc/tutti/nats-control.credentials"].trim().strip_prefix("control:").unwrap();
    // Whatever it begins with, NATS is to read it as a text.
    assert_eq!(operator["/etc/tutti/nats.conf"].matches("password: \"").count(), 3);
    assert!(
        operator["/etc/tutti/nats.conf"].contains(&format!("\"{password}\""))
            && !password.contains(spec.key.0.as_str())
    );
}
