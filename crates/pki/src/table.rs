//! Who is a member: keys, and whose they are.

use arc_swap::ArcSwap;
use std::{collections::HashMap, sync::Arc};
use tutti_model::{Digest, Resource, cluster::MemberSpec, member::Membership};

/// The members as they were last heard of, by the digests of their keys. Reading takes no lock; it is replaced as a
/// whole when a member comes, changes or goes. A member may have two keys while it changes them.
#[derive(Debug, Default)]
pub struct MemberTable(ArcSwap<HashMap<Digest, Arc<Membership>>>);

impl MemberTable {
    /// What is known now replaces all that was; it holds from the next handshake and the next request on. Of two
    /// members with the same key neither is admitted: it cannot be said whose it is.
    pub fn replace(&self, members: impl IntoIterator<Item = (Membership, Vec<Digest>)>) {
        let mut keys: HashMap<Digest, Option<Arc<Membership>>> = HashMap::new();
        for (member, of_member) in members {
            let member = Arc::new(member);
            for key in of_member {
                let place = keys.entry(key.clone()).or_insert_with(|| Some(Arc::clone(&member)));
                if place.as_ref().is_some_and(|known| known.name != member.name) {
                    tracing::error!(%key, "two members have the same key; neither is admitted");
                    *place = None;
                }
            }
        }
        self.0.store(Arc::new(keys.into_iter().filter_map(|(key, member)| Some((key, member?))).collect()));
    }

    /// As [`MemberTable::replace`], by the members' objects.
    pub fn hold<'a>(&self, members: impl IntoIterator<Item = &'a Resource<MemberSpec>>) {
        self.replace(members.into_iter().filter_map(|member| {
            // Nothing else is written under this kind.
            let name = member.name.parse().ok()?;
            Some((member.spec.membership(name), vec![member.spec.key.clone()]))
        }));
    }

    /// Whose key this is.
    #[must_use]
    pub fn get(&self, key: &Digest) -> Option<Arc<Membership>> {
        self.0.load().get(key).cloned()
    }

    /// Whether a member has this key for whom `admits` holds; cheaper than [`MemberTable::get`].
    #[must_use]
    pub fn has(&self, key: &Digest, admits: impl FnOnce(&Membership) -> bool) -> bool {
        self.0.load().get(key).is_some_and(|member| admits(member))
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.load().len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tutti_base::sha256::digest;
    use tutti_model::member::MachineRole;

    #[test]
    fn a_key_is_its_members_until_the_next_table() {
        let member =
            |name: &str| Membership { name: name.parse().unwrap(), roles: [MachineRole::Agent].into() };
        let (table, one, two, both) = (MemberTable::default(), digest(b"1"), digest(b"2"), digest(b"3"));
        table.replace([
            (member("a"), vec![one.clone(), two.clone(), both.clone()]),
            (member("b"), vec![both.clone()]),
        ]);
        assert_eq!(table.get(&one).unwrap().name.as_str(), "a");
        assert!(table.has(&two, |member| member.is(MachineRole::Agent)));
        assert!(!table.has(&two, |member| member.is(MachineRole::Server)));
        assert_eq!(table.get(&both), None, "of two members it is nobody's");
        table.replace([(member("b"), vec![two.clone()])]);
        assert_eq!((table.get(&one), table.get(&two).unwrap().name.as_str(), table.len()), (None, "b", 1));
    }
}
