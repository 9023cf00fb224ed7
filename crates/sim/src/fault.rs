//! What a check found.

use std::fmt;

/// What must be so, each found to be otherwise by a check of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    /// The store goes on, transaction by transaction.
    Store,
    /// Only the control that leads writes what the loops write.
    Leader,
    /// An object's generation never goes back, and a new life begins with a new object.
    Generation,
    /// A service is locked by its unfinished deployment, and by nothing else.
    Lock,
    /// A deployment that has ended has ended.
    Final,
    /// A service goes after all that its zone has of it.
    Removal,
    /// The weights of a table add up, and each has an endpoint.
    Weights,
    /// What serves, and has for a while, is not left out of a table.
    LeftOut,
    /// A table names nothing new that is not ready.
    Readiness,
    /// A share rises only with the capacity for it.
    Capacity,
    /// Nothing drains while a living ingress may send to it.
    Drain,
    /// No node is promised more than it has.
    Room,
    /// What is silent is not replaced before its grace is up.
    Grace,
    /// What a deployment returns to stands by for its time.
    Standby,
    /// Load brings no more than a domain's quota.
    Quota,
    /// Loops that have done what there is to do write nothing more.
    Spin,
    /// Left in peace, everything ends as it was asked.
    Rest,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// By which check.
    pub check: Check,
    /// At which revision of the store.
    pub revision: u64,
    /// What is wrong, with which object.
    pub text: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at revision {}: {}", self.check, self.revision, self.text)
    }
}
