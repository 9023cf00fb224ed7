//! `tutti debug inspect`: what an agent, ingress or DNS server of this machine does, asked at its own socket.

use crate::{
    exit::Failed,
    table::{Cell, Table, toned},
    text::{self, since},
    ui::{Tone, Ui},
};
use std::path::PathBuf;
use tutti_api::{
    client,
    debug::{AgentInspection, DnsInspection, IngressInspection, Inspection},
};
use tutti_model::{
    Timestamp,
    instance::InstanceState,
    table::{Backend, TableSpec},
};

pub(super) async fn inspect(socket: &str, ui: &Ui) -> Result<(), Failed> {
    let path = PathBuf::from(socket.strip_prefix("unix:").unwrap_or(socket));
    let inspection = client::inspect(&path).await?;
    ui.result(&inspection, || match &inspection {
        Inspection::Agent(agent) => of_agent(agent, ui),
        Inspection::Ingress(ingress) => of_ingress(ingress, ui),
        Inspection::Dns(dns) => of_dns(dns, ui),
    })
}

fn of_agent(agent: &AgentInspection, ui: &Ui) -> String {
    let mut out = format!("agent of node {}, release {}\n", agent.node, agent.release);
    let stands = match (&agent.refused, agent.registered) {
        (Some(why), _) => ui.paint(Tone::Bad, &format!("refused this node: {why}")),
        (None, true) => "has taken this node as ready".to_owned(),
        (None, false) => ui.paint(Tone::Busy, "has not taken this node as ready yet"),
    };
    out.push_str(&format!("control at {} {stands}\n\n", agent.control));
    let titles = ["INSTANCE", "VERSION", "STATE", "SINCE", "RESTARTS", "REQUESTS", "CONTROL"];
    let mut table = Table::new(&titles, "it was told to run nothing");
    for one in &agent.instances {
        let tone = match one.state {
            InstanceState::Ready => Tone::Good,
            InstanceState::Failed | InstanceState::Backoff => Tone::Bad,
            _ => Tone::Busy,
        };
        table.row([
            one.instance.as_str().into(),
            text::version(&one.version).into(),
            toned(one.state.as_str(), tone),
            age(one.since, agent.now),
            one.restarts.to_string().into(),
            one.requests.to_string().into(),
            if one.unsaid { toned("not told yet", Tone::Busy) } else { "knows".into() },
        ]);
    }
    out.push_str(&table.yielding("VERSION").show(ui));
    for one in &agent.instances {
        if let Some(reason) = &one.reason {
            let text = text::harmless(&format!("{}: {reason}", one.instance));
            out.push_str(&format!("{} {}\n", ui.paint(Tone::Bad, "!"), ui.wrap(&text, 2)));
        }
    }
    out
}

fn age(then: Timestamp, now: Timestamp) -> Cell {
    if then == Timestamp::default() { "never".into() } else { since(then, now).into() }
}

fn of_ingress(ingress: &IngressInspection, ui: &Ui) -> String {
    let mut out =
        format!("ingress {} at http://{}, release {}\n", ingress.name, ingress.http, ingress.release);
    let control = &ingress.control;
    out.push_str(&match ingress.reached {
        0 => ui.paint(
            Tone::Busy,
            &format!("serves by the tables of its folder: none came from control at {control} yet\n"),
        ),
        reached => format!("has the tables of control at {control} up to revision {reached}\n"),
    });
    if !ingress.nodes_known {
        out.push_str("control has not told it its nodes since it started\n");
    }
    let mut tables = Table::new(&["SERVICE", "SERVED BY", "ENDPOINTS", "MATCHES"], "it has no tables");
    for table in &ingress.tables {
        let spec = &table.spec;
        let endpoints: usize = spec.versions().iter().map(|version| version.endpoints.len()).sum();
        let matches: Vec<String> = spec.matches.iter().map(ToString::to_string).collect();
        tables.row([
            text::service(&spec.service).into(),
            served_by(spec),
            endpoints.to_string().into(),
            matches.join(", ").into(),
        ]);
    }
    out.push('\n');
    out.push_str(&tables.yielding("MATCHES").show(ui));
    let mut nodes = Table::new(&["NODE", "ADDRESS", "STATE"], "it knows no node in a process of its own");
    for node in &ingress.nodes {
        let state = match &node.out {
            Some(why) => toned(text::harmless(&format!("out: {why}")), Tone::Bad),
            None => "in".into(),
        };
        nodes.row([node.node.as_str().into(), node.address.to_string().into(), state]);
    }
    out.push('\n');
    out.push_str(&nodes.yielding("STATE").show(ui));
    out
}

fn of_dns(dns: &DnsInspection, ui: &Ui) -> String {
    let mut out = format!("DNS server {} at {}, release {}\n", dns.name, dns.dns, dns.release);
    let control = &dns.control;
    out.push_str(&match dns.told {
        true => format!(
            "answers by what control at {control} says; {} asked\n",
            text::count(dns.questions, "question")
        ),
        false => ui.paint(
            Tone::Busy,
            &format!("answers by what its folder has: control at {control} has said nothing yet\n"),
        ),
    });
    let addresses: Vec<String> = dns.addresses.iter().map(ToString::to_string).collect();
    out.push_str(&match addresses.is_empty() {
        true => ui.paint(Tone::Bad, "no name leads anywhere: no ingress has said where it is reached\n"),
        false => format!("names lead to {}\n", addresses.join(", ")),
    });
    let mut names = Table::new(&["NAME", "WHAT"], "it answers for no name");
    for zone in &dns.zones {
        names.row([zone.as_str().into(), "answered for, with all below".into()]);
    }
    let is_ours = |host: &&String| dns.zones.iter().any(|zone| host.ends_with(&format!(".{zone}")));
    for host in dns.hosts.iter().filter(is_ours) {
        names.row([host.as_str().into(), "a service's".into()]);
    }
    out.push('\n');
    out.push_str(&names.yielding("NAME").show(ui));
    out
}

fn served_by(table: &TableSpec) -> Cell {
    match &table.backend {
        Backend::None { reason } => toned(text::harmless(reason), Tone::Bad),
        Backend::Upstreams(upstreams) => text::count(upstreams.len() as u64, "upstream").into(),
        Backend::Versions(versions) => {
            let shares: Vec<String> =
                versions.iter().map(|version| format!("{} {}", version.version, version.weight)).collect();
            shares.join(", ").into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Format;
    use tutti_api::debug::{InspectedInstance, InspectedNode};
    use tutti_model::{Resource, Uid, instance::Goal, version::Isolate};

    #[test]
    fn an_agent_tells_what_control_does_not_know_yet() {
        let one = InspectedInstance {
            instance: tutti_model::InstanceId::from_bits(1),
            version: "example.com:web@1.0".parse().unwrap(),
            isolate: Isolate::Process,
            goal: Goal::Serve,
            state: InstanceState::Backoff,
            since: Timestamp(940_000),
            restarts: 3,
            reason: Some("exited with code 3\u{1b}[2J".into()),
            runs: false,
            requests: 0,
            unsaid: true,
        };
        let agent = AgentInspection {
            node: "n1".parse().unwrap(),
            release: "1.0.0".into(),
            now: Timestamp(1_000_000),
            control: "unix:/run/control.sock".into(),
            registered: false,
            refused: None,
            instances: vec![one],
        };
        let shown = of_agent(&agent, &Ui::of_process(Format::Table));
        for part in ["backoff", "60s", "not told yet", "has not taken", "exited with code 3\u{fffd}"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    }

    #[test]
    fn a_dns_server_tells_its_names_and_whether_control_has_spoken() {
        let dns = DnsInspection {
            name: "ns".parse().unwrap(),
            release: "1.0.0".into(),
            dns: "192.0.2.1:53".into(),
            control: "https://192.0.2.9:7070".into(),
            told: false,
            zones: vec!["apps.test".into()],
            hosts: vec!["web.example.com.apps.test".into(), "shop.example.org".into()],
            addresses: Vec::new(),
            questions: 7,
        };
        let shown = of_dns(&dns, &Ui::of_process(Format::Table));
        for part in ["has said nothing yet", "no name leads anywhere", "web.example.com.apps.test"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        assert!(!shown.contains("shop.example.org"), "{shown}");
        let told = DnsInspection { told: true, addresses: vec!["192.0.2.1".parse().unwrap()], ..dns };
        let shown = of_dns(&told, &Ui::of_process(Format::Table));
        assert!(shown.contains("7 questions asked") && shown.contains("lead to 192.0.2.1"), "{shown}");
    }

    #[test]
    fn an_ingress_tells_its_tables_and_nodes_and_what_is_out() {
        let table = TableSpec {
            service: "example.com:web".parse().unwrap(),
            matches: vec!["web.example.com".parse().unwrap()],
            backend: Backend::None { reason: "no version has a share".into() },
        };
        let ingress = IngressInspection {
            name: "front.0001".into(),
            release: "1.0.0".into(),
            http: "127.0.0.1:80".into(),
            control: "unix:/run/control.sock".into(),
            reached: 0,
            nodes_known: false,
            tables: vec![Resource::new("example.com:web", Uid::from_bits(1), Timestamp(1), table)],
            nodes: vec![InspectedNode {
                node: "n1".parse().unwrap(),
                address: "192.0.2.1:7071".parse().unwrap(),
                out: Some("it refuses connections".into()),
            }],
        };
        let shown = of_ingress(&ingress, &Ui::of_process(Format::Table));
        for part in ["serves by the tables of its folder", "no version has a share", "out: it refuses"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
    }
}
