//! How a control's own loops fare, for whoever looks for why nothing moves.

use serde::{Deserialize, Serialize};
use tutti_model::{Millis, Timestamp, name::NodeName};

/// The loops of the control that answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reconcilers {
    /// The control that answers.
    pub control: NodeName,
    /// Its time, which the moments below are to be compared with.
    pub now: Timestamp,
    /// Since when it leads; absent while it does not: then its loops rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leads_since: Option<Timestamp>,
    /// The control that leads, as the store says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<NodeName>,
    /// Where that one answers, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader_address: Option<String>,
    /// Its loops, by name.
    pub loops: Vec<ReconcilerLoop>,
}

/// One loop, since its control has started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReconcilerLoop {
    /// Its name.
    pub name: String,
    /// Since when the run that is under way runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running_since: Option<Timestamp>,
    /// When its last whole run began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<Timestamp>,
    /// How long that took.
    pub took: Millis,
    /// The longest that one took.
    pub longest: Millis,
    /// How many runs there were, leaving out those that found nothing to do.
    pub runs: u64,
    /// How often something could not be done. It is tried again.
    pub errors: u64,
    /// The last of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LoopError>,
    /// Objects that are to be looked at as soon as can be.
    pub due: usize,
    /// Objects that are to be looked at later.
    pub later: usize,
}

/// What could not be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoopError {
    /// When.
    pub at: Timestamp,
    /// With what, in words.
    pub object: String,
    /// Why, in one sentence.
    pub text: String,
}
