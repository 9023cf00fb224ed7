//! What is kept of what happened by itself: instances that start and end, steps of deployments, nodes that come and go.
//!
//! What somebody asked for is an audit record's ([`crate::audit`]). Which changes are worth an event is decided in
//! `tutti-plan`; how events are written, listed and trimmed is control's business.

use crate::{Kind, ServiceRef, Timestamp, deployment::Phase, limits, name::NodeName, resource::Object};
use serde::{Deserialize, Serialize};
use std::fmt;

/// One event. Nothing of it changes any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventSpec {
    /// When.
    pub at: Timestamp,
    /// What happened, in one word.
    pub what: What,
    /// To what, as `KIND NAME`.
    pub object: String,
    /// What happened, in one sentence, of at most [`limits::EVENT_TEXT_BYTES`].
    pub text: String,
    /// The service that it belongs to: those who see that see this. Without one it is the admins' affair.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceRef>,
    /// The node that it happened on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
}

impl EventSpec {
    /// An event of no service and no node. A text that is too long is cut.
    #[must_use]
    pub fn new(at: Timestamp, what: What, object: impl Into<String>, text: impl Into<String>) -> Self {
        EventSpec { at, what, object: object.into(), text: cut(text.into()), service: None, node: None }
    }

    /// The same, of this service.
    #[must_use]
    pub fn of(mut self, service: &ServiceRef) -> Self {
        self.service = Some(service.clone());
        self
    }

    /// The same, on this node.
    #[must_use]
    pub fn on(mut self, node: &NodeName) -> Self {
        self.node = Some(node.clone());
        self
    }
}

fn cut(mut text: String) -> String {
    const MARK: &str = "…";
    if text.len() > limits::EVENT_TEXT_BYTES {
        text.truncate(text.floor_char_boundary(limits::EVENT_TEXT_BYTES - MARK.len()));
        text.push_str(MARK);
    }
    text
}

/// Words of what happens.
macro_rules! words {
    ($($(#[$doc:meta])* $variant:ident $word:literal $trouble:literal)*) => {
        /// What happened.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum What {
            $($(#[$doc])* $variant,)*
        }

        impl What {
            /// Every word.
            pub const ALL: &[What] = &[$(What::$variant),*];

            /// The word.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(What::$variant => $word),* }
            }

            /// Whether it is what nobody wished for.
            #[must_use]
            pub const fn is_trouble(self) -> bool {
                match self { $(What::$variant => $trouble),* }
            }
        }
    };
}

words! {
    /// A deployment looks for nodes.
    Placing "placing" false
    /// A deployment's nodes fetch, verify and compile.
    Preloading "preloading" false
    /// An instance, or a deployment's, begins.
    Starting "starting" false
    /// A deployment's weights are written.
    Shifting "shifting" false
    /// A deployment's step serves, and is judged.
    Observing "observing" false
    /// A deployment returns to the weights from before, since its version does not start.
    Failing "failing" true
    /// A deployment returns to the weights from before, as somebody asked or a step was judged.
    Aborting "aborting" true
    /// A deployment has reached its target.
    Done "done" false
    /// A deployment did not reach its target, or an instance cannot run.
    Failed "failed" true
    /// A deployment has returned to the weights from before.
    Aborted "aborted" true
    /// An instance answers, or a node's agent has taken up what it ran.
    Ready "ready" false
    /// An instance has ended by itself, or failed its probe, and is started again.
    Ended "ended" true
    /// An instance's node is silent.
    Lost "lost" true
    /// An instance is gone.
    Stopped "stopped" false
    /// Load, or its absence, has changed how many workers serve a service.
    Scaled "scaled" false
    /// A node's agent has begun, for the first time or anew; or an ingress has.
    Registered "registered" false
    /// A node's agent is not heard.
    Silent "silent" true
    /// A node's agent is heard again.
    Heard "heard" false
    /// A node is no member any more.
    Removed "removed" false
    /// An ingress has left, or is not heard.
    Gone "gone" false
    /// A control has begun to reconcile.
    Leads "leads" false
}

impl From<Phase> for What {
    fn from(phase: Phase) -> What {
        match phase {
            Phase::Placing => What::Placing,
            Phase::Preloading => What::Preloading,
            Phase::Starting => What::Starting,
            Phase::Shifting => What::Shifting,
            Phase::Observing => What::Observing,
            Phase::Failing => What::Failing,
            Phase::Aborting => What::Aborting,
            Phase::Done => What::Done,
            Phase::Failed => What::Failed,
            Phase::Aborted => What::Aborted,
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Nothing becomes of an event.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct EventStatus {}

impl Object for EventSpec {
    type Status = EventStatus;
    const KIND: Kind = Kind::Event;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Resource, Uid};

    #[test]
    fn a_word_is_the_same_in_json() {
        for what in What::ALL {
            assert_eq!(serde_json::to_value(what).unwrap(), what.as_str());
        }
    }

    #[test]
    fn the_largest_event_is_as_large_as_is_said() {
        let worst = "\u{1}".repeat(limits::EVENT_TEXT_BYTES + 1);
        let domain = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "a".repeat(61));
        let service: ServiceRef = format!("{domain}:{}", "a".repeat(40)).parse().unwrap();
        let node: NodeName = "n".repeat(63).parse().unwrap();
        let object = format!("service {service}");
        let mut event = EventSpec::new(Timestamp(u64::MAX), What::Registered, object, &worst);
        assert_eq!(event.text.len(), limits::EVENT_TEXT_BYTES, "…");
        event = event.of(&service).on(&node);
        let event = Resource::new("n".repeat(33), Uid::from_bits(u128::MAX), Timestamp(u64::MAX), event);
        let bytes = serde_json::to_vec(&event).unwrap().len();
        assert!(bytes + limits::STORE_KEY_BYTES <= limits::EVENT_BYTES, "{bytes}");
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        let event = EventSpec::new(Timestamp(1), What::Failed, "instance i", "ü".repeat(600));
        assert!(event.text.ends_with("ü…") && event.text.len() <= limits::EVENT_TEXT_BYTES);
        let short = EventSpec::new(Timestamp(1), What::Failed, "instance i", "it ended");
        assert_eq!(short.text, "it ended");
    }
}
