//! Which machines of a pool go: those above its most, and the emptiest of those that nothing has needed for long.

use super::{Pass, wide};
use crate::placement::{Draft, place};
use std::collections::BTreeMap;
use tutti_model::{
    Timestamp, VersionRef,
    instance::{Goal, InstanceSpec},
    name::NodeName,
    pool::MachineState,
    version::VersionSpec,
};

/// Lets go what is not to be.
pub(super) fn retire(pass: &mut Pass<'_>) {
    rehome_what_drains(pass);
    for at in 0..pass.pools.len() {
        above_the_most(pass, at);
        unawaited(pass, at);
        idle(pass, at);
    }
}

/// What drains already needs room elsewhere, which nobody else can count on.
fn rehome_what_drains(pass: &mut Pass<'_>) {
    let draining: Vec<NodeName> =
        pass.nodes.iter().filter(|node| node.draining).map(|node| node.node.clone()).collect();
    for node in draining {
        for version in serving(pass, &node).unwrap_or_default() {
            // What finds no room stays there, and takes none from others.
            let _ = place(&version, 1, &mut pass.nodes, &mut BTreeMap::new());
        }
    }
}

/// What serves on a node and has to serve elsewhere when it goes; `None` if something stands by or drains there, which
/// goes by itself, and until then a rollback may want it; or if a singleton runs there, which would have to stop for it.
fn serving(pass: &Pass<'_>, node: &NodeName) -> Option<Vec<VersionSpec>> {
    let here = pass.view.instances.iter().filter(|instance| instance.spec.node == *node);
    let here: Vec<_> = here.filter(|instance| instance.spec.goal != Goal::Stop).collect();
    let moves = |spec: &InstanceSpec| spec.goal == Goal::Serve && !spec.manifest.singleton;
    here.iter()
        .all(|instance| moves(&instance.spec))
        .then(|| here.iter().map(|instance| instance.spec.version_spec()).collect())
}

/// The nodes as they would be if this one were empty; `None` if not all that it runs would fit elsewhere.
fn without<'a>(pass: &Pass<'a>, node: &NodeName) -> Option<Draft<'a>> {
    let serving = serving(pass, node)?;
    let mut nodes = pass.nodes.clone();
    nodes.remove(node);
    let mut spread: BTreeMap<&VersionRef, BTreeMap<NodeName, u32>> = BTreeMap::new();
    for version in &serving {
        let placed = place(version, 1, &mut nodes, spread.entry(&version.version).or_default());
        // One that would only fit a machine that is not there yet does not fit.
        let is_there = |node: &NodeName| pass.view.nodes.get(node).is_some_and(|known| known.ready);
        if !placed.nodes.first().is_some_and(is_there) {
            return None;
        }
    }
    Some(nodes)
}

/// How much is promised on a node, to tell which is the emptiest.
fn fullness(pass: &Pass<'_>, name: &NodeName) -> (u64, u32) {
    pass.nodes.get(name).map_or((0, 0), |node| (node.promised.memory.0, node.promised.cpu.0))
}

/// An admin said that there are to be fewer: the emptiest go, wherever what they run finds room. What finds none runs on
/// where it is until it does.
fn above_the_most(pass: &mut Pass<'_>, at: usize) {
    let now = pass.view.now;
    loop {
        let Some(pool) = pass.pools.get(at) else { return };
        let most = if pool.is_going() { 0 } else { wide(pool.pool.spec.max) };
        if pool.active() <= most {
            return;
        }
        let machines = pool.plan.machines.iter().enumerate();
        let active = machines.filter(|(_, it)| it.state.is_coming() || it.state == MachineState::Joined);
        let first = active.min_by_key(|(_, it)| {
            (it.state == MachineState::Joined, fullness(pass, &it.name), it.name.clone())
        });
        let Some((index, machine)) = first else { return };
        let (name, is_joined) = (machine.name.clone(), machine.state == MachineState::Joined);
        let why = match pool.is_going() {
            true => "the pool is removed".to_owned(),
            false => format!("the pool has at most {most}"),
        };
        go(pass, at, index, now, (is_joined.then_some(name), why));
    }
}

/// Machines on their way that nothing waits for any more.
fn unawaited(pass: &mut Pass<'_>, at: usize) {
    let now = pass.view.now;
    let Some(pool) = pass.pools.get_mut(at) else { return };
    let idle = pool.pool.spec.idle;
    for index in 0..pool.plan.machines.len() {
        let spare = pool.active() > wide(pool.pool.spec.min);
        let Some(machine) = pool.plan.machines.get_mut(index) else { continue };
        if !machine.state.is_coming() {
            continue;
        }
        let is_needed = pool.awaited.contains(&machine.name) || !spare;
        machine.idle_since = if is_needed { None } else { machine.idle_since.or(Some(now)) };
        if machine.idle_since.is_some_and(|since| now.since(since) >= idle) {
            pool.set(index, MachineState::Removing, now, "nothing waits for it any more");
        }
    }
}

/// Notes which machines nothing needs, and drains the emptiest of those that nothing has needed for long: one at a time,
/// since what it runs has to find its new place before anything is known of the next.
fn idle(pass: &mut Pass<'_>, at: usize) {
    let now = pass.view.now;
    let Some(pool) = pass.pools.get(at) else { return };
    let spec = &pool.pool.spec;
    let spare = pool.active() > wide(spec.min) && !pool.is_wanted && pool.plan.make.is_empty();
    let joined: Vec<(usize, NodeName)> = pool
        .plan
        .machines
        .iter()
        .enumerate()
        .filter(|(_, machine)| machine.state == MachineState::Joined)
        .map(|(index, machine)| (index, machine.name.clone()))
        .collect();
    let idle_for = spec.idle;
    let mut going: Vec<(usize, NodeName)> = Vec::new();
    for (index, name) in joined {
        let is_idle = spare && without(pass, &name).is_some();
        let Some(pool) = pass.pools.get_mut(at) else { return };
        let Some(machine) = pool.plan.machines.get_mut(index) else { continue };
        machine.idle_since = if is_idle { machine.idle_since.or(Some(now)) } else { None };
        if machine.idle_since.is_some_and(|since| now.since(since) >= idle_for) {
            going.push((index, name));
        }
    }
    let Some(pool) = pass.pools.get(at) else { return };
    let drains = pool.plan.machines.iter().any(|machine| machine.state == MachineState::Draining);
    let emptiest = going.into_iter().min_by_key(|(_, name)| (fullness(pass, name), name.clone()));
    if let Some((index, name)) = emptiest.filter(|_| !drains) {
        if let Some(nodes) = without(pass, &name) {
            pass.nodes = nodes;
        }
        go(pass, at, index, now, (Some(name), format!("nothing has needed it for {idle_for}")));
    }
}

/// A machine goes: at once, or if it is a node by draining.
fn go(pass: &mut Pass<'_>, at: usize, index: usize, now: Timestamp, (node, why): (Option<NodeName>, String)) {
    let Some(pool) = pass.pools.get_mut(at) else { return };
    match node {
        Some(node) => {
            pool.set(index, MachineState::Draining, now, why);
            pool.plan.keep.retain(|kept| *kept != node);
            if let Some(view) = pass.nodes.get_mut(&node) {
                (view.cordoned, view.draining) = (true, true);
            }
            pool.plan.drain.push(node);
        }
        None => pool.set(index, MachineState::Removing, now, why),
    }
}
