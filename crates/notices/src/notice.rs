//! What a notice says, and on which subject.

use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};
use tutti_model::name::{NodeName, ZoneName};

/// Largest notice that is read, in bytes: a second's changes of a thousand topics fit.
pub const NOTICE_BYTES: usize = 128 * 1024;
/// Most topics of one notice; where more have changed, it says that everything has.
pub const TOPICS: usize = 1000;

/// Something that changes, and that somebody follows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// The tables of the zone.
    Tables,
    /// The nodes of the zone.
    Nodes,
    /// One node's own object.
    Node(NodeName),
    /// The instances of one node.
    Instances(NodeName),
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Topic::Tables => f.write_str("tables"),
            Topic::Nodes => f.write_str("nodes"),
            Topic::Node(node) => write!(f, "node.{node}"),
            Topic::Instances(node) => write!(f, "instances.{node}"),
        }
    }
}

/// What has changed, and up to when.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Notice {
    /// At which revision each topic changed last.
    #[serde(default)]
    pub changed: BTreeMap<String, u64>,
    /// A revision up to which anything may have changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub everything: Option<u64>,
}

impl Notice {
    /// As it is sent.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// What was sent; `None` for what is no notice.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Notice> {
        if bytes.len() > NOTICE_BYTES {
            return None;
        }
        serde_json::from_slice(bytes).ok()
    }

    /// Up to which revision this topic has changed, as far as it says.
    #[must_use]
    pub fn of(&self, topic: &str) -> Option<u64> {
        self.changed.get(topic).copied().max(self.everything)
    }
}

/// The subjects of one zone of one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subjects {
    prefix: String,
}

impl Subjects {
    /// Those of this zone. Two clusters may share a server: each has subjects of its own.
    #[must_use]
    pub fn new(cluster: &str, zone: &ZoneName) -> Subjects {
        let zone = zone.as_str().replace('/', ".");
        Subjects { prefix: format!("tutti.{cluster}.{zone}") }
    }

    /// Where control is heard.
    #[must_use]
    pub fn beat(&self) -> String {
        format!("{}.beat", self.prefix)
    }

    /// Where changes of a topic are told at once.
    #[must_use]
    pub fn of(&self, topic: &Topic) -> String {
        format!("{}.changed.{topic}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_those_of_the_reference() {
        let subjects = Subjects::new("gmh0", &ZoneName::local());
        let topic = Topic::Instances("n1".parse().unwrap());
        assert_eq!(subjects.beat(), "tutti.gmh0.local.main.beat");
        assert_eq!(subjects.of(&topic), "tutti.gmh0.local.main.changed.instances.n1");
        assert_eq!(subjects.of(&Topic::Tables), "tutti.gmh0.local.main.changed.tables");
    }

    #[test]
    fn what_is_no_notice_or_too_large_says_nothing() {
        let notice = Notice { changed: [("tables".to_owned(), 7)].into(), everything: Some(5) };
        let read = Notice::decode(&notice.encode()).unwrap();
        assert_eq!(read, notice);
        assert_eq!((read.of("tables"), read.of("nodes")), (Some(7), Some(5)));
        assert_eq!(Notice::decode(b"{\"changed\":{\"tables\":-1}}"), None);
        assert_eq!(Notice::decode(b"\xff"), None);
        let long = format!("{{\"changed\":{{\"{}\":1}}}}", "x".repeat(NOTICE_BYTES));
        assert_eq!(Notice::decode(long.as_bytes()), None);
        // The most that is sent is read.
        let name = "n".repeat(63);
        let most = (0..TOPICS).map(|number| (format!("instances.{number}{name}"), u64::MAX)).collect();
        assert!(Notice::decode(&Notice { changed: most, everything: None }.encode()).is_some());
    }
}
