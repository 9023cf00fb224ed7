//! The nodes of a zone, kept so that placement reads only those that it chooses among.
//!
//! Nodes that answer alike to what is asked whatever room they have, since their isolates, labels and taints are the same,
//! are of one kind. A kind is asked once for a plan, and its nodes lie in the order in which each strategy takes them. A
//! zone has few kinds, however many nodes: its racks times what it has of machines. A label that tells too many nodes
//! apart, as that with a node's name does, makes no kinds. It is loose: the nodes of each of its values are known by
//! themselves, and a constraint on it is answered by those.

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

/// Most kinds. With more, a plan asks each and is no faster than if it looked at many nodes, so the label that makes most
/// of them becomes loose.
const KINDS: usize = 2_000;

/// The nodes of a zone by name, in an order for each strategy. A node that changes is put in anew; the others stay where
/// they are.
#[derive(Debug, Clone)]
pub struct Nodes {
    known: BTreeMap<NodeName, Known>,
    /// The kinds; those without nodes wait to be used again.
    kinds: Vec<Kind>,
    by_traits: BTreeMap<Arc<Traits>, usize>,
    vacant: Vec<usize>,
    most_kinds: usize,
    /// The nodes that hold an artifact ready.
    holders: BTreeMap<Digest, BTreeSet<NodeName>>,
    /// The nodes with each value of each label.
    labelled: BTreeMap<LabelKey, BTreeMap<LabelValue, BTreeSet<NodeName>>>,
    /// Labels that make no kinds, beside that with the name.
    loose: BTreeSet<LabelKey>,
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
    /// Their labels, but for those that are loose.
    labels: Labels,
    /// The loose labels that they have, each with whatever value.
    loose: BTreeSet<LabelKey>,
}

/// Nodes that differ only in their names and other loose labels, their room, and what they hold.
#[derive(Debug, Clone)]
pub(super) struct Kind {
    traits: Arc<Traits>,
    spread: Ranking,
    pack: Ranking,
}

impl Default for Nodes {
    fn default() -> Self {
        Nodes::with_kinds(KINDS)
    }
}

impl Nodes {
    /// None, of so many kinds at most.
    pub(super) const fn with_kinds(most_kinds: usize) -> Nodes {
        Nodes {
            known: BTreeMap::new(),
            kinds: Vec::new(),
            by_traits: BTreeMap::new(),
            vacant: Vec::new(),
            most_kinds,
            holders: BTreeMap::new(),
            labelled: BTreeMap::new(),
            loose: BTreeSet::new(),
        }
    }

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
        self.join_kind(&view, kind);
        if let Some(kind) = before.as_ref().and_then(|before| before.kind) {
            self.vacate(kind);
        }
        let before = before.map(|before| before.view);
        let held = before.as_ref().map(|before| before.holds.as_slice()).unwrap_or_default();
        if held != view.holds {
            self.let_go(&view.node, held);
            for artifact in &view.holds {
                self.holders.entry(artifact.clone()).or_default().insert(view.node.clone());
            }
        }
        if before.as_ref().map(|before| &before.labels) != Some(&view.labels) {
            if let Some(before) = &before {
                self.unlabel(before);
            }
            for (key, value) in view.labels.iter() {
                let values = self.labelled.entry(key.clone()).or_default();
                values.entry(value.clone()).or_default().insert(view.node.clone());
            }
        }
        while self.by_traits.len() > self.most_kinds && self.loosen() {}
    }

    /// Takes a node out.
    pub fn remove(&mut self, node: &NodeName) {
        let Some(before) = self.known.remove(node) else { return };
        self.leave_kind(&before);
        if let Some(kind) = before.kind {
            self.vacate(kind);
        }
        self.let_go(node, &before.view.holds);
        self.unlabel(&before.view);
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

    /// Whether a label makes no kinds.
    pub(super) fn is_loose(&self, key: &LabelKey) -> bool {
        key.as_str() == NODE_LABEL || self.loose.contains(key)
    }

    /// The nodes that a version's constraints on loose labels name.
    pub(super) fn named<'a>(&'a self, version: &VersionSpec) -> BTreeSet<&'a NodeName> {
        let constraints = version.manifest.placement.constraints.iter();
        let loose = constraints.filter(|constraint| self.is_loose(constraint.key()));
        let values = loose.filter_map(|constraint| Some((constraint, self.labelled.get(constraint.key())?)));
        let named = values
            .flat_map(|(constraint, nodes)| constraint.values().iter().filter_map(|value| nodes.get(value)));
        named.flatten().collect()
    }

    /// Makes the label loose that tells most nodes apart, and sorts all nodes anew. Says whether there was one.
    fn loosen(&mut self) -> bool {
        let values = self.labelled.iter().filter(|(key, values)| values.len() > 1 && !self.is_loose(key));
        let Some((key, _)) = values.max_by_key(|(_, values)| values.len()) else { return false };
        self.loose.insert(key.clone());
        (self.kinds, self.by_traits, self.vacant) = (Vec::new(), BTreeMap::new(), Vec::new());
        for Known { view, .. } in std::mem::take(&mut self.known).into_values() {
            let kind = takes_any(&view).then(|| self.kind_of(&view));
            self.join_kind(&view, kind);
            self.known.insert(view.node.clone(), Known { view, kind });
        }
        true
    }

    fn kind_of(&mut self, view: &NodeView) -> usize {
        let (loose, labels) = view.labels.iter().partition::<Vec<_>, _>(|(key, _)| self.is_loose(key));
        let traits = Traits {
            isolates: view.isolates.clone(),
            taints: view.taints.clone(),
            labels: labels.into_iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
            loose: loose.into_iter().map(|(key, _)| key.clone()).collect(),
        };
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

    fn join_kind(&mut self, view: &Arc<NodeView>, kind: Option<usize>) {
        if let Some(kind) = kind.and_then(|kind| self.kinds.get_mut(kind)) {
            kind.spread.insert(entry(Strategy::Spread, view));
            kind.pack.insert(entry(Strategy::Pack, view));
        }
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

    fn unlabel(&mut self, node: &NodeView) {
        for (key, value) in node.labels.iter() {
            let Some(values) = self.labelled.get_mut(key) else { continue };
            if let Some(nodes) = values.get_mut(value) {
                nodes.remove(&node.node);
                if nodes.is_empty() {
                    values.remove(value);
                }
            }
            if values.is_empty() {
                self.labelled.remove(key);
            }
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

    /// Whether its nodes could run a version, but for those that the version's constraints on loose labels name.
    pub(super) fn could_run(&self, version: &VersionSpec) -> bool {
        let (traits, manifest) = (&self.traits, &version.manifest);
        let holds = |constraint: &Constraint| match traits.loose.contains(constraint.key()) {
            true => constraint.holds_of_others(),
            false => constraint.holds(&traits.labels),
        };
        traits.isolates.contains(&version.isolate)
            && manifest.placement.constraints.iter().all(holds)
            && traits.taints.iter().all(|taint| is_tolerated(taint, manifest))
    }

    /// Their value of a label that is not loose.
    pub(super) fn label(&self, key: &LabelKey) -> Option<&LabelValue> {
        self.traits.labels.get(key)
    }
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
