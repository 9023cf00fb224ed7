//! How many instances a second find a node: in zones of 1,000 and 10,000 nodes that run 100,000 instances, for services
//! that spread and that pack. Prints a table in which the growth with the zone can be seen.
//!
//! `cargo run --release --example placements`

use std::{collections::BTreeMap, error::Error, hint::black_box, time::Instant};
use tutti_model::{
    Digest,
    manifest::Manifest,
    node::Resources,
    quantity::{Bandwidth, ByteSize, MilliCpu},
    scheduling::Strategy,
    version::{Isolate, VersionSpec},
};
use tutti_plan::placement::{NodeView, place, promise};

/// Instances that run before anything is measured.
const INSTANCES: usize = 100_000;
/// How many are placed at once, as one plan of a service does at most.
const BATCH: u32 = 16;
/// How many plans are measured.
const PLANS: u32 = 50;

fn main() -> Result<(), Box<dyn Error>> {
    println!("{:>8}  {:>8}  {:>16}  {:>14}", "nodes", "strategy", "placements/s", "µs a placement");
    for nodes in [100, 1_000, 10_000] {
        for strategy in [Strategy::Spread, Strategy::Pack] {
            let mut zone = zone(nodes)?;
            let mut version = version()?;
            version.manifest.placement.strategy = strategy;
            let began = Instant::now();
            for _ in 0..PLANS {
                let placed = place(&version, BATCH, &mut zone, &mut BTreeMap::new());
                if !black_box(placed).refusals.is_empty() {
                    return Err("the zone is full".into());
                }
            }
            let micros = began.elapsed().as_secs_f64() * 1e6 / f64::from(PLANS * BATCH);
            println!("{nodes:>8}  {:>8}  {:>16.0}  {micros:>14.1}", format!("{strategy:?}"), 1e6 / micros);
        }
    }
    Ok(())
}

fn version() -> Result<VersionSpec, Box<dyn Error>> {
    Ok(VersionSpec {
        version: "example.com:web@1.0".parse().map_err(|problem| format!("{problem:?}"))?,
        artifact: Digest::from_sha256(&[7; 32]),
        size: 1,
        isolate: Isolate::Wasm,
        manifest: Manifest::default(),
    })
}

/// A zone that has room for as many again, its instances shared out unevenly.
fn zone(nodes: usize) -> Result<Vec<NodeView>, Box<dyn Error>> {
    let each = u64::try_from(INSTANCES / nodes)?;
    let mut zone = Vec::with_capacity(nodes);
    for index in 0..nodes {
        let mut node = NodeView {
            node: format!("n{index}").parse().map_err(|problem| format!("{problem:?}"))?,
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
            isolates: vec![Isolate::Wasm, Isolate::Process],
            ports: Vec::new(),
            holds: Vec::new(),
            labels: Default::default(),
            taints: Default::default(),
        };
        // Between half and one and a half times as many as the others.
        let here = each / 2 + u64::try_from(index * 7919 % 1000)? * each / 1000;
        (0..here).for_each(|_| promise(&mut node, &Manifest::default()));
        zone.push(node);
    }
    Ok(zone)
}
