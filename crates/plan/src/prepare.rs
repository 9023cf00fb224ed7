//! Where a version that was pushed, and not deployed, is held ready to start, and how far that is.

use crate::placement::{Draft, NodeView, Nodes, Placed, place, refusal, unfit};
use std::collections::{BTreeMap, BTreeSet};
use tutti_model::{
    Digest, Millis,
    name::NodeName,
    node::{Held, Readiness},
    version::{Preparation, VersionSpec},
};

/// Most reasons in a preparation: as many as a person reads.
const REASONS: usize = 8;

/// The nodes that are to hold the version ready: those that run its service and could run it, else where it was to be
/// held `before` if it would still fit there, else where its first instance would be placed. What is being prepared makes a
/// node busy, and must not chase the version away for it.
#[must_use]
pub fn prepare(
    version: &VersionSpec,
    running: &BTreeSet<NodeName>,
    before: &[NodeName],
    nodes: &Nodes,
) -> Placed {
    // What is promised there now is mostly what it is to replace, so room is not asked for.
    let could = |node: &&NodeView| unfit(version, node).is_none();
    let here = running.iter().filter_map(|node| nodes.get(node)).filter(could);
    let here: Vec<NodeName> = here.map(|node| node.node.clone()).collect();
    if !here.is_empty() {
        return Placed { nodes: here, ..Placed::default() };
    }
    let stays = |node: &&NodeName| nodes.get(node).is_some_and(|node| refusal(version, node).is_none());
    if let Some(node) = before.iter().find(stays) {
        return Placed { nodes: vec![node.clone()], ..Placed::default() };
    }
    // Why it is that node changes with every instance elsewhere, and nobody is told.
    Placed { why: Vec::new(), ..place(version, 1, &mut Draft::new(nodes), &mut BTreeMap::new()) }
}

/// How far the nodes that are to hold an artifact ready are, by what each says.
#[must_use]
pub fn preparation<'a>(
    artifact: &Digest,
    placed: &Placed,
    held: impl Fn(&NodeName) -> Option<&'a [Held]>,
) -> Preparation {
    let mut preparation = Preparation {
        nodes: u32::try_from(placed.nodes.len()).unwrap_or(u32::MAX),
        ..Preparation::default()
    };
    let mut reasons: Vec<String> = Vec::new();
    let mut say = |reason: &String| {
        if reasons.len() < REASONS && !reasons.contains(reason) {
            reasons.push(reason.clone());
        }
    };
    placed.refusals.iter().for_each(&mut say);
    for node in &placed.nodes {
        let found = held(node).and_then(|held| held.iter().find(|held| held.artifact == *artifact));
        match found.map(|held| &held.readiness) {
            Some(Readiness::Ready { took }) => {
                preparation.ready = preparation.ready.saturating_add(1);
                preparation.took = Millis(preparation.took.0.max(took.0));
            }
            Some(Readiness::Unrunnable { reason }) => {
                preparation.failed = preparation.failed.saturating_add(1);
                say(reason);
            }
            Some(Readiness::Delayed { reason }) => say(reason),
            None => {}
        }
    }
    preparation.reasons = reasons;
    preparation
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::fixtures::{node, version};
    use tutti_model::version::Isolate;

    fn names(placed: &Placed) -> Vec<&str> {
        placed.nodes.iter().map(NodeName::as_str).collect()
    }

    #[test]
    fn is_held_where_the_service_runs_else_where_it_would_be_placed() {
        let wanted = version("1.0");
        let mut views = [node("a"), node("b"), node("c")];
        let prepared = |views: &[NodeView], running: &BTreeSet<NodeName>| {
            prepare(&wanted, running, &[], &views.iter().cloned().collect())
        };
        let running: BTreeSet<NodeName> = ["b", "c"].map(|name| name.parse().unwrap()).into();
        assert_eq!(names(&prepared(&views, &running)), ["b", "c"]);
        views[1].heard = false;
        assert_eq!(names(&prepared(&views, &running)), ["c"]);
        views[2].cordoned = true;
        assert_eq!(names(&prepared(&views, &running)), ["a"]);
    }

    #[test]
    fn stays_where_it_was_to_be_held_while_it_fits_there() {
        let wanted = version("1.0");
        let mut views = [node("a"), node("b")];
        let before = ["b".parse().unwrap()];
        let mut prepared = |change: &dyn Fn(&mut NodeView)| {
            change(&mut views[1]);
            names(&prepare(&wanted, &BTreeSet::new(), &before, &views.iter().cloned().collect())).join(",")
        };
        assert_eq!(prepared(&|_| {}), "b");
        assert_eq!(prepared(&|b| b.beside.is_busy = true), "b");
        assert_eq!(prepared(&|b| b.cordoned = true), "a");
    }

    #[test]
    fn where_no_node_could_run_it_each_says_why() {
        let wanted = version("1.0");
        let mut other = node("other");
        other.isolates = vec![Isolate::Process];
        let placed = prepare(&wanted, &BTreeSet::new(), &[], &[other].into_iter().collect());
        assert_eq!(placed.refusals, ["node other cannot run wasm isolates"]);
        let placed = prepare(&wanted, &BTreeSet::new(), &[], &Nodes::default());
        assert_eq!(preparation(&wanted.artifact, &placed, |_| None).reasons, ["the zone has no nodes"]);
    }

    #[test]
    fn counts_what_each_node_says_and_tells_each_reason_once() {
        let wanted = version("1.0").artifact;
        let placed = Placed {
            nodes: ["a", "b", "c", "d", "e"].map(|name| name.parse().unwrap()).into(),
            ..Placed::default()
        };
        let held = |readiness| vec![Held { artifact: wanted.clone(), readiness }];
        let broken = || held(Readiness::Unrunnable { reason: "not a component".into() });
        let said: BTreeMap<NodeName, Vec<Held>> = [
            ("a", held(Readiness::Ready { took: Millis(7) })),
            ("b", held(Readiness::Ready { took: Millis(71) })),
            ("c", broken()),
            ("d", broken()),
        ]
        .map(|(name, held)| (name.parse().unwrap(), held))
        .into();
        let found = preparation(&wanted, &placed, |node| said.get(node).map(Vec::as_slice));
        assert_eq!((found.nodes, found.ready, found.failed, found.took), (5, 2, 2, Millis(71)));
        assert_eq!(found.reasons, ["not a component"]);
    }
}
