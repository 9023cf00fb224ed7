//! The nodes of a zone, kept so that placement reads only those that it chooses among.
//!
//! Nodes that answer alike to what is asked whatever room they have, since their isolates, labels and taints are the same,
//! are of one kind. A kind is asked once for a plan, and its nodes lie in the order in which each strategy takes them. A
//! zone has few kinds, however many nodes: its racks times what it has of machines. Every node has its name as a label,
//! which therefore makes no kind; another label that is different on each node makes each a kind, and a plan then reads
//! one line of each node, as if there were no order.

use super::{
    NodeView, is_tolerated, promise,
    queue::key,
    ranking::{Entry, Ranking},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tutti_model::{
    Digest,
    manifest::Manifest,
    name::NodeName,
    node::NODE_LABEL,
    scheduling::{Constraint, LabelKey, LabelValue, Labels, Strategy, Taint},
    version::{Isolate, VersionSpec},
};

/// The nodes of a zone by name, in an order for each strategy. A node that changes is put in anew; the others stay where
/// they are.
#[derive(Debug, Clone, Default)]
pub struct Nodes {
    known: BTreeMap<NodeName, Known>,
    /// The kinds; those without nodes wait to be used again.
    kinds: Vec<Kind>,
    by_traits: BTreeMap<Arc<Traits>, usize>,
    vacant: Vec<usize>,
    /// The nodes that hold an artifact ready.
    holders: BTreeMap<Digest, BTreeSet<NodeName>>,
}

#[derive(Debug, Clone)]
struct Known {
    view: Arc<NodeView>,
    /// Which kind it is of; `None` for one that takes nothing.
    kind: Option<usize>,
}

/// What the nodes of a kind have in common.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Traits {
    isolates: Vec<Isolate>,
    taints: Arc<[Taint]>,
    /// Their labels, without their names if they have those as a label.
    labels: Labels,
    has_name: bool,
}

/// Nodes that differ only in their names, their room, and what they hold.
#[derive(Debug, Clone)]
pub(super) struct Kind {
    traits: Arc<Traits>,
    spread: Ranking,
    pack: Ranking,
}

impl Nodes {
    /// Puts a node in, or puts it where it now belongs.
    pub fn set(&mut self, view: NodeView) {
        let known = self.known.get(&view.node);
        let same_kind = known.filter(|known| is_alike(&known.view, &view)).map(|known| known.kind);
        let kind = same_kind.unwrap_or_else(|| takes_any(&view).then(|| self.kind_of(&view)));
        let view = Arc::new(view);
        let before = self.known.insert(view.node.clone(), Known { view: view.clone(), kind });
        if let Some(before) = &before {
            self.leave_kind(before);
        }
        if let Some(kind) = kind.and_then(|kind| self.kinds.get_mut(kind)) {
            kind.spread.insert(entry(Strategy::Spread, &view));
            kind.pack.insert(entry(Strategy::Pack, &view));
        }
        if let Some(kind) = before.as_ref().and_then(|before| before.kind) {
            self.vacate(kind);
        }
        let held = before.as_ref().map(|before| before.view.holds.as_slice()).unwrap_or_default();
        if held != view.holds {
            self.let_go(&view.node, held);
            for artifact in &view.holds {
                self.holders.entry(artifact.clone()).or_default().insert(view.node.clone());
            }
        }
    }

    /// Takes a node out.
    pub fn remove(&mut self, node: &NodeName) {
        let Some(before) = self.known.remove(node) else { return };
        self.leave_kind(&before);
        if let Some(kind) = before.kind {
            self.vacate(kind);
        }
        self.let_go(node, &before.view.holds);
    }

    /// Counts an instance with this manifest among a node's promises.
    pub fn promise(&mut self, node: &NodeName, manifest: &Manifest) {
        if let Some(mut view) = self.get(node).cloned() {
            promise(&mut view, manifest);
            self.set(view);
        }
    }

    /// The node of this name.
    #[must_use]
    pub fn get(&self, node: &NodeName) -> Option<&NodeView> {
        self.shared(node).map(AsRef::as_ref)
    }

    /// Whether there is such a node, and its agent is heard.
    #[must_use]
    pub fn is_heard(&self, node: &NodeName) -> bool {
        self.get(node).is_some_and(|node| node.heard)
    }

    /// Every node, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &NodeView> {
        self.known.values().map(|known| known.view.as_ref())
    }

    pub(super) fn shared(&self, node: &NodeName) -> Option<&Arc<NodeView>> {
        self.known.get(node).map(|known| &known.view)
    }

    /// A node's name as it is kept here, with its kind.
    pub(super) fn kept(&self, node: &NodeName) -> Option<(&NodeName, Option<usize>)> {
        self.known.get_key_value(node).map(|(name, known)| (name, known.kind))
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &NodeName> {
        self.known.keys()
    }

    /// The kinds that have nodes, with their numbers.
    pub(super) fn kinds(&self) -> impl Iterator<Item = (usize, &Kind)> {
        self.kinds.iter().enumerate().filter(|(_, kind)| !kind.spread.is_empty())
    }

    /// The nodes that hold an artifact ready.
    pub(super) fn holders(&self, artifact: &Digest) -> impl Iterator<Item = &NodeName> {
        self.holders.get(artifact).into_iter().flatten()
    }

    fn kind_of(&mut self, view: &NodeView) -> usize {
        let traits = Traits::of(view);
        if let Some(kind) = self.by_traits.get(&traits) {
            return *kind;
        }
        let traits = Arc::new(traits);
        let kind = Kind { traits: traits.clone(), spread: Ranking::default(), pack: Ranking::default() };
        let at = match self.vacant.pop().and_then(|at| Some((at, self.kinds.get_mut(at)?))) {
            Some((at, vacant)) => {
                *vacant = kind;
                at
            }
            None => {
                self.kinds.push(kind);
                self.kinds.len() - 1
            }
        };
        self.by_traits.insert(traits, at);
        at
    }

    fn leave_kind(&mut self, node: &Known) {
        if let Some(kind) = node.kind.and_then(|kind| self.kinds.get_mut(kind)) {
            kind.spread.remove(&entry(Strategy::Spread, &node.view));
            kind.pack.remove(&entry(Strategy::Pack, &node.view));
        }
    }

    /// Forgets a kind that has no nodes any more.
    fn vacate(&mut self, at: usize) {
        if let Some(kind) = self.kinds.get(at).filter(|kind| kind.spread.is_empty())
            && self.by_traits.remove(&kind.traits).is_some()
        {
            self.vacant.push(at);
        }
    }

    fn let_go(&mut self, node: &NodeName, artifacts: &[Digest]) {
        for artifact in artifacts {
            if let Some(holders) = self.holders.get_mut(artifact) {
                holders.remove(node);
                if holders.is_empty() {
                    self.holders.remove(artifact);
                }
            }
        }
    }
}

impl FromIterator<NodeView> for Nodes {
    fn from_iter<T: IntoIterator<Item = NodeView>>(views: T) -> Self {
        let mut nodes = Nodes::default();
        views.into_iter().for_each(|view| nodes.set(view));
        nodes
    }
}

impl Kind {
    /// The nodes in the order of a strategy.
    pub(super) const fn ranking(&self, strategy: Strategy) -> &Ranking {
        match strategy {
            Strategy::Spread => &self.spread,
            Strategy::Pack => &self.pack,
        }
    }

    /// Whether its nodes could run a version, but for those whose names the version's constraints name.
    pub(super) fn could_run(&self, version: &VersionSpec) -> bool {
        let (traits, manifest) = (&self.traits, &version.manifest);
        let holds = |constraint: &Constraint| match traits.has_name && is_name(constraint.key()) {
            true => constraint.holds_of_others(),
            false => constraint.holds(&traits.labels),
        };
        traits.isolates.contains(&version.isolate)
            && manifest.placement.constraints.iter().all(holds)
            && traits.taints.iter().all(|taint| is_tolerated(taint, manifest))
    }

    /// Their value of a label, which is not the one with their names.
    pub(super) fn label(&self, key: &LabelKey) -> Option<&LabelValue> {
        self.traits.labels.get(key)
    }
}

impl Traits {
    fn of(view: &NodeView) -> Traits {
        let mut labels = Labels::clone(&view.labels);
        let name = labels.iter().find(|(key, value)| is_name(key) && value.as_str() == view.node.as_str());
        let name = name.map(|(key, _)| key.clone());
        name.iter().for_each(|key| _ = labels.remove(key));
        Traits {
            isolates: view.isolates.clone(),
            taints: view.taints.clone(),
            labels,
            has_name: name.is_some(),
        }
    }
}

/// Whether this is the label with a node's name.
pub(super) fn is_name(key: &LabelKey) -> bool {
    key.as_str() == NODE_LABEL
}

/// Whether a node takes new instances at all.
fn takes_any(view: &NodeView) -> bool {
    view.ready && view.heard && !view.cordoned
}

/// Whether a node is of the kind that it was of.
fn is_alike(was: &NodeView, is: &NodeView) -> bool {
    takes_any(was) == takes_any(is)
        && was.isolates == is.isolates
        && (Arc::ptr_eq(&was.labels, &is.labels) || was.labels == is.labels)
        && (Arc::ptr_eq(&was.taints, &is.taints) || was.taints == is.taints)
}

/// A node as one that neither runs anything of the service nor holds it ready.
fn entry(strategy: Strategy, view: &Arc<NodeView>) -> Entry {
    Entry::new(key(strategy, view, 0, false), view.clone())
}
