//! What is, kept up to date by a watch.

use futures_util::{Stream, StreamExt as _};
use std::{collections::BTreeMap, time::Duration};
use tutti_api::{Change, WatchEvent};
use tutti_model::{Resource, resource::Object};

/// Changes within this time are drawn together: below what an eye notices.
const SETTLE: Duration = Duration::from_millis(100);

/// What else comes within a moment, however much that is.
pub(crate) async fn settle<T>(stream: &mut (impl Stream<Item = T> + Unpin)) -> Vec<T> {
    stream.take_until(tokio::time::sleep(SETTLE)).collect().await
}

/// Every object of a watch, by name.
#[derive(Debug)]
pub(crate) struct Mirror<S: Object> {
    objects: BTreeMap<String, Resource<S>>,
    /// What comes between `Init` and `InitDone`; it replaces the others whole, so that no half of it is ever shown.
    coming: Option<BTreeMap<String, Resource<S>>>,
    whole: bool,
}

impl<S: Object> Default for Mirror<S> {
    fn default() -> Self {
        Mirror { objects: BTreeMap::new(), coming: None, whole: false }
    }
}

impl<S: Object> Mirror<S> {
    /// Applies an event; says whether what is shown may have changed.
    pub(crate) fn apply(&mut self, event: WatchEvent<S>) -> bool {
        match event {
            WatchEvent::Init => {
                self.coming = Some(BTreeMap::new());
                false
            }
            WatchEvent::InitItem(object) => {
                let into = self.coming.as_mut().unwrap_or(&mut self.objects);
                into.insert(object.name.clone(), *object);
                false
            }
            WatchEvent::InitDone { .. } => {
                if let Some(coming) = self.coming.take() {
                    self.objects = coming;
                }
                self.whole = true;
                true
            }
            WatchEvent::Changes { changes, .. } => {
                let any = !changes.is_empty();
                for change in changes {
                    match change {
                        Change::Put(object) => {
                            self.objects.insert(object.name.clone(), *object);
                        }
                        Change::Delete { name } => {
                            self.objects.remove(&name);
                        }
                    }
                }
                any && self.whole
            }
        }
    }

    /// Every object, in name order.
    pub(crate) fn objects(&self) -> Vec<Resource<S>> {
        self.objects.values().cloned().collect()
    }

    /// Whether all there is has been heard of.
    pub(crate) const fn is_whole(&self) -> bool {
        self.whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::fixtures;

    #[test]
    fn shows_nothing_half() {
        let instance = fixtures::instance();
        let mut mirror = Mirror::default();
        assert!(!mirror.apply(WatchEvent::Init));
        assert!(!mirror.apply(WatchEvent::InitItem(Box::new(instance.clone()))));
        assert!(mirror.objects().is_empty() && !mirror.is_whole());
        assert!(mirror.apply(WatchEvent::InitDone { revision: 3 }));
        assert_eq!(mirror.objects().len(), 1);
        // The source was lost for long: everything is told anew, and what is shown stays until that is whole.
        mirror.apply(WatchEvent::Init);
        assert_eq!(mirror.objects().len(), 1);
        mirror.apply(WatchEvent::InitDone { revision: 9 });
        assert!(mirror.objects().is_empty());
        assert!(!mirror.apply(WatchEvent::Changes { revision: 10, changes: Vec::new() }));
        let put = Change::Put(Box::new(instance.clone()));
        assert!(mirror.apply(WatchEvent::Changes { revision: 11, changes: vec![put] }));
        mirror.apply(WatchEvent::Changes {
            revision: 12,
            changes: vec![Change::Delete { name: instance.name }],
        });
        assert!(mirror.objects().is_empty());
    }
}
