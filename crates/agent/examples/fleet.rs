//! Many agents at one control, each a member of its cluster with a key and connections of its own, all in this process;
//! what they run is the mock driver's. Control is a real one, started by whoever calls this.
//!
//! `cargo run --release --example fleet -- SOCKET HOST:PORT AGENTS instances VERSION COUNT` deploys VERSION, whose
//! manifest asks for COUNT instances, and says how long it took until all were ready;
//! `… SOCKET HOST:PORT AGENTS changes ROUNDS` changes something that each agent watches, and says how long it took to come.
//! Both print one JSON object.

use futures_util::StreamExt as _;
use serde_json::json;
use std::{
    collections::BTreeMap,
    error::Error,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;
use tutti_api::{
    Change, Client, WatchEvent,
    client::Filter,
    wire::{CreateDeployment, NodeChange},
};
use tutti_base::Tasks;
use tutti_model::{
    Kind, VersionRef,
    instance::{InstanceSpec, InstanceState},
    scheduling::LabelKey,
};

use tutti_pki::MemberTable;

#[path = "fleet/machine.rs"]
mod machine;
use machine::{Arrival, Machine, Seen};

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [socket, control, agents, what, rest @ ..] = arguments.as_slice() else {
        return Err("see the top of the file for what it is given".into());
    };
    let operator = Client::over_socket(Path::new(socket));
    let folder = std::env::temp_dir().join(format!("tutti-fleet-{}", std::process::id()));
    let (arrivals, arrived) = mpsc::unbounded_channel();
    let (tasks, table) = (Tasks::new(), Arc::default());
    let mut fleet = Fleet { operator, control: control.clone(), folder, tasks, table, arrivals };
    let mut machines = Vec::new();
    let agents = agents.parse()?;
    for number in 0..agents {
        machines.push(fleet.machine(number).await?);
    }
    for machine in &machines {
        tokio::time::timeout(PATIENCE, machine.agent.registered()).await?;
    }
    let found = match (what.as_str(), rest) {
        ("instances", [version, count]) => fleet.instances(version, count.parse()?).await?,
        ("changes", [rounds]) => fleet.changes(rounds.parse()?, agents, arrived).await?,
        _ => return Err(format!("{what}: not one of instances and changes, or without what it needs").into()),
    };
    println!("{found}");
    std::fs::remove_dir_all(&fleet.folder)?;
    Ok(())
}

struct Fleet {
    operator: Client,
    control: String,
    folder: PathBuf,
    tasks: Tasks,
    /// Who is a member, as all of them hold it.
    table: Arc<MemberTable>,
    arrivals: mpsc::UnboundedSender<Arrival>,
}

impl Fleet {
    async fn machine(&self, number: usize) -> Result<Machine, Failure> {
        let folder = self.folder.join(number.to_string());
        let shared = (&self.tasks, &self.table);
        Machine::join(&self.operator, &self.control, number, &folder, shared, self.arrivals.clone()).await
    }

    /// From asking for the deployment until control has every instance as ready.
    async fn instances(&self, version: &str, count: usize) -> Result<serde_json::Value, Failure> {
        let asked: VersionRef = version.parse().map_err(|problem| format!("{problem:?}"))?;
        let mut events = self.operator.watch::<InstanceSpec>(&Filter::service(asked.service), None);
        let begun = Instant::now();
        let create = CreateDeployment {
            version: version.parse()?,
            steps: vec!["100%".parse()?],
            every: None,
            abort_if: Vec::new(),
        };
        self.operator.create_deployment(&create).await?;
        let mut states: BTreeMap<String, InstanceState> = BTreeMap::new();
        let mut first = None;
        loop {
            let event = tokio::time::timeout(PATIENCE, events.next()).await?.ok_or("the watch ended")??;
            let changes = match event {
                WatchEvent::InitItem(instance) => vec![Change::Put(instance)],
                WatchEvent::Changes { changes, .. } => changes,
                WatchEvent::Init | WatchEvent::InitDone { .. } => continue,
            };
            for change in changes {
                if let Change::Put(instance) = change {
                    states.insert(instance.name, instance.status.state);
                }
            }
            let ready = states.values().filter(|state| **state == InstanceState::Ready).count();
            if ready > 0 {
                first.get_or_insert_with(|| begun.elapsed());
            }
            if ready >= count {
                let (first, all) = (first.unwrap_or_default(), begun.elapsed());
                return Ok(json!({
                    "instances": ready, "first_s": first.as_secs_f64(), "all_s": all.as_secs_f64(),
                }));
            }
        }
    }

    /// A label of one node after the other, which that node alone is told; then members that are removed, which all are
    /// told.
    async fn changes(
        &mut self,
        rounds: usize,
        agents: usize,
        mut arrived: mpsc::UnboundedReceiver<Arrival>,
    ) -> Result<serde_json::Value, Failure> {
        let label: LabelKey = "round".parse()?;
        let (mut to_one, mut written) = (Vec::new(), Vec::new());
        for round in 0..agents {
            let name = machine::name(round)?;
            let labels = [(label.clone(), Some(format!("r{round}").parse()?))].into();
            let change = NodeChange { labels, taint: Vec::new(), untaint: Vec::new() };
            let begun = Instant::now();
            let changed = self.operator.change_node(name.as_str(), &change).await?;
            written.push(begun.elapsed());
            let wanted = Seen::Node { name, generation: changed.generation };
            to_one.push(at(&mut arrived, &wanted, 1, begun).await?.into_iter().next().unwrap_or_default());
        }
        let (mut to_all, mut removed) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            let name = machine::name(agents + round)?;
            Machine::become_member(&self.operator, &self.control, &name, &self.folder.join(name.as_str()))
                .await?;
            let begun = Instant::now();
            self.operator.delete(Kind::Member, name.as_str()).await?;
            removed.push(begun.elapsed());
            to_all.extend(at(&mut arrived, &Seen::Gone(name.to_string()), agents, begun).await?);
        }
        Ok(json!({
            "agents": agents,
            "to_one": spread(to_one), "write": spread(written), "to_all": spread(to_all), "remove": spread(removed),
        }))
    }
}

/// How long it took until each of `count` had it.
async fn at(
    arrived: &mut mpsc::UnboundedReceiver<Arrival>,
    wanted: &Seen,
    count: usize,
    begun: Instant,
) -> Result<Vec<Duration>, Failure> {
    let mut times = Vec::new();
    while times.len() < count {
        let arrival = tokio::time::timeout(PATIENCE, arrived.recv()).await?.ok_or("all agents ended")?;
        if arrival.what.holds(wanted) {
            times.push(arrival.at.saturating_duration_since(begun));
        }
    }
    Ok(times)
}

fn spread(mut times: Vec<Duration>) -> serde_json::Value {
    times.sort_unstable();
    let at = |share: usize| {
        let time = times.get(times.len() * share / 100).or(times.last()).copied().unwrap_or_default();
        time.as_secs_f64() * 1000.0
    };
    json!({ "p50_ms": at(50), "p99_ms": at(99), "max_ms": at(100), "of": times.len() })
}
