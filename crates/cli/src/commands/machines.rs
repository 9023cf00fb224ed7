//! Machines: what each runs, when it was last heard, and what it measured.

use super::{Session, show, tables};
use crate::{
    exit::Failed,
    table::{Cell, Table, facts, toned},
    text::{age, moment, since, size},
    ui::{Tone, Ui},
};
use serde::{Serialize, Serializer, ser::SerializeSeq as _};
use std::collections::BTreeSet;
use tutti_api::{client::Filter, machines::Machine, zone::NodeFigures};
use tutti_model::{
    ErrorCode, Millis, Resource, Timestamp,
    cluster::MemberSpec,
    name::NodeName,
    node::{NodeSpec, Resources},
    quantity::MilliCpu,
};

/// Silence after which a role counts as silent, as for nodes: three of a node's heartbeats and some slack.
const SILENT: Millis = Millis::seconds(10);

/// Nodes, members and machines, as one list of objects that say what they are.
struct Everything<'a> {
    nodes: &'a [Resource<NodeSpec>],
    members: &'a [Resource<MemberSpec>],
    machines: &'a [Machine],
}

/// A machine beside objects, which say what they are.
#[derive(Serialize)]
struct OfKind<'a> {
    kind: &'static str,
    #[serde(flatten)]
    machine: &'a Machine,
}

impl Serialize for Everything<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut all = serializer.serialize_seq(None)?;
        self.nodes.iter().try_for_each(|node| all.serialize_element(node))?;
        self.members.iter().try_for_each(|member| all.serialize_element(member))?;
        let machines = self.machines.iter().map(|machine| OfKind { kind: "machine", machine });
        machines.into_iter().try_for_each(|machine| all.serialize_element(&machine))?;
        all.end()
    }
}

/// One node with its machine, or a machine that runs none.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    node: Option<&'a Resource<NodeSpec>>,
    machine: &'a Machine,
}

pub(super) async fn list(session: &Session<'_>) -> Result<(), Failed> {
    let nodes: Vec<Resource<NodeSpec>> = session.client.list(&Filter::default()).await?;
    let members: Vec<Resource<MemberSpec>> = session.client.list(&Filter::default()).await?;
    let (now, machines) = session.client.machines().await?;
    let all = Everything { nodes: &nodes, members: &members, machines: &machines };
    session.ui.result(&all, || table(&machines, &nodes, now).show(session.ui))
}

pub(super) async fn show(session: &Session<'_>, name: &NodeName) -> Result<(), Failed> {
    let machine = session.client.machine(name).await?;
    let node = match session.client.get::<NodeSpec>(name.as_str()).await {
        Ok(node) => Some(node),
        Err(problem) if problem.code == ErrorCode::NotFound => None,
        Err(problem) => return Err(problem.into()),
    };
    let shown = Shown { node: node.as_ref(), machine: &machine };
    let now = super::now();
    session.ui.result(&shown, || {
        let of_node = |node| format!("{}\n", show::node(node, session.ui, now));
        let mut text = node.as_ref().map_or_else(String::new, of_node);
        text.push_str(&in_full(&machine, session.ui, now));
        text
    })
}

/// Every machine in one line. Where each is reached makes room for its release while not all run the same, which is when
/// an operator looks for that.
pub(crate) fn table(machines: &[Machine], nodes: &[Resource<NodeSpec>], now: Timestamp) -> Table {
    let all: BTreeSet<&str> = machines.iter().flat_map(releases).collect();
    let last = if all.len() > 1 { "RELEASE" } else { "ADDRESS" };
    let columns = ["NAME", "RUNS", "STATE", "HEARD", "CPU", "MEMORY", "DISK", "CERT", last];
    let mut table = Table::new(&columns, "no machines").yielding(last);
    for machine in machines {
        let node = nodes.iter().find(|node| node.name == machine.name.as_str());
        let capacity = node.map(|node| &node.status.capacity);
        let of = |used: fn(&NodeFigures) -> u64, has: fn(&Resources) -> u64| -> Cell {
            machine
                .figures
                .as_ref()
                .zip(capacity)
                .map_or_else(String::new, |(f, c)| part(used(f), has(c)))
                .into()
        };
        let reached = match (&machine.address, node) {
            (Some(address), _) => address.clone(),
            (None, Some(node)) => tables::address(&node.status),
            (None, None) => String::new(),
        };
        table.row([
            machine.name.to_string().into(),
            machine.roles.iter().map(|role| role.role.as_str()).collect::<Vec<_>>().join(",").into(),
            node.map_or_else(|| state(machine, now), |node| tables::node_state(node, now)),
            heard(machine, now).into(),
            of(|used| used.cpu.0.into(), |has| has.cpu.0.into()),
            of(|used| used.memory.0, |has| has.memory.0),
            of(|used| used.disk.0, |has| has.disk.0),
            certificate(machine, now),
            match all.len() > 1 {
                true => releases(machine)
                    .collect::<BTreeSet<_>>()
                    .into_iter()
                    .collect::<Vec<_>>()
                    .join(",")
                    .into(),
                false => reached.into(),
            },
        ]);
    }
    table
}

/// What its roles run.
fn releases(machine: &Machine) -> impl Iterator<Item = &str> {
    machine.roles.iter().map(|role| role.release.as_str()).filter(|release| !release.is_empty())
}

/// Of a machine without a node.
fn state(machine: &Machine, now: Timestamp) -> Cell {
    let last = machine.roles.iter().filter_map(|role| role.heard_at).min();
    match last.map(|last| now.since(last)) {
        Some(silence) if silence > SILENT => toned("silent", Tone::Bad),
        Some(_) if machine.leads => toned("leads", Tone::Good),
        Some(_) => toned("heard", Tone::Good),
        None => toned("unheard", Tone::Busy),
    }
}

/// How long ago the role was heard that was not heard for longest.
fn heard(machine: &Machine, now: Timestamp) -> String {
    machine.roles.iter().filter_map(|role| role.heard_at).min().map_or_else(String::new, |at| since(at, now))
}

fn certificate(machine: &Machine, now: Timestamp) -> Cell {
    match machine.certified_until {
        None => "".into(),
        Some(until) if until <= now => toned("expired", Tone::Bad),
        Some(until) => since(now, until).into(),
    }
}

/// Cpus with one decimal.
fn cpu(cpu: MilliCpu) -> String {
    match (cpu.0 / 1000, cpu.0 % 1000 / 100) {
        (whole, 0) => whole.to_string(),
        (whole, tenths) => format!("{whole}.{tenths}"),
    }
}

/// How much of it is used; empty where it is not known how much there is.
fn part(used: u64, has: u64) -> String {
    used.saturating_mul(100).checked_div(has).map_or_else(String::new, |percent| format!("{percent}%"))
}

/// What `node show` says beside the node's own object.
fn in_full(machine: &Machine, ui: &Ui, now: Timestamp) -> String {
    let roles = machine.roles.iter().map(|role| {
        let heard = match role.heard_at {
            Some(at) => format!("heard {} ago", since(at, now)),
            None => "not heard since the control that answers started".to_owned(),
        };
        let leads = if machine.leads && role.role == tutti_model::member::MachineRole::Server {
            ", leads"
        } else {
            ""
        };
        let release = if role.release.is_empty() { "" } else { ", release " };
        format!("{}: {heard}{release}{}{leads}", role.role, role.release)
    });
    let certificate = match machine.certified_until {
        None => String::new(),
        Some(until) if until <= now => format!("expired {} ago, {}", since(until, now), moment(until)),
        Some(until) => format!("good for {}, until {}", since(now, until), moment(until)),
    };
    let (measured, used) = match (&machine.figures, machine.measured_at) {
        (Some(figures), Some(at)) => (format!("{} ago", age(now.since(at))), used(figures)),
        _ => (String::new(), String::new()),
    };
    let mut text = facts(
        ui,
        &[
            ("machine", machine.name.to_string()),
            ("reached", machine.address.clone().unwrap_or_default()),
            ("runs", roles.collect::<Vec<_>>().join("\n")),
            ("certificate", certificate),
            ("measured", measured),
            ("uses", used),
        ],
    );
    let instances = machine.figures.as_ref().map(|figures| figures.instances.as_slice()).unwrap_or_default();
    if !instances.is_empty() {
        let mut table = Table::new(&["INSTANCE", "CPU", "MEMORY", "REQUESTS"], "");
        for of in instances {
            table.row([
                of.instance.to_string().into(),
                of.cpu.to_string().into(),
                size(of.memory.0).into(),
                of.running.to_string().into(),
            ]);
        }
        text.push('\n');
        text.push_str(&table.show(ui));
    }
    text
}

fn used(figures: &NodeFigures) -> String {
    format!(
        "cpu {}, memory {}, disk {}, network {}/s in and {}/s out",
        cpu(figures.cpu),
        size(figures.memory.0),
        size(figures.disk.0),
        size(figures.received),
        size(figures.sent)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::fixtures::{self as fix, NOW};
    use tutti_api::{machines::RoleContact, zone::InstanceFigures};
    use tutti_model::{InstanceId, member::MachineRole, quantity::ByteSize};

    fn machine(name: &str, role: MachineRole, heard_ago: Option<u64>) -> Machine {
        let heard_at = heard_ago.map(|seconds| Timestamp(NOW.0 - seconds * 1000));
        Machine {
            name: name.parse().unwrap(),
            roles: vec![RoleContact { role, release: "0.1.0".into(), heard_at }],
            leads: name == "c1",
            address: Some(format!("{name}:7070")),
            certified_until: Some(NOW.plus(Millis::seconds(7200))),
            measured_at: None,
            figures: None,
        }
    }

    fn measured() -> Machine {
        let instance = InstanceId::from_bits(1);
        let figures = NodeFigures {
            cpu: MilliCpu(250),
            memory: ByteSize::mib(1024),
            disk: ByteSize::mib(2048),
            received: 1024,
            sent: 10,
            instances: vec![InstanceFigures {
                instance,
                cpu: MilliCpu(120),
                memory: ByteSize::mib(64),
                running: 3,
            }],
        };
        let of = machine("box", MachineRole::Agent, Some(2));
        Machine { figures: Some(figures), measured_at: Some(Timestamp(NOW.0 - 12_000)), ..of }
    }

    #[test]
    fn a_machine_is_told_in_one_line_with_what_it_uses() {
        let machines = [
            measured(),
            machine("c1", MachineRole::Server, Some(0)),
            machine("c2", MachineRole::Server, Some(40)),
            machine("c3", MachineRole::Server, None),
        ];
        let text = table(&machines, &[fix::node()], NOW).render(120, false);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["box", "agent", "ready", "2s", "12%", "25%", "2h", "box:7070"], "{text}");
        assert_eq!(lines[2], ["c1", "server", "leads", "0s", "2h", "c1:7070"], "{text}");
        assert_eq!(lines[3][2..4], ["silent", "40s"], "{text}");
        assert_eq!(lines[4][2], "unheard", "{text}");
    }

    #[test]
    fn a_state_is_never_cut_short_and_releases_are_shown_while_they_differ() {
        let mut all = machine("machine-one", MachineRole::Server, Some(3000));
        all.roles.extend([MachineRole::Agent, MachineRole::Ingress].map(|role| RoleContact {
            role,
            release: "0.2.0-dev.0".into(),
            heard_at: Some(NOW),
        }));
        let text = table(&[all, measured()], &[fix::node()], NOW).render(80, false);
        assert!(text.contains(" silent "), "{text}");
        assert!(text.contains("RELEASE") && !text.contains("ADDRESS") && text.contains("0.1.0,"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }

    #[test]
    fn figures_are_told_with_their_age() {
        let text = in_full(&measured(), &Ui::of_process(crate::Format::Table), NOW);
        assert!(text.contains("12s ago") && text.contains("network 1.0 KiB/s in and 10 B/s out"), "{text}");
        assert!(text.contains("120m") && text.contains("64.0 MiB"), "{text}");
    }
}
