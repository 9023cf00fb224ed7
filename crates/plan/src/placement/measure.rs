//! What machines are measured to use, as far as placement goes by it ([ADR 26](../../../../docs/adr/0026-placement-by-what-is-measured.md)).
//!
//! What was promised to an instance is kept for it whether it uses it or not. What is in use beside that leaves less room:
//! what instances use beyond what they asked for, and what runs on the machine beside them. That is worked out here, from
//! the use of the whole machine and of each instance, so that nothing counts twice.

use std::collections::BTreeMap;
use tutti_model::{
    InstanceId, Millis, Resource, Timestamp,
    instance::{Goal, InstanceSpec, InstanceState},
    node::Resources,
    quantity::{Bandwidth, ByteSize, MilliCpu},
};

/// How long a measure counts: three of an agent's in a row may be lost. An older one counts as none.
pub const MEASURE_HOLDS: Millis = Millis::seconds(30);
/// What is in use beside promises counts in whole steps of so many bytes, upwards: what a machine uses changes a little
/// at each look, and a plan and its reasons should not.
const STEP: u64 = 16 << 20;
/// From this part of its cpu or its link on, in hundredths, a machine is busy; below the other it is so no longer. Between
/// them it stays what it was.
const BUSY: u64 = 90;
const CALM: u64 = 70;

/// What a node's agent measured.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Measure {
    /// When it came.
    pub at: Timestamp,
    /// What the whole machine uses, all its processes; of bandwidth the larger of what comes and what goes.
    pub used: Resources,
    /// The memory that each instance uses.
    pub instances: BTreeMap<InstanceId, ByteSize>,
    /// Whether every instance there is among those: an agent tells of so many at most.
    pub is_whole: bool,
}

/// What is in use on a node beside what was promised to its instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Beside {
    /// Memory.
    pub memory: ByteSize,
    /// Disk.
    pub disk: ByteSize,
    /// The memory in whole quarters of the node's: by these nodes are compared, since smaller differences are chance.
    pub quarters: u8,
    /// Whether its cpus or its link are busy: new instances go elsewhere if they can.
    pub is_busy: bool,
}

impl Measure {
    /// Whether it still counts.
    #[must_use]
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        now.since(self.at) <= MEASURE_HOLDS
    }

    /// What is in use beside the promises to the instances that are `there`, every one of the node. `was` is what was said
    /// of the node before.
    ///
    /// Of memory, an instance's promise covers what it uses, up to what it asked for; what it has not taken yet stays
    /// promised. What a disk holds is not known of each instance: the promise to one that was there when it was measured
    /// is taken to be used.
    #[must_use]
    pub fn beside<'a>(
        &self,
        capacity: &Resources,
        was: Beside,
        there: impl IntoIterator<Item = &'a Resource<InstanceSpec>>,
    ) -> Beside {
        let mut gone = self.instances.clone();
        let (mut memory, mut disk) = (0u64, 0u64);
        for instance in there {
            let spec = &instance.spec;
            let used = match self.instances.get(&spec.instance) {
                Some(used) => *used,
                None if self.is_whole => continue,
                None => spec.manifest.memory,
            };
            if instance.status.state == InstanceState::Asleep {
                // It has no promise, and what it used before it fell asleep is free.
                continue;
            }
            gone.remove(&spec.instance);
            if spec.goal != Goal::Stop {
                memory = memory.saturating_add(used.min(spec.manifest.memory).0);
                disk = disk.saturating_add(spec.manifest.disk.0);
            }
        }
        // What ended since is in use no longer.
        memory = gone.values().fold(memory, |memory, used| memory.saturating_add(used.0));
        let memory = in_steps(self.used.memory.0.saturating_sub(memory));
        Beside {
            memory,
            quarters: quarters(memory, capacity.memory, was.quarters),
            disk: in_steps(self.used.disk.0.saturating_sub(disk)),
            is_busy: self.is_busy(capacity, was.is_busy),
        }
    }

    fn is_busy(&self, capacity: &Resources, was_busy: bool) -> bool {
        let (MilliCpu(cpu), Bandwidth(link)) = (self.used.cpu, self.used.bandwidth);
        let part = |used: u64, all: u64| used.saturating_mul(100).checked_div(all).unwrap_or(0);
        let most = part(cpu.into(), capacity.cpu.0.into()).max(part(link, capacity.bandwidth.0));
        most >= if was_busy { CALM } else { BUSY }
    }
}

/// How many quarters this much is of all. It stays what it `was` within a sixteenth of the border, so that nodes do not
/// change places with every look.
fn quarters(memory: ByteSize, all: ByteSize, was: u8) -> u8 {
    let sixteenths = memory.0.saturating_mul(16).checked_div(all.0).unwrap_or(0).min(16);
    let quarters = |sixteenths: u64| u8::try_from(sixteenths / 4).unwrap_or(4);
    was.clamp(quarters(sixteenths.saturating_sub(1)), quarters(sixteenths + 1))
}

fn in_steps(bytes: u64) -> ByteSize {
    ByteSize(bytes.div_ceil(STEP).saturating_mul(STEP))
}

#[cfg(test)]
mod tests;
