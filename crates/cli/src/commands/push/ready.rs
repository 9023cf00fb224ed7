//! Whether nodes hold ready what was pushed: so that a deployment starts at once, and what cannot run is known now.

use crate::commands::Session;
use futures_util::StreamExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::{collections::BTreeMap, time::Duration};
use tutti_api::{Change, WatchEvent, WatchStream, client::Filter};
use tutti_model::{
    Millis, Problem, Resource, Share, VersionRef,
    service::ServiceSpec,
    version::{Preparation, VersionSpec},
};

/// How long is waited for if nobody says: a large component takes half a minute to compile.
const PATIENCE: Millis = Millis::seconds(120);
/// How often it is asked whether the version was deployed meanwhile: then nobody holds it ready beforehand.
const ASK: Duration = Duration::from_secs(2);

/// How waiting ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Readiness {
    /// At least one node holds it ready.
    Ready,
    /// It serves, so nothing is to be made ready.
    Serving,
    /// No node could run it now.
    NoNode,
    /// Every node that is to hold it has found that it cannot be run.
    Unrunnable,
    /// A newer version of the service is held ready in its place.
    Superseded,
    /// The time was up.
    Late,
    /// Nobody waited.
    Unknown,
}

/// What is known of a version that was pushed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Known {
    /// How waiting ended.
    pub(super) readiness: Readiness,
    /// How far the nodes are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) preparation: Option<Preparation>,
}

impl Known {
    pub(super) const NOTHING: Known = Known { readiness: Readiness::Unknown, preparation: None };

    /// In one line for people; none where there is nothing to say.
    pub(super) fn line(&self) -> Option<String> {
        let preparation = self.preparation.clone().unwrap_or_default();
        let reasons = preparation.reasons.join("; ");
        Some(match self.readiness {
            Readiness::Ready => {
                let took = match preparation.took.0 {
                    0 => String::new(),
                    took => format!(" (prepared in {took} ms)"),
                };
                format!("ready to start on {} of {} nodes{took}", preparation.ready, preparation.nodes)
            }
            Readiness::Serving => "it serves already".to_owned(),
            Readiness::NoNode => format!("not ready to start, since no node could run it now: {reasons}"),
            Readiness::Superseded => {
                "not held ready, since there is a newer version; a deployment prepares it first".to_owned()
            }
            Readiness::Unrunnable | Readiness::Late | Readiness::Unknown => return None,
        })
    }

    /// Why the command failed although the version is stored, if it did.
    pub(super) fn failure(&self, version: &str, waited: Millis) -> Option<Problem> {
        let reasons = self.preparation.as_ref().map(|preparation| preparation.reasons.join("; "));
        let reasons = reasons.unwrap_or_default();
        match self.readiness {
            Readiness::Unrunnable => Some(
                Problem::invalid(format!("{version} is stored, but cannot run: {reasons}")).hint(format!(
                    "mend it and push it as another version; remove this one with: tutti version delete {version}"
                )),
            ),
            Readiness::Late => {
                let why = if reasons.is_empty() { String::new() } else { format!(": {reasons}") };
                let text = format!("{version} is stored, but not ready to start after {waited}{why}");
                Some(
                    Problem::new(tutti_model::ErrorCode::Timeout, text)
                        .hint(format!("nodes go on; see how far with: tutti version show {version}")),
                )
            }
            _ => None,
        }
    }
}

/// The longest that is waited.
pub(super) fn patience(asked: Option<Millis>) -> Millis {
    asked.unwrap_or(PATIENCE)
}

/// Waits until it is known whether nodes hold the version ready.
pub(super) async fn wait(
    session: &Session<'_>,
    version: &VersionRef,
    patience: Millis,
) -> Result<Known, Problem> {
    let service = &version.service;
    let mut events = session.client.watch::<VersionSpec>(&Filter::service(service), None);
    let bar = spinner(session);
    let mut versions = Versions::default();
    let deadline = tokio::time::sleep(patience.duration());
    tokio::pin!(deadline);
    let mut ask = tokio::time::interval(ASK);
    let known = loop {
        tokio::select! {
            () = &mut deadline => {
                let preparation = versions.get(version).and_then(|found| found.status.preparation.clone());
                break Known { readiness: Readiness::Late, preparation };
            }
            more = versions.next(&mut events) => {
                more?;
                if let Some(known) = versions.judge(version)? {
                    break known;
                }
            }
            _ = ask.tick() => {
                let service = session.client.get::<ServiceSpec>(&service.to_string()).await?;
                if service.status.share(&version.version) != Share::ZERO {
                    break Known { readiness: Readiness::Serving, preparation: None };
                }
            }
        }
    };
    bar.finish_and_clear();
    Ok(known)
}

fn spinner(session: &Session<'_>) -> ProgressBar {
    if !session.ui.err_terminal {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {elapsed}  nodes verify and compile it");
    let bar =
        ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// The versions of a service, as a watch tells them.
#[derive(Debug, Default)]
struct Versions {
    known: BTreeMap<String, Resource<VersionSpec>>,
    whole: bool,
}

impl Versions {
    async fn next(&mut self, events: &mut WatchStream<VersionSpec>) -> Result<(), Problem> {
        let event = events.next().await;
        self.apply(
            event.unwrap_or_else(|| Err(Problem::unavailable("the watch over the versions has ended")))?,
        );
        Ok(())
    }

    fn apply(&mut self, event: WatchEvent<VersionSpec>) {
        match event {
            WatchEvent::Init => {
                self.known.clear();
                self.whole = false;
            }
            WatchEvent::InitItem(version) => {
                self.known.insert(version.name.clone(), *version);
            }
            WatchEvent::InitDone { .. } => self.whole = true,
            WatchEvent::Changes { changes, .. } => {
                for change in changes {
                    match change {
                        Change::Put(version) => {
                            self.known.insert(version.name.clone(), *version);
                        }
                        Change::Delete { name } => {
                            self.known.remove(&name);
                        }
                    }
                }
            }
        }
    }

    fn get(&self, version: &VersionRef) -> Option<&Resource<VersionSpec>> {
        self.known.get(&version.to_string())
    }

    /// What is known by now, if that is an end.
    fn judge(&self, version: &VersionRef) -> Result<Option<Known>, Problem> {
        if !self.whole {
            return Ok(None);
        }
        let found = self.get(version).ok_or_else(|| {
            Problem::not_found("version", version).hint("somebody deleted it while nodes made it ready")
        })?;
        let order = |version: &Resource<VersionSpec>| (version.created_at, version.name.clone());
        let readiness = match &found.status.preparation {
            Some(preparation) if preparation.ready > 0 => Readiness::Ready,
            Some(preparation) if preparation.nodes == 0 => Readiness::NoNode,
            Some(preparation) if preparation.failed >= preparation.nodes => Readiness::Unrunnable,
            Some(_) => return Ok(None),
            None if self.known.values().any(|other| order(other) > order(found)) => Readiness::Superseded,
            None => return Ok(None),
        };
        Ok(Some(Known { readiness, preparation: found.status.preparation.clone() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::fixtures;

    fn preparation(nodes: u32, ready: u32, failed: u32) -> Preparation {
        let reasons = if failed > 0 { vec!["it is not a component".to_owned()] } else { Vec::new() };
        Preparation { nodes, ready, failed, took: Millis(71), reasons }
    }

    fn judged(preparation: Option<Preparation>, newer: bool) -> Option<Known> {
        let mut mine = fixtures::version();
        mine.status.preparation = preparation;
        let version = mine.spec.version.clone();
        let mut versions = Versions::default();
        versions.apply(WatchEvent::Init);
        if newer {
            let mut other = mine.clone();
            other.name = format!("{}-newer", other.name);
            other.created_at = other.created_at.plus(Millis(1));
            versions.apply(WatchEvent::InitItem(Box::new(other)));
        }
        versions.apply(WatchEvent::InitItem(Box::new(mine)));
        assert_eq!(versions.judge(&version).unwrap(), None, "not before everything is told");
        versions.apply(WatchEvent::InitDone { revision: 1 });
        versions.judge(&version).unwrap()
    }

    #[test]
    fn waits_until_one_node_is_ready_or_none_can_be() {
        assert_eq!(judged(None, false), None);
        assert_eq!(judged(Some(preparation(3, 0, 2)), false), None);
        let readiness = |found: Option<Known>| found.unwrap().readiness;
        assert_eq!(readiness(judged(Some(preparation(3, 1, 2)), false)), Readiness::Ready);
        assert_eq!(readiness(judged(Some(preparation(0, 0, 0)), false)), Readiness::NoNode);
        assert_eq!(readiness(judged(Some(preparation(2, 0, 2)), false)), Readiness::Unrunnable);
        assert_eq!(readiness(judged(None, true)), Readiness::Superseded);
        assert_eq!(readiness(judged(Some(preparation(1, 1, 0)), true)), Readiness::Ready);
    }

    #[test]
    fn says_how_it_ended_and_what_cannot_run() {
        let ready = judged(Some(preparation(1, 1, 0)), false).unwrap();
        assert_eq!(ready.line().unwrap(), "ready to start on 1 of 1 nodes (prepared in 71 ms)");
        assert_eq!(ready.failure("web@1.0", Millis(1)), None);
        let broken = judged(Some(preparation(1, 0, 1)), false).unwrap();
        let problem = broken.failure("web@1.0", Millis(1)).unwrap();
        assert_eq!(problem.detail, "web@1.0 is stored, but cannot run: it is not a component");
        let late = Known { readiness: Readiness::Late, preparation: None };
        let problem = late.failure("web@1.0", Millis::seconds(5)).unwrap();
        assert_eq!(problem.detail, "web@1.0 is stored, but not ready to start after 5s");
    }
}
