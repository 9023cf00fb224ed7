//! Bugs planted on purpose: the test of the test. Each is one that somebody could really make; the simulation has to find
//! it, by the check that is there for it.
//!
//! The product carries no switch for any of them. What control decides reaches the world only as transactions and reads
//! of the store, so a control with a bug is one whose transactions are changed on their way, to what the bug would have
//! written ([`control::Wrong`]); a bug of an agent is in the simulated one.

pub(crate) mod control;

use crate::{Check, world::Temper};

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    /// The reconcilers' writes do not compare who leads: one that was followed by another goes on writing.
    FenceForgotten,
    /// What is replaced drains at once, and no ingress is asked whether it may still send there.
    DrainsAtOnce,
    /// Before a drain the ingresses are taken from what the watch has told so far, rather than read.
    IngressesFromMemory,
    /// A service's new instances are placed without those that another service was just given.
    RoomPromisedTwice,
    /// Silence counts from the beginning of time, so that what is silent is replaced before its grace is up.
    GraceForgotten,
    /// One of a table's versions is left out, and its weight given to another, so that they still add up.
    VersionLost,
    /// What sleeps is left out of the table, so that no request can ever wake it.
    SleepersLeftOut,
    /// A table is written without comparing that what it newly names is still ready.
    ReadinessNotCompared,
    /// What load brings is not held against the domain's quota.
    QuotaUnread,
    /// What has stopped is never forgotten.
    StoppedKept,
    /// The last write of a deployment is never made.
    DeploymentNeverEnds,
    /// A node that was cut off goes on by what it was told before.
    YesterdaysGoals,
}

impl Planted {
    /// All of them.
    pub const ALL: [Planted; 12] = [
        Planted::FenceForgotten,
        Planted::DrainsAtOnce,
        Planted::IngressesFromMemory,
        Planted::RoomPromisedTwice,
        Planted::GraceForgotten,
        Planted::VersionLost,
        Planted::SleepersLeftOut,
        Planted::ReadinessNotCompared,
        Planted::QuotaUnread,
        Planted::StoppedKept,
        Planted::DeploymentNeverEnds,
        Planted::YesterdaysGoals,
    ];

    /// The kind of story in which it shows.
    #[must_use]
    pub const fn shows_in(self) -> Temper {
        match self {
            Planted::FenceForgotten => Temper::Unled,
            Planted::IngressesFromMemory => Temper::CutOff,
            Planted::RoomPromisedTwice => Temper::Crowded,
            Planted::QuotaUnread => Temper::Loaded,
            Planted::ReadinessNotCompared => Temper::Frail,
            Planted::DrainsAtOnce
            | Planted::GraceForgotten
            | Planted::VersionLost
            | Planted::SleepersLeftOut
            | Planted::StoppedKept
            | Planted::DeploymentNeverEnds
            | Planted::YesterdaysGoals => Temper::Even,
        }
    }

    /// The checks that may find it: which of them does first is the story's to say.
    #[must_use]
    pub const fn found_by(self) -> &'static [Check] {
        match self {
            Planted::FenceForgotten => &[Check::Leader],
            Planted::DrainsAtOnce | Planted::IngressesFromMemory => &[Check::Drain],
            Planted::RoomPromisedTwice => &[Check::Room],
            Planted::GraceForgotten => &[Check::Grace],
            Planted::VersionLost => &[Check::LeftOut],
            // It takes an endpoint from a version, or the last one.
            Planted::SleepersLeftOut => &[Check::Weights, Check::LeftOut],
            Planted::ReadinessNotCompared => &[Check::Readiness],
            Planted::QuotaUnread => &[Check::Quota],
            Planted::StoppedKept | Planted::DeploymentNeverEnds | Planted::YesterdaysGoals => &[Check::Rest],
        }
    }
}
