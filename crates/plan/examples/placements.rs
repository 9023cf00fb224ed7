//! How many instances a second find a node, in zones of 100 to 10,000 nodes that run 100,000 instances of 1,000 services,
//! for services that spread and that pack. Measured is what the zone's loop does for a service: it places some instances
//! over the nodes as they are kept, then enters what was promised. Prints a table in which the growth with the zone can be
//! seen, with the whole plan of a service beside it, and what is hard for it; with `--json` one object a line for each
//! size and strategy.
//!
//! `cargo run --release --example placements -- [--json]`

use std::{
    collections::BTreeMap,
    error::Error,
    hint::black_box,
    time::{Duration, Instant},
};
use tutti_model::{
    Digest, InstanceId, Resource, Split, Timestamp, Uid,
    assignment::AssignmentSpec,
    instance::{Goal, InstanceSpec, InstanceState},
    manifest::Manifest,
    name::{NodeName, ZoneName},
    node::Resources,
    quantity::{Bandwidth, ByteSize, MilliCpu},
    scheduling::{Labels, Strategy, label},
    version::{Isolate, VersionSpec},
};
use tutti_plan::{
    capacity::Load,
    placement::{Draft, NodeView, Nodes, place, promise},
    zone::{ServiceView, plan_service},
};

/// Instances that run before anything is measured.
const INSTANCES: usize = 100_000;
/// The services that they are of.
const SERVICES: usize = 1_000;
/// How many are placed at once, as one plan of a service does at most.
const BATCH: u32 = 16;
/// How many plans are measured, each of another service; the median counts.
const PLANS: usize = 500;
/// Nodes of a rack.
const RACK: usize = 40;
/// Of so many nodes one has the rare label.
const RARE: usize = 100;

/// What a zone or a service is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    /// Any node will do.
    Plain,
    /// One node of a hundred will do.
    Rare,
    /// Spread over racks.
    Racks,
    /// Each node has a label that no other has, as if there were no order among them.
    Unlike,
}

impl Case {
    const fn text(self) -> &'static str {
        match self {
            Case::Plain => "any node will do",
            Case::Rare => "one node in 100 will do",
            Case::Racks => "spread over racks",
            Case::Unlike => "each node has a label of its own",
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let json = std::env::args().any(|argument| argument == "--json");
    if !json {
        println!(
            "{:>7}  {:>8}  {:>13}  {:>14}  {:>11}  {:>12}",
            "nodes", "strategy", "placements/s", "µs a placement", "µs a plan", "ms to enter"
        );
    }
    for case in [Case::Plain, Case::Rare, Case::Racks, Case::Unlike] {
        if json && case != Case::Plain {
            break;
        }
        if !json {
            println!("{}:", case.text());
        }
        for nodes in [100, 1_000, 10_000] {
            for strategy in [Strategy::Spread, Strategy::Pack] {
                measure(nodes, strategy, case, json)?;
            }
        }
    }
    Ok(())
}

fn measure(nodes: usize, strategy: Strategy, case: Case, json: bool) -> Result<(), Box<dyn Error>> {
    let (views, mut spreads) = zone(nodes, case)?;
    let began = Instant::now();
    let mut zone: Nodes = views.into_iter().collect();
    let entered = began.elapsed().as_secs_f64() * 1e3;
    let mut version = version()?;
    version.manifest.placement.strategy = strategy;
    match case {
        Case::Plain | Case::Unlike => {}
        Case::Rare => version.manifest.placement.constraints.push("rare".parse().map_err(text)?),
        Case::Racks => version.manifest.placement.spread = Some("rack".parse().map_err(text)?),
    }
    let whole = whole_plan(&zone, &version, &spreads)?;
    let plans = if case == Case::Plain { PLANS } else { PLANS / 5 };
    let mut times = Vec::with_capacity(plans);
    for spread in spreads.iter_mut().take(plans) {
        let began = Instant::now();
        let placed = place(&version, BATCH, &mut Draft::new(&zone), spread);
        if !placed.refusals.is_empty() {
            return Err("the zone is full".into());
        }
        for node in &black_box(placed).nodes {
            zone.promise(node, &version.manifest);
        }
        times.push(began.elapsed());
    }
    let micros = median(times) / f64::from(BATCH);
    let strategy = if strategy == Strategy::Pack { "pack" } else { "spread" };
    if json {
        let rate = 1e6 / micros;
        println!(
            "{{\"nodes\":{nodes},\"strategy\":\"{strategy}\",\"placements_per_second\":{rate:.0},\"micros\":{micros:.2}}}"
        );
    } else {
        println!(
            "{nodes:>7}  {strategy:>8}  {:>13.0}  {micros:>14.1}  {whole:>11.0}  {entered:>12.1}",
            1e6 / micros
        );
    }
    Ok(())
}

/// Microseconds for the whole plan of a service that has its hundred instances and is to have some more.
fn whole_plan(
    zone: &Nodes,
    version: &VersionSpec,
    spreads: &[BTreeMap<NodeName, u32>],
) -> Result<f64, Box<dyn Error>> {
    let spread = spreads.first().ok_or("no services")?;
    let mut instances = Vec::new();
    for (node, here) in spread {
        for _ in 0..*here {
            let id = InstanceId::from_bits(u64::try_from(instances.len())?);
            let spec = InstanceSpec {
                instance: id.clone(),
                version: version.version.clone(),
                artifact: version.artifact.clone(),
                isolate: version.isolate,
                manifest: version.manifest.clone(),
                node: node.clone(),
                goal: Goal::Serve,
                placed: String::new(),
            };
            let mut instance = Resource::new(id.to_string(), Uid::from_bits(1), Timestamp(0), spec);
            instance.status.state = InstanceState::Ready;
            instances.push(instance);
        }
    }
    let instances: Vec<_> = instances.iter().collect();
    let name = version.version.version.clone();
    let assignment = AssignmentSpec {
        scales: false,
        service: version.version.service.clone(),
        handed_down: 1,
        round: 1,
        matches: Vec::new(),
        split: Split::new([(name, "100%".parse().map_err(text)?)]).map_err(text)?,
        hold: false,
        versions: vec![version.clone()],
        preload: None,
        upstreams: Vec::new(),
        workers: u32::try_from(instances.len())? + BATCH,
        deployment: None,
        from: Split::empty(),
        removed: false,
    };
    let mut times = Vec::new();
    for _ in 0..20 {
        let began = Instant::now();
        let plan = plan_service(ServiceView {
            now: Timestamp(1),
            zone: &ZoneName::local(),
            assignment: &assignment,
            table: None,
            instances: &instances,
            nodes: zone,
            ingresses: &[],
            load: Load::default(),
            revoked: &BTreeMap::new(),
            spares: &[],
        });
        if black_box(plan).create.len() != usize::try_from(BATCH)? {
            return Err("not all found a node".into());
        }
        times.push(began.elapsed());
    }
    Ok(median(times))
}

/// The median of some times, in microseconds: what the machine does for others now and then does not count.
fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times.get(times.len() / 2).map_or(0.0, Duration::as_secs_f64) * 1e6
}

fn text(problem: impl std::fmt::Debug) -> String {
    format!("{problem:?}")
}

fn version() -> Result<VersionSpec, Box<dyn Error>> {
    Ok(VersionSpec {
        version: "example.com:web@1.0".parse().map_err(text)?,
        artifact: Digest::from_sha256(&[7; 32]),
        size: 1,
        isolate: Isolate::Wasm,
        manifest: Manifest { max: 1_000, ..Manifest::default() },
    })
}

/// A zone that has room for as many again, its instances shared out unevenly; with where each service runs.
type Zone = (Vec<NodeView>, Vec<BTreeMap<NodeName, u32>>);

fn zone(nodes: usize, case: Case) -> Result<Zone, Box<dyn Error>> {
    let each = u64::try_from(INSTANCES / nodes)?;
    let mut zone = Vec::with_capacity(nodes);
    let mut spreads = vec![BTreeMap::new(); SERVICES];
    let mut services = (0..SERVICES).cycle();
    for index in 0..nodes {
        let name = format!("n{index}");
        let mut labels: Labels =
            [label(&format!("node={name}")), label(&format!("rack=r{}", index / RACK)), label("arch=x86_64")]
                .into_iter()
                .collect::<Result<_, _>>()
                .map_err(text)?;
        if index % RARE == 0 {
            labels.extend([label("rare").map_err(text)?]);
        }
        if case == Case::Unlike {
            labels.extend([label(&format!("serial=s{index}")).map_err(text)?]);
        }
        let mut node = NodeView {
            node: name.parse().map_err(text)?,
            heard: true,
            ready: true,
            cordoned: false,
            draining: false,
            capacity: Resources {
                cpu: MilliCpu(u32::try_from(each * 300)?),
                memory: ByteSize::mib(each * 3 * 128),
                bandwidth: Bandwidth(0),
                disk: ByteSize(0),
            },
            promised: Resources::default(),
            beside: Default::default(),
            isolates: vec![Isolate::Wasm, Isolate::Process],
            ports: Vec::new(),
            holds: Vec::new(),
            labels: labels.into(),
            taints: Default::default(),
        };
        // Between half and one and a half times as many as the others.
        let here = each / 2 + u64::try_from(index * 7919 % 1000)? * each / 1000;
        for _ in 0..here {
            promise(&mut node, &Manifest::default());
            let service = services.next().and_then(|at| spreads.get_mut(at)).ok_or("no services")?;
            *service.entry(node.node.clone()).or_default() += 1;
        }
        zone.push(node);
    }
    Ok((zone, spreads))
}
