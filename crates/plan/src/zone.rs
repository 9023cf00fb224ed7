//! Plans one service in one zone: which instances there are to be, what each is to do, and the table that ingresses
//! route by.
//!
//! The plan is level-triggered: it looks only at what is, never at what was done, so it may be cut short, repeated or
//! taken up by another control at any point. Its parts, in the order they are decided:
//!
//! 1. how many workers each version needs, for the weights that serve now and for the ones that are wanted;
//! 2. which instances serve: standing-by ones are taken back before new ones are placed, and where no node has room for
//!    one, others that stand by go early;
//! 3. the weights: the wanted ones once every version in them has its workers ready, else the ones of now, and never
//!    any on a version without a ready instance;
//! 4. what becomes of the instances that are left over: they stand by, then drain once no ingress can still send to
//!    them, then go;
//! 5. the report.

mod deploying;
mod fill;
mod goals;
mod progress;
mod singleton;
mod weights;

pub use singleton::is_leased;

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod tests;

use crate::{
    capacity::{Load, Need, need},
    placement::Nodes,
    room::Spare,
};
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};
use tutti_model::{
    InstanceId, Millis, Resource, Share, Split, Timestamp, VersionName,
    assignment::AssignmentSpec,
    ingress::IngressSpec,
    instance::{Goal, InstanceSpec, InstanceState},
    name::{NodeName, ZoneName},
    report::ReportSpec,
    table::TableSpec,
    version::VersionSpec,
};

/// Pause before a failed instance of a serving version is replaced: a version that cannot start should not keep a node
/// busy with trying.
pub const REPLACE_AFTER: Millis = Millis::seconds(10);

/// Most new instances, most endpoints added to a table, and most instances that make room, in one plan: with the
/// comparisons they need they must fit one transaction.
pub const BATCH: usize = 16;

/// What is known when a service is planned.
#[derive(Debug, Clone, Copy)]
pub struct ServiceView<'a> {
    /// Now.
    pub now: Timestamp,
    /// This zone.
    pub zone: &'a ZoneName,
    /// What was handed down.
    pub assignment: &'a AssignmentSpec,
    /// The table there is.
    pub table: Option<&'a Resource<TableSpec>>,
    /// Every instance of the service.
    pub instances: &'a [&'a Resource<InstanceSpec>],
    /// Every node of the zone, with what is promised to all services.
    pub nodes: &'a Nodes,
    /// Every living ingress.
    pub ingresses: &'a [&'a Resource<IngressSpec>],
    /// What there is to serve now.
    pub load: Load,
    /// Instances of singletons that get no more leases since they are to stop, and since when that is known. It is known
    /// later than it was written, never earlier.
    pub revoked: &'a BTreeMap<InstanceId, Timestamp>,
    /// Instances of all services whose room can be had. They are read only where no node has room, so whoever asks may
    /// leave them out until a plan says that it [lacks](ServicePlan::lacks_room) some.
    pub spares: &'a [Spare<'a>],
}

/// What is to be done for a service.
#[derive(Debug, Clone, PartialEq)]
pub struct ServicePlan {
    /// New instances: what, and where.
    pub create: Vec<NewInstance>,
    /// Whether an instance found no node.
    pub lacks_room: bool,
    /// What found no node, nor will where others stand by or leave: what is to run, and how many, at most [`BATCH`] in
    /// all.
    pub homeless: Vec<(VersionSpec, u32)>,
    /// Standing-by instances of other services whose time is to be over now, to make room; at most [`BATCH`].
    pub make_room: Vec<InstanceId>,
    /// What instances are to do instead of what they do.
    pub goals: Vec<(InstanceId, Goal)>,
    /// Instances that are gone, to be forgotten.
    pub forget: Vec<InstanceId>,
    /// The table, if it is to change.
    pub table: TablePlan,
    /// Instances whose readiness the new table relies on: they must not have changed when it is written.
    pub relies_on: Vec<InstanceId>,
    /// Whether nothing is left of a removed service, so that the assignment may go.
    pub gone: bool,
    /// What to tell the global tier.
    pub report: ReportSpec,
    /// When time alone may change something.
    pub wake: Option<Timestamp>,
}

/// An instance that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewInstance {
    /// What it runs.
    pub version: VersionSpec,
    /// Where.
    pub node: NodeName,
    /// Why there, in one sentence.
    pub placed: String,
}

/// What becomes of the table.
#[derive(Debug, Clone, PartialEq)]
pub enum TablePlan {
    /// It stays.
    Keep,
    /// It is written.
    Put(TableSpec),
    /// It is removed.
    Remove,
}

/// Plans a service.
#[must_use]
pub fn plan_service(view: ServiceView<'_>) -> ServicePlan {
    let mut pass = Pass::new(view);
    pass.fill();
    let weights = weights::decide(&pass);
    goals::retire(&mut pass, &weights);
    progress::conclude(pass, weights)
}

/// One version in one pass.
#[derive(Debug)]
struct VersionPass<'a> {
    spec: Cow<'a, VersionSpec>,
    /// What the weights of now and the wanted ones need, the larger.
    need: Need,
    /// Instances that serve or are to.
    serving: Vec<&'a Resource<InstanceSpec>>,
    /// Instances that have failed.
    failed: Vec<&'a Resource<InstanceSpec>>,
    /// New instances that found no node.
    unplaced: u32,
    /// Those of them for which no room will come either, as far as they were looked at.
    homeless: u32,
}

/// The state of one pass.
#[derive(Debug)]
struct Pass<'a> {
    view: ServiceView<'a>,
    /// The weights that the table holds.
    serving: Split,
    versions: BTreeMap<VersionName, VersionPass<'a>>,
    /// Instances that are to be elsewhere.
    leaving: BTreeSet<&'a InstanceId>,
    /// Instances that are not waited for any more: their nodes are gone, or have been silent for longer than their
    /// manifests' `grace`.
    lost: BTreeSet<InstanceId>,
    /// Instances that go at once, so that the only one can start.
    ousted: BTreeSet<InstanceId>,
    create: Vec<NewInstance>,
    make_room: Vec<InstanceId>,
    goals: BTreeMap<InstanceId, Goal>,
    reasons: Vec<String>,
    wake: Option<Timestamp>,
}

impl<'a> Pass<'a> {
    fn new(view: ServiceView<'a>) -> Self {
        let backends = view.table.map(|table| table.spec.versions()).unwrap_or_default();
        let serving = Split::new(backends.iter().map(|backend| (backend.version.clone(), backend.weight)))
            .unwrap_or_default();
        let evicted = |instance: &&&'a Resource<InstanceSpec>| {
            let node = view.nodes.get(&instance.spec.node);
            node.is_some_and(|node| node.evicts(&instance.spec.manifest).is_some())
        };
        let leaving = view.instances.iter().filter(evicted).map(|instance| &instance.spec.instance).collect();
        let mut wake = None;
        let mut lost = BTreeSet::new();
        for instance in view.instances {
            match lost_at(&view, instance) {
                Some(when) if when <= view.now => {
                    lost.insert(instance.spec.instance.clone());
                }
                Some(when) => wake = earlier(wake, when),
                None => {}
            }
        }
        let specs = specs(&view, &serving);
        let only = singleton::only(&view, &specs);
        let versions = specs.into_iter().map(|(name, spec)| {
            let of_version = |instance: &&&Resource<InstanceSpec>| instance.spec.version.version == name;
            let mine: Vec<_> = view.instances.iter().filter(of_version).copied().collect();
            let share = match &only {
                Some(only) if *only == name => Share::WHOLE,
                // It is not taken back, nor replaced: what is left of it only keeps the only one waiting.
                Some(_) => Share::ZERO,
                None => serving.share(&name).max(view.assignment.split.share(&name)),
            };
            let pass = VersionPass {
                need: need(&spec, share, view.assignment.workers, rising_load(&view, &serving, &name)),
                spec,
                serving: mine
                    .iter()
                    .filter(|instance| is_serving(instance) && !lost.contains(&instance.spec.instance))
                    .copied()
                    .collect(),
                failed: mine.iter().filter(|instance| is_failed(instance)).copied().collect(),
                unplaced: 0,
                homeless: 0,
            };
            (name, pass)
        });
        let versions: BTreeMap<_, _> = versions.collect();
        Pass {
            view,
            serving,
            versions,
            leaving,
            lost,
            ousted: BTreeSet::new(),
            create: Vec::new(),
            make_room: Vec::new(),
            goals: BTreeMap::new(),
            reasons: Vec::new(),
            wake,
        }
    }

    /// What an instance is to do, as far as this pass has decided.
    fn goal(&self, instance: &Resource<InstanceSpec>) -> Goal {
        self.goals.get(&instance.spec.instance).copied().unwrap_or(instance.spec.goal)
    }

    /// Whether an instance can answer now.
    fn is_ready(&self, instance: &Resource<InstanceSpec>) -> bool {
        instance.status.state.answers() && self.view.nodes.is_heard(&instance.spec.node)
    }

    /// Whether an instance is to be replaced by one on another node, and serves until then.
    fn is_leaving(&self, instance: &Resource<InstanceSpec>) -> bool {
        self.leaving.contains(&instance.spec.instance)
    }

    /// The ready instances among those that serve a version.
    fn ready(&self, version: &VersionPass<'a>) -> Vec<&'a Resource<InstanceSpec>> {
        version.serving.iter().filter(|instance| self.is_ready(instance)).copied().collect()
    }

    /// Whether every living ingress has reached the table there is.
    fn is_acknowledged(&self) -> bool {
        let Some(table) = self.view.table else { return true };
        self.view.ingresses.iter().all(|ingress| ingress.status.reached >= table.revision)
    }
}

/// Every version there is something to decide for: those handed down, and those that the table still names. What serves
/// goes on serving until what is to serve instead can, even if nobody hands it down any more.
fn specs<'a>(view: &ServiceView<'a>, serving: &Split) -> BTreeMap<VersionName, Cow<'a, VersionSpec>> {
    if view.assignment.removed {
        return BTreeMap::new();
    }
    let handed_down = view.assignment.versions.iter();
    let mut specs: BTreeMap<VersionName, Cow<'a, VersionSpec>> =
        handed_down.map(|spec| (spec.version.version.clone(), Cow::Borrowed(spec))).collect();
    for instance in view.instances.iter().filter(|instance| is_serving(instance)) {
        let name = &instance.spec.version.version;
        if serving.share(name) > Share::ZERO && !specs.contains_key(name) {
            specs.insert(name.clone(), Cow::Owned(instance.spec.version_spec()));
        }
    }
    specs
}

/// Today's load, for a version whose share is to rise. Of the others it asks for no new instance.
fn rising_load(view: &ServiceView<'_>, serving: &Split, name: &VersionName) -> Load {
    let rises = view.assignment.split.share(name) > serving.share(name);
    if rises { view.load } else { Load::default() }
}

/// When an instance of a node that is not heard counts as lost; `None` while its node is heard. How long a node has been
/// silent stands in the instance itself, so that another control goes on from there.
fn lost_at(view: &ServiceView<'_>, instance: &Resource<InstanceSpec>) -> Option<Timestamp> {
    let Some(node) = view.nodes.get(&instance.spec.node) else { return Some(view.now) };
    if node.heard {
        return None;
    }
    instance.silent_since().map(|since| since.plus(singleton::patience(&instance.spec.manifest)))
}

fn is_serving(instance: &Resource<InstanceSpec>) -> bool {
    use InstanceState as S;
    instance.spec.goal == Goal::Serve
        && !matches!(instance.status.state, S::Failed | S::Draining | S::Stopped)
}

fn is_standing_by(instance: &Resource<InstanceSpec>) -> bool {
    use InstanceState as S;
    matches!(instance.spec.goal, Goal::Standby { .. })
        && !matches!(instance.status.state, S::Failed | S::Draining | S::Stopped)
}

fn is_asleep(instance: &Resource<InstanceSpec>) -> bool {
    instance.status.state == InstanceState::Asleep
}

fn is_failed(instance: &Resource<InstanceSpec>) -> bool {
    instance.status.state == InstanceState::Failed && instance.spec.goal.runs()
}

/// The earlier of a moment that may be there and one that is.
fn earlier(known: Option<Timestamp>, other: Timestamp) -> Option<Timestamp> {
    Some(known.map_or(other, |known| known.min(other)))
}
