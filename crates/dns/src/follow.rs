//! Following the hosts that services answer to, and the ingresses that live.
//!
//! Both come by watch, each begun anew when it ends. Nothing is taken from them before each has told all that there is;
//! until then, and for as long as control is away, what was last known stays.

use crate::{Shared, Stands, kept::Kept};
use futures_util::StreamExt as _;
use std::{collections::BTreeSet, net::IpAddr, sync::Arc};
use tokio_util::sync::CancellationToken;
use tutti_api::{Cache, Change, WatchEvent, WatchStream};
use tutti_base::Backoff;
use tutti_model::{Millis, Problem, ingress::IngressSpec, resource::Object, table::TableSpec};
use tutti_plan::names::ways_in;

/// Pause before a watch is begun anew: the first one, and the longest.
const RETRY: (Millis, Millis) = (Millis(100), Millis::seconds(5));

/// Follows both until `stopping`.
pub(crate) async fn follow(shared: Arc<Shared>, stopping: CancellationToken) {
    tokio::select! {
        () = follow_on(&shared) => {}
        () = stopping.cancelled() => {}
    }
}

async fn follow_on(shared: &Shared) {
    let mut backoff = Backoff::new(RETRY.0, RETRY.1, shared.random.clone());
    let mut seen = Seen::default();
    loop {
        let hosts = shared.zone.watch_hosts(None);
        let ingresses = shared.zone.watch_ingresses(None);
        let why = follow_once(shared, &mut seen, hosts, ingresses, &mut backoff).await;
        tracing::warn!(why, "what names lead to cannot be followed; answering by what was last known");
        shared.clock.sleep(backoff.fail()).await;
    }
}

/// What was told since the start.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    hosts: Cache<TableSpec>,
    ingresses: Cache<IngressSpec>,
}

/// Takes what the watches say until one ends; gives why it did.
async fn follow_once(
    shared: &Shared,
    seen: &mut Seen,
    mut hosts: WatchStream<TableSpec>,
    mut ingresses: WatchStream<IngressSpec>,
    backoff: &mut Backoff,
) -> String {
    loop {
        let taken = tokio::select! {
            event = hosts.next() => take(&mut seen.hosts, event, |before, after| before.matches == after.matches),
            event = ingresses.next() => take(&mut seen.ingresses, event, |before, after| before == after),
        };
        match taken {
            Err(why) => return why,
            Ok(false) => {}
            Ok(true) => {
                if let Some(known) = seen.known(&shared.known().addresses) {
                    backoff.succeed();
                    if shared.answer_by(known) {
                        shared.dirty.notify_one();
                    }
                    shared.stands.send_if_modified(|stands| {
                        let told = Stands { answers: true, told: true };
                        std::mem::replace(stands, told) != told
                    });
                }
            }
        }
    }
}

/// Takes an event; says whether there may be something new to answer by.
fn take<S: Object>(
    cache: &mut Cache<S>,
    event: Option<Result<WatchEvent<S>, Problem>>,
    is_same: impl Fn(&S, &S) -> bool,
) -> Result<bool, String> {
    let event = match event {
        None => return Err("it was closed".to_owned()),
        Some(Err(problem)) => return Err(problem.detail),
        Some(Ok(event)) => event,
    };
    let news = match &event {
        WatchEvent::Init => {
            cache.doubt();
            false
        }
        WatchEvent::InitItem(_) => false,
        WatchEvent::InitDone { .. } => true,
        WatchEvent::Changes { changes, .. } => changes.iter().any(|change| match change {
            Change::Put(object) => {
                cache.get(&object.name).is_none_or(|before| !is_same(&before.spec, &object.spec))
            }
            Change::Delete { name } => cache.get(name).is_some(),
        }),
    };
    cache.apply(event);
    Ok(news)
}

impl Seen {
    /// What there is, once all of it was told. `last` is where the cluster was reached until now.
    fn known(&self, last: &[IpAddr]) -> Option<Kept> {
        if !self.hosts.is_synced() || !self.ingresses.is_synced() {
            return None;
        }
        let matches = self.hosts.iter().flat_map(|table| &table.spec.matches);
        let hosts: BTreeSet<String> = matches.map(|it| it.host.clone()).collect();
        let addresses = ways_in(self.ingresses.iter().map(|ingress| &ingress.spec), last);
        Some(Kept { hosts, addresses })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tutti_model::{Resource, Timestamp, Uid, table::Backend};

    fn object<S: Object>(name: &str, spec: S) -> Box<Resource<S>> {
        Box::new(Resource::new(name, Uid::from_bits(1), Timestamp(1), spec))
    }

    fn table(name: &str, host: &str, reason: &str) -> Box<Resource<TableSpec>> {
        let spec = TableSpec {
            service: name.parse().unwrap(),
            matches: vec![host.parse().unwrap(), format!("{host}/api").parse().unwrap()],
            backend: Backend::None { reason: reason.into() },
        };
        object(name, spec)
    }

    fn ingress(name: &str, address: &str) -> Box<Resource<IngressSpec>> {
        object(name, IngressSpec { http: format!("{address}:80"), ..IngressSpec::default() })
    }

    impl Seen {
        fn host(&mut self, event: WatchEvent<TableSpec>) -> bool {
            take(&mut self.hosts, Some(Ok(event)), |before, after| before.matches == after.matches).unwrap()
        }

        fn ingress(&mut self, event: WatchEvent<IngressSpec>) -> bool {
            take(&mut self.ingresses, Some(Ok(event)), |before, after| before == after).unwrap()
        }
    }

    #[test]
    fn nothing_is_known_before_all_was_told_and_what_is_lost_leaves() {
        let mut seen = Seen::default();
        let none: [IpAddr; 0] = [];
        seen.host(WatchEvent::Init);
        seen.host(WatchEvent::InitItem(table("example.com:web", "web.test", "")));
        assert!(seen.host(WatchEvent::InitDone { revision: 3 }));
        assert_eq!(seen.known(&none), None, "no ingress was told of");
        seen.ingress(WatchEvent::Init);
        for (name, address) in [("a.1", "192.0.2.1"), ("b.1", "192.0.2.2")] {
            seen.ingress(WatchEvent::InitItem(ingress(name, address)));
        }
        assert!(seen.ingress(WatchEvent::InitDone { revision: 3 }));
        let known = seen.known(&none).unwrap();
        assert_eq!(known.hosts, ["web.test".to_owned()].into());
        assert_eq!(known.addresses.len(), 2);

        let gone = |name: &str| WatchEvent::Changes {
            revision: 4,
            changes: vec![Change::Delete { name: name.to_owned() }],
        };
        assert!(seen.ingress(gone("a.1")));
        assert_eq!(seen.known(&none).unwrap().addresses, ["192.0.2.2".parse::<IpAddr>().unwrap()]);
        // The last of them stays in the answers: there is no better one.
        let last = seen.known(&none).unwrap().addresses;
        assert!(seen.ingress(gone("b.1")) && !seen.ingress(gone("b.1")));
        assert_eq!(seen.known(&last).unwrap().addresses, last);
    }

    #[test]
    fn what_does_not_concern_names_is_no_news_and_a_beginning_anew_is_not_believed_before_its_end() {
        let mut seen = Seen::default();
        for event in [WatchEvent::Init, WatchEvent::InitDone { revision: 1 }] {
            seen.ingress(event);
        }
        for event in [WatchEvent::Init, WatchEvent::InitDone { revision: 1 }] {
            seen.host(event);
        }
        let put = |reason: &str| WatchEvent::Changes {
            revision: 2,
            changes: vec![Change::Put(table("example.com:web", "web.test", reason))],
        };
        assert!(seen.host(put("one")));
        assert!(!seen.host(put("two")), "its hosts are the same");
        seen.host(WatchEvent::Init);
        assert_eq!(seen.known(&[]), None);
        seen.host(WatchEvent::InitDone { revision: 9 });
        assert!(seen.known(&[]).unwrap().hosts.is_empty());
        assert!(take(&mut seen.hosts, None, |_, _| true).is_err());
    }
}
