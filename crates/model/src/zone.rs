//! Zones: an isolated failure domain with its own control, nodes and ingress.

use crate::{Kind, name::ZoneName, resource::Object};
use serde::{Deserialize, Serialize};

/// What was asked of a zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneSpec {
    /// Its name; the object's `name` is this as text.
    pub zone: ZoneName,
}

/// What is known of a zone.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ZoneStatus {}

impl Object for ZoneSpec {
    type Status = ZoneStatus;
    const KIND: Kind = Kind::Zone;
}
