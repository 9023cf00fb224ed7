//! What a member is called in its certificate.

use std::fmt;
use tutti_model::{
    Problem,
    name::{NodeName, ZoneName},
};

/// The domain below which members' names stand. `internal` is reserved for private use, so no public authority ever
/// vouches for one.
const DOMAIN: &str = "member.tutti.internal";
/// Longest id of a cluster, in bytes: a label, as it stands in a URI and in names people read.
const CLUSTER_BYTES: usize = 63;

/// A member of a zone of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberId {
    cluster: String,
    /// Its zone.
    pub zone: ZoneName,
    /// Its name, unique in the zone.
    pub name: NodeName,
}

impl MemberId {
    /// A member.
    ///
    /// # Errors
    /// `invalid` if the cluster's id is not 1 to 63 of a-z, 0-9 and hyphens.
    pub fn new(cluster: &str, zone: ZoneName, name: NodeName) -> Result<Self, Problem> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !(1..=CLUSTER_BYTES).contains(&cluster.len()) || !cluster.bytes().all(plain) {
            return Err(Problem::invalid("the id of a cluster is 1 to 63 of a-z, 0-9 and hyphens"));
        }
        Ok(MemberId { cluster: cluster.to_owned(), zone, name })
    }

    /// The cluster's id.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The name it is asked for with: `NAME.PROVIDER.ZONE.member.tutti.internal`.
    #[must_use]
    pub fn dns_name(&self) -> String {
        dns_name(&self.zone, &self.name)
    }

    /// As its certificate says it: `tutti://CLUSTER/zones/PROVIDER/ZONE/members/NAME`.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("tutti://{}/zones/{}/members/{}", self.cluster, self.zone, self.name)
    }

    /// Reads a certificate's URI; `None` if it is another's.
    #[must_use]
    pub fn from_uri(uri: &str) -> Option<MemberId> {
        let (cluster, rest) = uri.strip_prefix("tutti://")?.split_once("/zones/")?;
        let (zone, name) = rest.split_once("/members/")?;
        MemberId::new(cluster, zone.parse().ok()?, name.parse().ok()?).ok()
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "member {} of zone {} of cluster {}", self.name, self.zone, self.cluster)
    }
}

fn dns_name(zone: &ZoneName, name: &NodeName) -> String {
    format!("{name}.{}.{DOMAIN}", zone.as_str().replace('/', "."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_foreign_name_is_nobodys() {
        for wrong in [
            "",
            "tutti://",
            "https://c/zones/a/b/members/n",
            "tutti://c/zones/a/members/n",
            "tutti://c/zones/a/b/members/",
            "tutti://c/zones/a/b/members/n/x",
            "tutti://C/zones/a/b/members/n",
            "tutti:///zones/a/b/members/n",
        ] {
            assert_eq!(MemberId::from_uri(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_name_is_read_back_and_can_be_connected_to(
            cluster in "[a-z0-9-]{1,63}", zone in "[a-z][a-z0-9]{0,62}/[a-z0-9]{1,63}", name in "[a-z0-9]{1,63}"
        ) {
            prop_assume!(!zone.starts_with("all/"));
            let id = MemberId::new(&cluster, zone.parse().unwrap(), name.parse().unwrap()).unwrap();
            prop_assert_eq!(MemberId::from_uri(&id.uri()), Some(id.clone()));
            prop_assert!(rustls::pki_types::ServerName::try_from(id.dns_name()).is_ok());
        }
    }
}
