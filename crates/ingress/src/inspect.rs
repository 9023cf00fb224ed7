//! What this ingress routes by, as it knows it itself: for whoever owns the machine, also while control is away.

use crate::Ingress;
use std::collections::BTreeMap;
use tutti_api::debug::{IngressInspection, InspectedNode};
use tutti_model::name::NodeName;

impl Ingress {
    /// Its tables and nodes. `out` says to which nodes nothing is sent now, and why; `control` where it looks for
    /// control.
    #[must_use]
    pub fn inspect(&self, release: &str, control: &str, out: Vec<(NodeName, String)>) -> IngressInspection {
        let edge = &self.edge;
        let mut out: BTreeMap<NodeName, String> = out.into_iter().collect();
        let nodes = edge.nodes.all().into_iter().map(|(node, address)| {
            let out = out.remove(&node);
            InspectedNode { node, address, out }
        });
        IngressInspection {
            name: edge.name.clone(),
            release: release.to_owned(),
            http: edge.address.clone(),
            control: control.to_owned(),
            reached: self.reached(),
            nodes_known: *edge.nodes_known.borrow(),
            tables: edge.tables.all().into_iter().map(|table| (*table).clone()).collect(),
            nodes: nodes.collect(),
        }
    }
}
