//! How many workers are to serve a service's whole traffic, by what it is asked for: more at once, fewer with care.
//!
//! Two windows of the same figures are looked at. The long one says what the service needs, and it follows it; the short
//! one tells a burst, which is not waited for. Less is done only after the long window has been seen whole and some time
//! has passed since the last change, and never by more than half at once, so that a load that comes and goes moves
//! nothing.

use tutti_model::{
    Millis, Share, Timestamp,
    assignment::{AssignmentSpec, Scaled},
    manifest::Manifest,
    version::VersionSpec,
};

/// The long window: as long as people mean by "a minute's load" (Knative's stable window is the same).
pub const LONG: Millis = Millis::seconds(60);
/// The short window: a tenth of it.
pub const SHORT: Millis = Millis::seconds(6);
/// How often a service with more workers than it has at rest is looked at.
const AGAIN: Millis = Millis::seconds(10);
/// What one worker is to have of the requests that it may serve at once, in thousandths: the rest is for the moments in
/// which load is not spread evenly.
const TARGET_PER_MILLE: u64 = 700;
/// How much less than the next lower number of workers must do before there are that few, in thousandths.
const SLACK_PER_MILLE: u64 = 900;

/// What was asked of a service within a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rate {
    /// Requests that ran at once, on average, in thousandths.
    pub running: u64,
    /// Requests answered in a second, on average, in thousandths.
    pub answers: u64,
}

/// What is asked of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// Within the [`LONG`] window.
    pub long: Rate,
    /// Within the [`SHORT`] one.
    pub short: Rate,
    /// Since when it is known: a control that has just begun does not take silence for rest.
    pub since: Timestamp,
}

/// What is known when a service is scaled.
#[derive(Debug, Clone, Copy)]
pub struct ScalingView<'a> {
    /// Now.
    pub now: Timestamp,
    /// What was handed down.
    pub assignment: &'a AssignmentSpec,
    /// What was decided last.
    pub scaled: Option<&'a Scaled>,
    /// What is asked.
    pub demand: &'a Demand,
}

/// What becomes of a service's workers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scaling {
    /// What is decided, if that is new.
    pub change: Option<Scaled>,
    /// When time alone may change something.
    pub wake: Option<Timestamp>,
}

/// The workers that serve a service's whole traffic now.
#[must_use]
pub fn workers(assignment: &AssignmentSpec, scaled: Option<&Scaled>) -> u32 {
    match scaled {
        Some(scaled) if assignment.scales => scaled.workers.clamp(assignment.workers, most(assignment)),
        _ => assignment.workers,
    }
}

/// Decides how many there are to be.
#[must_use]
pub fn scale(view: ScalingView<'_>) -> Scaling {
    let ScalingView { now, assignment, scaled, demand } = view;
    if !assignment.scales || assignment.removed {
        return Scaling::default();
    }
    let (least, most) = (assignment.workers, most(assignment));
    let current = workers(assignment, scaled);
    let needed = |rate: Rate| needed(assignment, rate);
    let (long, short) = (needed(demand.long), needed(demand.short));
    let wake = (current > least).then(|| now.plus(AGAIN));
    let change = |workers: u32, of: Need, over: Millis| {
        let workers = workers.clamp(least, most);
        let bound =
            if of.workers > most { format!("; at most {most} by its manifest") } else { String::new() };
        let why = format!("{} over the last {over}{bound}", of.why);
        let wake = (workers > least).then(|| now.plus(AGAIN)).or(wake);
        (workers != current).then_some(Scaling { change: Some(Scaled { workers, at: now, why }), wake })
    };
    let unchanged = Scaling { change: None, wake };
    if short.workers >= current.saturating_mul(2) {
        let (more, over) = if long.workers >= short.workers { (long, LONG) } else { (short, SHORT) };
        return change(more.workers, more, over).unwrap_or(unchanged);
    }
    if long.workers > current {
        return change(long.workers, long, LONG).unwrap_or(unchanged);
    }
    let seen_whole = demand.since.plus(LONG) <= now;
    let rested = scaled.is_none_or(|scaled| scaled.at.plus(LONG) <= now);
    if current > least && seen_whole && rested && short.workers < current {
        let with_slack = needed_for(assignment, demand.long, SLACK_PER_MILLE);
        let fewer = with_slack.max(long.workers).max(current.div_ceil(2));
        if fewer < current {
            return change(fewer, long, LONG).unwrap_or(unchanged);
        }
    }
    unchanged
}

/// The most that any version with a share may have.
fn most(assignment: &AssignmentSpec) -> u32 {
    serving(assignment).map(|version| version.manifest.max).max().unwrap_or(0).max(assignment.workers)
}

/// The versions that have a share of the traffic.
fn serving(assignment: &AssignmentSpec) -> impl Iterator<Item = &VersionSpec> {
    let has_share = |version: &&VersionSpec| assignment.split.share(&version.version.version) > Share::ZERO;
    assignment.versions.iter().filter(has_share)
}

/// How many are needed, and by what.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Need {
    workers: u32,
    why: String,
}

/// The workers that any version with a share would need for all of it: each gets its share of them.
fn needed(assignment: &AssignmentSpec, rate: Rate) -> Need {
    let needs = serving(assignment).map(|version| by_manifest(&version.manifest, rate, 1000));
    let none = || Need { workers: 0, why: "nothing is asked of it".into() };
    needs.max_by_key(|need| need.workers).unwrap_or_else(none)
}

fn needed_for(assignment: &AssignmentSpec, rate: Rate, of_target: u64) -> u32 {
    serving(assignment)
        .map(|version| by_manifest(&version.manifest, rate, of_target).workers)
        .max()
        .unwrap_or(0)
}

/// The workers that a manifest asks for, each with so many thousandths of its target.
fn by_manifest(manifest: &Manifest, rate: Rate, of_target: u64) -> Need {
    let ceil = |rate: u64, target: u64| {
        let target = (target * of_target / 1000).max(1);
        u32::try_from(rate.div_ceil(target)).unwrap_or(u32::MAX)
    };
    let target = match manifest.scale.concurrency {
        Some(target) => u64::from(target) * 1000,
        None => u64::from(manifest.concurrency) * TARGET_PER_MILLE,
    };
    let by_running = ceil(rate.running, target);
    let running = |what: String| format!("{} requests at once, {what} to a worker", tenths(rate.running));
    match manifest.scale.rps.map(|rps| (rps, ceil(rate.answers, u64::from(rps) * 1000))) {
        Some((rps, by_rate)) if by_rate > by_running => {
            let why = format!("{} requests a second, {rps} to a worker", tenths(rate.answers));
            Need { workers: by_rate, why }
        }
        _ => Need { workers: by_running, why: running(tenths(target)) },
    }
}

/// Thousandths, as people read them.
fn tenths(thousandths: u64) -> String {
    match (thousandths / 1000, thousandths % 1000 / 100) {
        (whole, 0) => whole.to_string(),
        (whole, tenth) => format!("{whole}.{tenth}"),
    }
}

#[cfg(test)]
mod tests;
