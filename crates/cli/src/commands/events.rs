//! `tutti events`: what happened, newest last, followed through restarts of control.

use super::{Session, now};
use crate::{
    Format,
    args::EventsArgs,
    exit::Failed,
    text,
    ui::{Tone, Ui},
};
use futures_util::StreamExt as _;
use std::collections::BTreeSet;
use tutti_api::{Change, WatchEvent, client::EventsRequest};
use tutti_model::{
    Resource, Timestamp,
    event::{EventSpec, What},
    limits,
};

/// The longest word, so that what follows stands in one column.
const WORD: usize = 10;

pub(super) async fn events(session: &Session<'_>, args: &EventsArgs) -> Result<(), Failed> {
    let mut request = EventsRequest {
        of: session.filter(args.service.as_ref()).await?,
        node: args.node.clone(),
        since: args.since.map(|span| Timestamp(now().0.saturating_sub(span.0))),
        most: args.limit,
    };
    let mut listed = session.client.events(&request).await?;
    listed.items.reverse();
    if !args.follow {
        return session.ui.result(&listed.items, || screen(session.ui, &listed.items));
    }
    let mut told = Told::default();
    for event in &listed.items {
        show(session, told.unshown(event))?;
    }
    // What is listed again, after a loss, is all that was missed.
    request.most = limits::EVENTS;
    let mut watch = session.client.watch_events(&request.of, listed.revision);
    while let Some(event) = watch.next().await {
        match event? {
            WatchEvent::Changes { changes, .. } => {
                for change in changes {
                    if let Change::Put(event) = change
                        && is_on(&event, args)
                    {
                        show(session, told.unshown(&event))?;
                    }
                }
            }
            WatchEvent::InitDone { .. } => {
                request.since = Some(told.at.unwrap_or_else(now));
                let missed = session.client.events(&request).await?;
                for event in missed.items.iter().rev() {
                    show(session, told.unshown(event))?;
                }
            }
            WatchEvent::Init | WatchEvent::InitItem(_) => {}
        }
    }
    Ok(())
}

fn is_on(event: &Resource<EventSpec>, args: &EventsArgs) -> bool {
    args.node.is_none() || event.spec.node == args.node
}

/// Which events were shown, as far as they could come again: those of the last moment, by their names.
#[derive(Debug, Default)]
struct Told {
    at: Option<Timestamp>,
    names: BTreeSet<String>,
}

impl Told {
    /// The event, if it was not shown yet.
    fn unshown<'a>(&mut self, event: &'a Resource<EventSpec>) -> Option<&'a Resource<EventSpec>> {
        if self.at.is_none_or(|at| event.spec.at > at) {
            self.at = Some(event.spec.at);
            self.names.clear();
        }
        // One that is older comes from another control, whose clock is behind; it cannot have been shown by a watch.
        let is_new = self.at != Some(event.spec.at) || self.names.insert(event.name.clone());
        is_new.then_some(event)
    }
}

fn show(session: &Session<'_>, event: Option<&Resource<EventSpec>>) -> Result<(), Failed> {
    let Some(event) = event else { return Ok(()) };
    match session.ui.format {
        Format::Table => Ok(session.ui.print(&line(session.ui, &event.spec))?),
        Format::Json | Format::Yaml => session.ui.event(event),
    }
}

fn screen(ui: &Ui, events: &[Resource<EventSpec>]) -> String {
    if events.is_empty() {
        return "nothing has happened that is kept\n".to_owned();
    }
    events.iter().map(|event| line(ui, &event.spec) + "\n").collect()
}

/// One event as a line: when, what, to what, and a sentence.
fn line(ui: &Ui, event: &EventSpec) -> String {
    let tone = match event.what {
        what if what.is_trouble() => Tone::Bad,
        What::Ready | What::Done | What::Heard => Tone::Good,
        _ => Tone::Plain,
    };
    let at = text::moment(event.at);
    let indent = at.len() + 2 + WORD + 2;
    let said = text::harmless(&format!("{}: {}", event.object, event.text));
    format!(
        "{}  {}  {}",
        ui.paint(Tone::Dim, &at),
        ui.paint(tone, &format!("{:<WORD$}", event.what.as_str())),
        ui.wrap(&said, indent)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use tutti_model::Uid;

    fn event(name: &str, at: u64) -> Resource<EventSpec> {
        let spec = EventSpec::new(Timestamp(at), What::Leads, "control c1", "it\x1b[2J reconciles");
        Resource::new(name, Uid::from_bits(1), Timestamp(at), spec)
    }

    #[test]
    fn what_was_shown_does_not_come_again() {
        let mut told = Told::default();
        let mut shown = |name: &str, at| told.unshown(&event(name, at)).is_some();
        assert!(shown("a", 1) && shown("b", 2) && shown("c", 2));
        // Listed again from that moment on.
        assert!(!shown("b", 2) && !shown("c", 2));
        assert!(shown("d", 2) && shown("e", 3) && shown("late", 1));
    }

    #[test]
    fn every_word_fits_its_column_and_no_text_steers_the_terminal() {
        assert!(What::ALL.iter().all(|what| what.as_str().len() <= WORD));
        let ui = Ui::of_process(Format::Table);
        let line = line(&ui, &event("a", 1_790_000_000_123).spec);
        assert_eq!(line, "2026-09-21T14:13:20.123Z  leads       control c1: it\u{fffd}[2J reconciles");
    }
}
