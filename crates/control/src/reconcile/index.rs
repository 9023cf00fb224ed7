//! Which objects of one kind belong to which service, so that a look at one service never reads all others'.

use std::collections::{BTreeMap, BTreeSet};

/// The names of objects by the service that each belongs to.
#[derive(Debug, Default)]
pub struct Index {
    of: BTreeMap<String, String>,
    names: BTreeMap<String, BTreeSet<String>>,
}

impl Index {
    /// The object belongs to this service now, or to none; gives the service that it belonged to before, if that is
    /// another one.
    pub fn set(&mut self, name: &str, service: Option<&str>) -> Option<String> {
        let before = match service {
            Some(service) => self.of.insert(name.to_owned(), service.to_owned()),
            None => self.of.remove(name),
        };
        let before = before.filter(|before| Some(before.as_str()) != service);
        if let Some(before) = &before
            && let Some(names) = self.names.get_mut(before)
        {
            names.remove(name);
            if names.is_empty() {
                self.names.remove(before);
            }
        }
        if let Some(service) = service {
            self.names.entry(service.to_owned()).or_default().insert(name.to_owned());
        }
        before
    }

    /// The names of a service's objects, in order.
    pub fn of<'a>(&'a self, service: &str) -> impl Iterator<Item = &'a String> + use<'a> {
        self.names.get(service).into_iter().flatten()
    }

    /// How many objects a service has.
    #[must_use]
    pub fn count(&self, service: &str) -> usize {
        self.names.get(service).map_or(0, BTreeSet::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_belongs_to_one_service_at_a_time() {
        let mut index = Index::default();
        assert_eq!(index.set("route", Some("a")), None);
        assert_eq!(index.set("route", Some("a")), None, "nothing new");
        assert_eq!(index.set("route", Some("b")), Some("a".into()), "it moved");
        assert_eq!((index.count("a"), index.of("b").count()), (0, 1));
        assert_eq!(index.set("route", None), Some("b".into()));
        assert_eq!(index.set("route", None), None);
        assert!(index.names.is_empty(), "no room is held for services without objects");
    }
}
