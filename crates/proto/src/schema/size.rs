//! How deep and how large the values of each message are when everything in them is written out. A component's types are
//! measured so by every engine, and a few lines of `.proto` can ask for more than any of them takes.

use super::{Kind, Message, Presence};
use crate::limits;

/// Depth and size of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Extent {
    pub(super) depth: u32,
    pub(super) size: u64,
}

impl Extent {
    /// What is too much of it.
    pub(super) fn excess(self) -> Option<String> {
        if self.depth > limits::TYPE_DEPTH {
            return Some(format!(
                "its types are nested {} deep; the limit is {}",
                self.depth,
                limits::TYPE_DEPTH
            ));
        }
        (self.size > limits::VALUE_SIZE).then(|| {
            format!("written out it is {} values large; the limit is {}", self.size, limits::VALUE_SIZE)
        })
    }
}

/// How many types a field's presence puts around its value.
fn wrapped(presence: Presence) -> u32 {
    match presence {
        Presence::Implicit | Presence::Required => 0,
        Presence::Explicit | Presence::Repeated { .. } => 1,
        // A list of tuples; an option of a variant.
        Presence::Map { .. } | Presence::Oneof => 2,
    }
}

/// The extent of every message. `order` lists them so that what a message holds comes before it.
pub(super) fn extents(messages: &[Message], order: &[usize]) -> Vec<Extent> {
    let mut extents = vec![Extent::default(); messages.len()];
    for at in order {
        let Some(message) = messages.get(*at) else { continue };
        let mut extent = Extent { depth: 1, size: 1 };
        for field in message.fields() {
            let inner = match field.kind {
                Kind::Message(index) => usize::try_from(index.0).ok().and_then(|at| extents.get(at)).copied(),
                Kind::Bytes | Kind::Encoded(_) => Some(Extent { depth: 2, size: 0 }),
                _ => Some(Extent { depth: 1, size: 0 }),
            }
            .unwrap_or_default();
            extent.depth =
                extent.depth.max(inner.depth.saturating_add(wrapped(field.presence)).saturating_add(1));
            // One for the value, one for the option, list or case it stands in.
            extent.size = extent.size.saturating_add(inner.size).saturating_add(2);
        }
        if let Some(slot) = extents.get_mut(*at) {
            *slot = extent;
        }
    }
    extents
}
