//! What becomes of instances that no longer serve: they stand by for a rollback, drain once nobody can still send to
//! them, and are forgotten when they are gone.

use super::{Pass, VersionPass, earlier, is_asleep, is_failed, is_serving, is_standing_by, weights::Weights};
use crate::{
    capacity::{Load, need},
    room::stands_by_since,
};
use std::collections::BTreeMap;
use tutti_model::{
    Millis, Resource, Share, Timestamp,
    instance::{Goal, InstanceSpec, InstanceState},
    name::VersionName,
};

/// How often a service with more instances than its workers is looked at for its load having gone: seldom beside how
/// fast a load changes, often beside how long an instance stands by.
const LOAD_AGAIN: Millis = Millis::seconds(30);

/// Decides the goals of all instances that are not to serve.
pub(super) fn retire(pass: &mut Pass<'_>, weights: &Weights) {
    for instance in surplus(pass, weights) {
        let goal = after_serving(pass, instance);
        pass.goals.insert(instance.spec.instance.clone(), goal);
    }
    if is_held_by_load(pass) {
        pass.wake = earlier(pass.wake, pass.view.now.plus(LOAD_AGAIN));
    }
    bound_standby(pass);
    leave_at_once(pass);
    for instance in pass.view.instances {
        if let Some(goal) = given_up(pass, instance).or_else(|| onward(pass, instance, weights)) {
            pass.goals.insert(instance.spec.instance.clone(), goal);
        }
    }
}

/// Instances that are to serve but are not needed. As long as the weights have not arrived, what serves now stays.
fn surplus<'a>(pass: &Pass<'a>, weights: &Weights) -> Vec<&'a Resource<InstanceSpec>> {
    let mut surplus = Vec::new();
    for instance in pass.view.instances.iter().filter(|instance| is_serving(instance)) {
        if !pass.versions.contains_key(&instance.spec.version.version) {
            surplus.push(*instance);
        }
    }
    for (name, version) in &pass.versions {
        let share = if weights.arrived {
            pass.view.assignment.split.share(name)
        } else {
            pass.serving.share(name).max(pass.view.assignment.split.share(name))
        };
        let kept = usize::try_from(kept(pass, version, share)).unwrap_or(usize::MAX);
        let (leaving, mut candidates): (Vec<_>, Vec<_>) =
            version.serving.iter().copied().partition(|instance| pass.is_leaving(instance));
        // As many are held on nodes that drain as have no ready one elsewhere yet; those first that can serve.
        let elsewhere = candidates.iter().filter(|instance| pass.is_ready(instance)).count();
        let mut leaving = leaving;
        leaving.sort_by_key(|instance| (!pass.is_ready(instance), &instance.name));
        surplus.extend(leaving.into_iter().skip(kept.saturating_sub(elsewhere)));
        let extra = candidates.len().saturating_sub(kept);
        // First what is not ready, then what sleeps, then the youngest.
        candidates.sort_by_key(|instance| {
            (
                pass.is_ready(instance),
                !is_asleep(instance),
                std::cmp::Reverse((instance.created_at, &instance.name)),
            )
        });
        surplus.extend(candidates.into_iter().take(extra));
    }
    surplus
}

/// How many of a version's instances stay while it has this share: as many as it needs, and no fewer than twice today's
/// load asks for. A load that comes and goes must not start and retire an instance each time.
fn kept(pass: &Pass<'_>, version: &VersionPass<'_>, share: Share) -> u32 {
    let load = Load { running: pass.view.load.running.saturating_mul(2) };
    need(&version.spec, share, pass.view.assignment.workers, load).workers
}

/// Whether an instance stays for the load alone. Nothing tells when the load has gone, so it is looked at again.
fn is_held_by_load(pass: &Pass<'_>) -> bool {
    let plain = |name, version: &VersionPass<'_>| {
        let share = pass.serving.share(name).max(pass.view.assignment.split.share(name));
        need(&version.spec, share, pass.view.assignment.workers, Load::default()).workers
    };
    let more = |name, version: &VersionPass<'_>| {
        u32::try_from(version.serving.len()).unwrap_or(u32::MAX) > plain(name, version)
    };
    pass.view.load.running > 0 && pass.versions.iter().any(|(name, version)| more(name, version))
}

/// What an instance that served does next.
fn after_serving(pass: &Pass<'_>, instance: &Resource<InstanceSpec>) -> Goal {
    let is_ousted = pass.ousted.contains(&instance.spec.instance);
    if pass.view.assignment.removed || pass.is_leaving(instance) || is_ousted {
        return Goal::Standby { until: pass.view.now };
    }
    if !pass.is_ready(instance) {
        return Goal::Stop;
    }
    Goal::Standby { until: pass.view.now.plus(instance.spec.manifest.standby) }
}

/// What stands by on a node that drains goes now: nothing is to come back there.
fn leave_at_once(pass: &mut Pass<'_>) {
    for instance in pass.view.instances {
        if !pass.is_leaving(instance) {
            continue;
        }
        if matches!(pass.goal(instance), Goal::Standby { until } if until > pass.view.now) {
            pass.goals.insert(instance.spec.instance.clone(), Goal::Standby { until: pass.view.now });
        }
    }
}

/// At most twice the service's workers stand by, so that redeploying often cannot fill a node: beyond that, the ones
/// ones that have stood by longest go early, and before all others those that no rollback of the running deployment
/// returns to. Nothing stands by for a service that is removed.
fn bound_standby(pass: &mut Pass<'_>) {
    let most = if pass.view.assignment.removed { 0 } else { pass.view.assignment.workers.saturating_mul(2) };
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let mut standing_by: Vec<_> = pass
        .view
        .instances
        .iter()
        .filter_map(|instance| match pass.goal(instance) {
            Goal::Standby { until } if until > pass.view.now => {
                Some((stands_by_since(until, instance), instance))
            }
            _ => None,
        })
        .collect();
    standing_by.sort_by_key(|(since, instance)| (std::cmp::Reverse(*since), &instance.name));
    let (returned_to, others) =
        split_returned_to(pass, standing_by.into_iter().map(|(_, instance)| *instance));
    let in_order = returned_to.into_iter().chain(others);
    let early: Vec<_> = in_order.skip(most).map(|instance| instance.spec.instance.clone()).collect();
    for id in early {
        pass.goals.insert(id, Goal::Standby { until: pass.view.now });
    }
}

/// Parts instances, in their order, into as many of each version as the running deployment needs to be rolled back, and
/// all others.
fn split_returned_to<'a>(
    pass: &Pass<'_>,
    instances: impl Iterator<Item = &'a Resource<InstanceSpec>>,
) -> (Vec<&'a Resource<InstanceSpec>>, Vec<&'a Resource<InstanceSpec>>) {
    let assignment = pass.view.assignment;
    let mut left: BTreeMap<&VersionName, u32> = BTreeMap::new();
    if assignment.deployment.is_some() {
        left.extend(
            assignment.from.iter().map(|(version, share)| (version, share.workers(assignment.workers))),
        );
    }
    instances.partition(|instance| match left.get_mut(&instance.spec.version.version) {
        Some(left) if *left > 0 => {
            *left -= 1;
            true
        }
        _ => false,
    })
}

/// An instance that is lost is to stop, should its node come back, once others do its work: what comes back goes by
/// today's state. Before that it is welcome. One that was on its way out anyway is given up at once, and so is one that
/// keeps a singleton from being started elsewhere.
fn given_up(pass: &Pass<'_>, instance: &Resource<InstanceSpec>) -> Option<Goal> {
    if !pass.lost.contains(&instance.spec.instance) || instance.spec.goal == Goal::Stop {
        return None;
    }
    let replaced = match instance.spec.goal {
        _ if pass.ousted.contains(&instance.spec.instance) => true,
        Goal::Serve => pass.versions.get(&instance.spec.version.version).is_none_or(|version| {
            pass.ready(version).len() >= usize::try_from(version.need.workers).unwrap_or(usize::MAX)
        }),
        Goal::Standby { until } => until <= pass.view.now,
        Goal::Drain | Goal::Stop => true,
    };
    // It leaves the table first, like everyone who stops.
    (replaced && !in_table(pass, instance)).then_some(Goal::Stop)
}

/// The next goal of an instance that is on its way out, if it is time for it.
fn onward(pass: &mut Pass<'_>, instance: &Resource<InstanceSpec>, weights: &Weights) -> Option<Goal> {
    let id = &instance.spec.instance;
    match pass.goal(instance) {
        Goal::Standby { until } => {
            if is_failed(instance) {
                return Some(Goal::Stop);
            }
            if pass.view.now < until {
                pass.wake = earlier(pass.wake, until);
                return None;
            }
            // Only once it stands by in the store, and no ingress can hold a table that names it.
            let stored = is_standing_by(instance)
                && pass.goals.get(id).is_none_or(|goal| matches!(goal, Goal::Standby { .. }));
            let unreachable =
                !weights.endpoints.contains(id) && !in_table(pass, instance) && pass.is_acknowledged();
            (stored && unreachable).then_some(Goal::Drain)
        }
        // A failed instance is kept while its deployment must still learn of it, and otherwise until it is replaced.
        Goal::Serve if is_failed(instance) => {
            let until = instance.status.since.plus(super::REPLACE_AFTER);
            let needed = pass.view.assignment.split.share(&instance.spec.version.version) > Share::ZERO;
            if pass.is_on_trial(&instance.spec.version.version) {
                return None;
            }
            if needed && pass.view.now < until {
                pass.wake = earlier(pass.wake, until);
                return None;
            }
            Some(Goal::Stop)
        }
        Goal::Drain => {
            // An agent keeps the deadline itself; this is for one that does not answer.
            let deadline: Timestamp =
                instance.status.since.plus(instance.spec.manifest.drain).plus(Millis::seconds(10));
            if instance.status.state != InstanceState::Draining {
                return None;
            }
            if pass.view.now < deadline {
                pass.wake = earlier(pass.wake, deadline);
                return None;
            }
            Some(Goal::Stop)
        }
        Goal::Serve | Goal::Stop => None,
    }
}

fn in_table(pass: &Pass<'_>, instance: &Resource<InstanceSpec>) -> bool {
    let backends = pass.view.table.map(|table| table.spec.versions()).unwrap_or_default();
    backends
        .iter()
        .flat_map(|backend| &backend.endpoints)
        .any(|endpoint| endpoint.instance == instance.spec.instance)
}
