//! Watches over HTTP: newline-delimited JSON, filtered to what the caller may see, with a sign of life while nothing
//! happens, until the reader goes or the server drains.

use super::{
    App,
    call::{Answer, Call, Caller},
    identity::Standing,
    lists::{Asked, Scope, Visible},
    reply,
    streams::Place,
};
use crate::{Objects, objects::decode};
use futures_util::{Stream, StreamExt as _, stream};
use std::{collections::BTreeSet, sync::Arc};
use tokio_util::sync::CancellationToken;
use tutti_api::{Change, WatchEvent, WatchStream};
use tutti_base::Clock;
use tutti_model::{Millis, Problem, Timestamp, resource::Object};
use tutti_store::List;

/// The longest silence: below the idle timeouts that proxies usually have.
pub(super) const SIGN_OF_LIFE: Millis = Millis::seconds(15);

/// Answers a watch of what was asked for, as far as the caller sees it: at each moment, not only at its start.
pub(super) async fn answer<S: Visible>(call: &Call, asked: Asked) -> Answer {
    for key in ["cursor", "limit"] {
        if call.query.get(key).is_some() {
            return Err(Problem::invalid(format!("query parameter {key}: a watch has no pages")).into());
        }
    }
    let after: Option<u64> = match call.query.get("watch") {
        None | Some("") => None,
        Some(_) => call.query.read("watch", "a revision")?,
    };
    let place = call.app.streams.open(&call.caller.account())?;
    let scope = Scope::of::<S>(&asked, &call.caller);
    let objects = call.app.objects.clone();
    let seen = Seen {
        filter: Filter::new::<S>(&objects, scope, after).await,
        events: objects.watch::<S>(after),
        standing: Standing::of(call),
        asked,
        objects,
        ended: false,
    };
    let events = stream::unfold(seen, |mut seen| async move {
        let event = seen.next().await?;
        Some((event, seen))
    });
    // What shows nothing tells only how far the watch has come.
    let shown = |event: WatchEvent<S>| match event {
        WatchEvent::Changes { changes, .. } if changes.is_empty() => None,
        event => Some(event),
    };
    Ok(reply::lines(lively(&call.app, events.boxed(), shown, after, place)))
}

/// The events that a caller sees.
struct Seen<S: Object> {
    events: WatchStream<S>,
    filter: Filter,
    standing: Standing,
    asked: Asked,
    objects: Objects,
    ended: bool,
}

impl<S: Visible> Seen<S> {
    async fn next(&mut self) -> Option<Result<WatchEvent<S>, Problem>> {
        while !self.ended {
            tokio::select! {
                biased;
                changed = self.standing.changed() => match changed {
                    Err(problem) => {
                        self.ended = true;
                        return Some(Err(problem));
                    }
                    Ok(caller) => self.see_as(&caller),
                },
                event = self.events.next() => match event? {
                    Err(problem) => return Some(Err(problem)),
                    Ok(event) => {
                        if let Some(event) = self.filter.event(event) {
                            return Some(Ok(event));
                        }
                    }
                },
            }
        }
        None
    }

    /// Begins anew, if another part of what was asked for is seen now: the reader gets all that it sees, and nothing
    /// of what it no longer does.
    fn see_as(&mut self, caller: &Caller) {
        let scope = Scope::of::<S>(&self.asked, caller);
        if scope != self.filter.scope {
            self.filter = Filter::anew(scope);
            self.events = self.objects.watch::<S>(None);
        }
    }
}

/// Which objects a watch shows, and which it has shown: of those that go, only the name is told.
struct Filter {
    scope: Option<Scope>,
    shown: Option<BTreeSet<String>>,
}

impl Filter {
    /// For a watch from the start.
    fn anew(scope: Option<Scope>) -> Filter {
        let shown = match scope.as_ref().is_some_and(Scope::is_everything) {
            true => None,
            false => Some(BTreeSet::new()),
        };
        Filter { scope, shown }
    }

    async fn new<S: Visible>(objects: &Objects, scope: Option<Scope>, after: Option<u64>) -> Filter {
        let mut filter = Filter::anew(scope);
        if filter.shown.is_none() {
            return filter;
        }
        // A reader who resumes was shown what there was then. If that was compacted away the watch starts anew.
        let list = List { at: after, ..List::prefix(objects.key::<S>("")) };
        if after.is_some()
            && let Ok(listing) = objects.store().list(list).await
        {
            for object in listing.entries.iter().filter_map(|entry| decode::<S>(entry).ok()) {
                if filter.has(&object) {
                    filter.show(&object.name);
                }
            }
        }
        filter
    }

    fn has<S: Visible>(&self, object: &tutti_model::Resource<S>) -> bool {
        self.scope.as_ref().is_some_and(|scope| scope.has(object))
    }

    fn show(&mut self, name: &str) {
        if let Some(shown) = &mut self.shown {
            shown.insert(name.to_owned());
        }
    }

    fn forget(&mut self, name: &str) -> bool {
        self.shown.as_mut().is_none_or(|shown| shown.remove(name))
    }

    /// What is shown of an event; `None` for nothing.
    fn event<S: Visible>(&mut self, event: WatchEvent<S>) -> Option<WatchEvent<S>> {
        Some(match event {
            WatchEvent::Init => {
                if let Some(shown) = &mut self.shown {
                    shown.clear();
                }
                WatchEvent::Init
            }
            WatchEvent::InitItem(mut object) => {
                if !S::TOLD_ANEW || !self.has(&object) {
                    return None;
                }
                self.show(&object.name);
                S::redact(&mut object);
                WatchEvent::InitItem(object)
            }
            WatchEvent::InitDone { revision } => WatchEvent::InitDone { revision },
            WatchEvent::Changes { revision, changes } => {
                let changes = changes.into_iter().filter_map(|change| self.change(change)).collect();
                WatchEvent::Changes { revision, changes }
            }
        })
    }

    fn change<S: Visible>(&mut self, change: Change<S>) -> Option<Change<S>> {
        match change {
            Change::Put(mut object) if self.has(&object) => {
                self.show(&object.name);
                S::redact(&mut object);
                Some(Change::Put(object))
            }
            Change::Put(object) => self.gone(object.name),
            Change::Delete { name } => self.gone(name),
        }
    }

    fn gone<S: Visible>(&mut self, name: String) -> Option<Change<S>> {
        self.forget(&name).then_some(Change::Delete { name })
    }
}

struct Watching<S: Object, F> {
    events: WatchStream<S>,
    /// What is shown of an event; `None` for nothing.
    shown: F,
    /// Up to where everything was sent; `None` before the first `InitDone`.
    reached: Option<u64>,
    quiet_since: Timestamp,
    clock: Arc<dyn Clock>,
    stopping: CancellationToken,
    _place: Place,
}

/// A watch as it goes over the wire: what `shown` gives of its events, a sign of life when there was nothing for
/// [`SIGN_OF_LIFE`], and an end when the server stops.
pub(super) fn lively<S, F>(
    app: &App,
    events: WatchStream<S>,
    shown: F,
    after: Option<u64>,
    place: Place,
) -> impl Stream<Item = Result<WatchEvent<S>, Problem>> + Send + use<S, F>
where
    S: Object,
    F: FnMut(WatchEvent<S>) -> Option<WatchEvent<S>> + Send,
{
    let clock = app.objects.clock().clone();
    let watching = Watching {
        events,
        shown,
        reached: after,
        quiet_since: clock.now(),
        clock,
        stopping: app.stopping.clone(),
        _place: place,
    };
    stream::unfold(watching, |mut watching| async move {
        let event = watching.next().await?;
        watching.quiet_since = watching.clock.now();
        Some((event, watching))
    })
}

impl<S, F> Watching<S, F>
where
    S: Object,
    F: FnMut(WatchEvent<S>) -> Option<WatchEvent<S>>,
{
    async fn next(&mut self) -> Option<Result<WatchEvent<S>, Problem>> {
        loop {
            let due = self.quiet_since.plus(SIGN_OF_LIFE);
            let event = tokio::select! {
                biased;
                () = self.stopping.cancelled() => return None,
                event = self.events.next() => event?,
                () = self.clock.sleep_until(due), if self.reached.is_some() => {
                    let revision = self.reached.unwrap_or_default();
                    return Some(Ok(WatchEvent::Changes { revision, changes: Vec::new() }));
                }
            };
            match event {
                Err(problem) => return Some(Err(problem)),
                Ok(event) => {
                    match &event {
                        WatchEvent::Init => self.reached = None,
                        WatchEvent::InitItem(_) => {}
                        WatchEvent::InitDone { revision } | WatchEvent::Changes { revision, .. } => {
                            self.reached = Some(*revision);
                        }
                    }
                    if let Some(event) = (self.shown)(event) {
                        return Some(Ok(event));
                    }
                }
            }
        }
    }
}
