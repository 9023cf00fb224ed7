//! Objects for the tests of this crate.

use crate::placement::{Draft, NodeView, Nodes, Placed, place};
use std::collections::BTreeMap;
use tutti_model::{
    Digest, InstanceId, Resource, Timestamp, Uid, VersionRef,
    instance::{Goal, InstanceSpec, InstanceState},
    manifest::Manifest,
    name::NodeName,
    node::Resources,
    quantity::{ByteSize, MilliCpu},
    version::{Isolate, VersionSpec},
};

/// A version of `example.com:web` with the default manifest.
pub(crate) fn version(name: &str) -> VersionSpec {
    let version: VersionRef = format!("example.com:web@{name}").parse().unwrap();
    VersionSpec {
        version,
        artifact: Digest::from_sha256(&[7; 32]),
        size: 1,
        isolate: Isolate::Wasm,
        manifest: Manifest::default(),
    }
}

/// A node with room for many.
pub(crate) fn node(name: &str) -> NodeView {
    NodeView {
        node: name.parse().unwrap(),
        heard: true,
        ready: true,
        cordoned: false,
        draining: false,
        capacity: Resources {
            cpu: MilliCpu(64_000),
            memory: ByteSize::mib(64 * 1024),
            ..Resources::default()
        },
        promised: Resources::default(),
        beside: Default::default(),
        isolates: vec![Isolate::Wasm, Isolate::Process],
        ports: Vec::new(),
        holds: Vec::new(),
        labels: Default::default(),
        taints: Default::default(),
    }
}

/// Places instances on these nodes, and promises them there.
pub(crate) fn place_on(
    version: &VersionSpec,
    count: u32,
    views: &mut [NodeView],
    spread: &mut BTreeMap<NodeName, u32>,
) -> Placed {
    let nodes: Nodes = views.iter().cloned().collect();
    let mut draft = Draft::new(&nodes);
    let placed = place(version, count, &mut draft, spread);
    for view in views {
        view.clone_from(draft.get(&view.node).unwrap());
    }
    placed
}

/// A ready instance of another version that stands by since this moment on a node.
pub(crate) fn standing_by(version: &str, node: &str, since: Timestamp) -> Resource<InstanceSpec> {
    let instance = InstanceId::from_bits(1000);
    let manifest = Manifest::default();
    let spec = InstanceSpec {
        instance: instance.clone(),
        version: version.parse().unwrap(),
        artifact: Digest::from_sha256(&[7; 32]),
        isolate: Isolate::Wasm,
        node: node.parse().unwrap(),
        goal: Goal::Standby { until: since.plus(manifest.standby) },
        manifest,
        placed: String::new(),
    };
    let mut object = Resource::new(instance.to_string(), Uid::from_bits(1000), Timestamp(0), spec);
    object.status.state = InstanceState::Ready;
    object
}
