//! What a domain's quota is compared with: how much a service asks for, and whether more of it fits.
//!
//! While a deployment runs, what it replaces serves beside what it brings. So each version counts with the largest
//! share that it has before the deployment or at any of its steps: a deployment that was admitted fits at every step,
//! and on the way back. What stands by or drains is not counted, nor is a service that is being deleted.

use crate::{
    capacity::{Load, need},
    handdown::workers_at_rest,
    scaling::workers,
};
use std::collections::BTreeMap;
use tutti_model::{
    Share, Split, VersionName,
    assignment::{AssignmentSpec, Scaled},
    deployment::DeploymentSpec,
    quantity::{ByteSize, MilliCpu},
    quota::{Limits, Usage},
    service::ServiceSpec,
    version::VersionSpec,
};

/// The largest share that each version of a service has: now, and at any step of a deployment that began with `from`.
#[must_use]
pub fn peak_shares(
    now: &Split,
    deployment: Option<(&DeploymentSpec, &Split)>,
) -> BTreeMap<VersionName, Share> {
    let steps = deployment.into_iter().flat_map(|(spec, from)| {
        let steps = (0..spec.target.steps()).map(move |step| spec.target.split(from, step));
        steps.chain(std::iter::once(from.clone()))
    });
    let mut peaks: BTreeMap<VersionName, Share> = BTreeMap::new();
    for split in steps.chain(std::iter::once(now.clone())) {
        for (version, share) in split.iter().filter(|(_, share)| *share > Share::ZERO) {
            let peak = peaks.entry(version.clone()).or_insert(share);
            *peak = (*peak).max(share);
        }
    }
    peaks
}

/// What a service asks for at most, with these versions at these shares.
#[must_use]
pub fn asked(service: &ServiceSpec, versions: &[(&VersionSpec, Share)]) -> Usage {
    if !service.upstreams.is_empty() {
        return Usage::default();
    }
    served(workers_at_rest(service, versions.iter().map(|(version, _)| *version)), versions)
}

/// What so many workers at a service's whole traffic come to.
fn served(workers: u32, versions: &[(&VersionSpec, Share)]) -> Usage {
    let of = versions.iter().map(|(version, share)| {
        let instances = need(version, *share, workers, Load::default()).workers;
        let manifest = &version.manifest;
        Usage {
            instances,
            cpu: MilliCpu(manifest.cpu.0.saturating_mul(instances)),
            memory: ByteSize(manifest.memory.0.saturating_mul(u64::from(instances))),
            versions: 0,
        }
    });
    of.fold(Usage::default(), Usage::and)
}

/// What a service has in its zone, or would have with so many workers.
#[must_use]
pub fn had(assignment: &AssignmentSpec, workers: u32) -> Usage {
    if assignment.removed {
        return Usage::default();
    }
    let share = |version: &VersionName| assignment.split.share(version).max(assignment.from.share(version));
    let versions = assignment.versions.iter().map(|version| (version, share(&version.version.version)));
    served(workers, &versions.collect::<Vec<_>>())
}

/// The most workers from `now` to `wanted` with which a service fits beside the `others` of its domain, and what is in
/// the way of more. What there is now stays, whatever the limits.
fn allowed(
    limits: &Limits,
    others: Usage,
    assignment: &AssignmentSpec,
    now: u32,
    wanted: u32,
) -> (u32, Option<Exceeded>) {
    let with = |workers| others.and(had(assignment, workers));
    let before = with(now);
    let mut most = now;
    for workers in now.saturating_add(1)..=wanted {
        if let Some(over) = exceeded(limits, &before, &with(workers)) {
            return (most, Some(over));
        }
        most = workers;
    }
    (most, None)
}

/// What becomes of a service that its load is to have served by `wanted`, within the quota of its domain beside what the
/// `others` have; nothing if that is what it has, and why was said.
#[must_use]
pub fn within(
    limits: &Limits,
    others: Usage,
    assignment: &AssignmentSpec,
    scaled: Option<&Scaled>,
    wanted: Scaled,
) -> Option<Scaled> {
    let now = workers(assignment, scaled);
    let (most, over) = allowed(limits, others, assignment, now, wanted.workers);
    let Some(over) = over else { return Some(wanted) };
    let domain = &assignment.service.domain;
    let limit = format!("the quota of domain {domain} allows {} {}", over.most, over.what);
    if most > now {
        let why = format!("{}; no more, since {limit}", wanted.why);
        return Some(Scaled { workers: most, at: wanted.at, why });
    }
    // Said once, and without the load, which differs from look to look.
    let is_said = scaled.is_some_and(|said| said.why == limit);
    (!is_said).then_some(Scaled { workers: now, at: wanted.at, why: limit })
}

/// A limit that is in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exceeded {
    /// What is limited, in the plural.
    pub what: &'static str,
    /// The most.
    pub most: String,
    /// What is in use.
    pub used: String,
    /// How much more is asked for.
    pub more: String,
}

/// The first limit that a change would go above. What does not rise is not refused, however low the limit is: a quota
/// that is lowered takes nothing away.
#[must_use]
pub fn exceeded(limits: &Limits, before: &Usage, after: &Usage) -> Option<Exceeded> {
    let over = |most: Option<u64>, before: u64, after: u64| {
        most.filter(|most| after > *most && after > before).map(|most| (most, before, after - before))
    };
    let number = |what, (most, used, more): (u64, u64, u64)| Exceeded {
        what,
        most: most.to_string(),
        used: used.to_string(),
        more: more.to_string(),
    };
    let cpu = |(most, used, more): (u64, u64, u64)| {
        let text = |milli: u64| MilliCpu(u32::try_from(milli).unwrap_or(u32::MAX)).to_string();
        Exceeded { what: "cpu", most: text(most), used: text(used), more: text(more) }
    };
    let memory = |(most, used, more): (u64, u64, u64)| {
        let text = |bytes: u64| ByteSize(bytes).to_string();
        Exceeded { what: "memory", most: text(most), used: text(used), more: text(more) }
    };
    let wide = |number: Option<u32>| number.map(u64::from);
    over(wide(limits.versions), before.versions.into(), after.versions.into())
        .map(|over| number("versions", over))
        .or_else(|| {
            over(wide(limits.instances), before.instances.into(), after.instances.into())
                .map(|over| number("instances", over))
        })
        .or_else(|| {
            over(limits.cpu.map(|cpu| cpu.0.into()), before.cpu.0.into(), after.cpu.0.into()).map(cpu)
        })
        .or_else(|| over(limits.memory.map(|memory| memory.0), before.memory.0, after.memory.0).map(memory))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::fixtures::version;
    use proptest::prelude::*;
    use tutti_model::{
        DeploymentId, Millis, Timestamp,
        deployment::{Intent, Target},
    };

    fn service(workers: Option<u32>) -> ServiceSpec {
        ServiceSpec { service: "example.com:web".parse().unwrap(), upstreams: Vec::new(), workers }
    }

    fn deployment(target: Target) -> DeploymentSpec {
        DeploymentSpec {
            deployment: DeploymentId::from_bits(1),
            service: "example.com:web".parse().unwrap(),
            target,
            every: Millis(0),
            abort_if: Vec::new(),
            intent: Intent::Proceed,
            promoted: 0,
        }
    }

    fn usage(instances: u32) -> Usage {
        Usage { instances, ..Usage::default() }
    }

    #[test]
    fn a_deployment_counts_what_it_replaces_and_what_it_brings_at_its_largest_step() {
        let (old, new) = (version("1.0"), version("2.0"));
        let from = Split::all(old.version.version.clone());
        let steps = ["10%", "50%"].map(|share| share.parse().unwrap()).to_vec();
        let spec = deployment(Target::Version { version: new.version.version.clone(), steps });
        let peaks = peak_shares(&from, Some((&spec, &from)));
        let versions = [(&old, peaks[&old.version.version]), (&new, peaks[&new.version.version])];
        let used = asked(&service(Some(4)), &versions);
        assert_eq!((used.instances, used.cpu, used.memory), (6, MilliCpu(600), ByteSize::mib(6 * 128)));
    }

    #[test]
    fn load_brings_no_more_workers_than_the_domain_may_have() {
        let version = version("1.0");
        let spec = AssignmentSpec {
            service: version.version.service.clone(),
            handed_down: 1,
            round: 1,
            matches: Vec::new(),
            split: Split::all(version.version.version.clone()),
            hold: false,
            versions: vec![version],
            preload: None,
            upstreams: Vec::new(),
            workers: 1,
            scales: true,
            deployment: None,
            from: Split::empty(),
            removed: false,
        };
        let limits = Limits { instances: Some(5), ..Limits::default() };
        let (most, over) = allowed(&limits, usage(2), &spec, 1, 9);
        assert_eq!((most, over.unwrap().most), (3, "5".to_owned()));
        assert_eq!(allowed(&limits, usage(2), &spec, 1, 3), (3, None));
        assert_eq!(allowed(&limits, usage(9), &spec, 2, 4).0, 2, "what there is stays");
        let wanted = |workers| Scaled { workers, at: Timestamp(7), why: "load".into() };
        let kept = within(&limits, usage(2), &spec, None, wanted(9)).unwrap();
        assert_eq!(kept.workers, 3);
        assert_eq!(kept.why, "load; no more, since the quota of domain example.com allows 5 instances");
        let full = within(&limits, usage(2), &spec, Some(&kept), wanted(9)).unwrap();
        assert_eq!(full.why, "the quota of domain example.com allows 5 instances");
        assert_eq!(within(&limits, usage(2), &spec, Some(&full), wanted(8)), None, "it is said once");
        assert_eq!(within(&limits, usage(2), &spec, Some(&full), wanted(2)), Some(wanted(2)));
        let memory = Limits { memory: Some(ByteSize::mib(300)), ..Limits::default() };
        assert_eq!(allowed(&memory, Usage::default(), &spec, 1, 9).0, 2);
    }

    #[test]
    fn what_does_not_rise_is_never_refused() {
        let limits = Limits { instances: Some(2), ..Limits::default() };
        assert_eq!(exceeded(&limits, &usage(5), &usage(5)), None);
        assert_eq!(exceeded(&limits, &usage(5), &usage(4)), None);
        let over = exceeded(&limits, &usage(2), &usage(5)).unwrap();
        let texts = (over.what, over.most.as_str(), over.used.as_str(), over.more.as_str());
        assert_eq!(texts, ("instances", "2", "2", "3"));
        assert_eq!(exceeded(&Limits::default(), &usage(0), &usage(u32::MAX)), None);
    }

    proptest! {
        #[test]
        fn no_step_asks_for_more_than_was_admitted(workers in 1u32..40, steps in proptest::collection::vec(1u32..=100, 1..6)) {
            let (old, new) = (version("1.0"), version("2.0"));
            let from = Split::all(old.version.version.clone());
            let mut shares: Vec<Share> = steps.iter().map(|step| Share::from_millionths(step * 10_000)).collect();
            shares.sort();
            let spec = deployment(Target::Version { version: new.version.version.clone(), steps: shares.clone() });
            let peaks = peak_shares(&from, Some((&spec, &from)));
            let of = |split: &Split| {
                let versions = [&old, &new].map(|it| (it, split.share(&it.version.version)));
                asked(&service(Some(workers)), &versions).instances
            };
            let versions = [&old, &new].map(|it| (it, peaks[&it.version.version]));
            let admitted = asked(&service(Some(workers)), &versions).instances;
            for step in 0..shares.len() {
                prop_assert!(of(&spec.target.split(&from, step)) <= admitted);
            }
            prop_assert!(of(&from) <= admitted);
            prop_assert!(admitted <= 2 * workers);
        }

        #[test]
        fn what_is_let_in_fits_or_does_not_rise(most in 0u32..10, before in 0u32..12, after in 0u32..12) {
            let limits = Limits { instances: Some(most), ..Limits::default() };
            let fits = exceeded(&limits, &usage(before), &usage(after)).is_none();
            prop_assert_eq!(fits, after <= most || after <= before);
        }
    }
}
