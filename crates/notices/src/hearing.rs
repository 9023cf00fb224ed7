//! Hears notices, and knows whether they are to be relied on.
//!
//! They are while control is heard over them. When it has not been for [`SILENCE`] they are not, and who
//! follows something keeps a watch open; when it has been for [`STEADY`] again, they are. Where notices were found to be
//! wanting, they are not for [`DISTRUST`].

use crate::{
    carrier::Carrier,
    notice::{Notice, Subjects, Topic},
};
use futures_util::StreamExt as _;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{broadcast, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

/// How long control may be silent before watches take over.
pub const SILENCE: Duration = Duration::from_secs(2);
/// How long control must have been heard before watches are closed again.
pub const STEADY: Duration = Duration::from_secs(3);
/// How long notices are not relied on after one was missing.
pub const DISTRUST: Duration = Duration::from_secs(300);
/// Notices that may wait for one who follows; one who is further behind reads.
const BACKLOG: usize = 64;

/// Whether control is heard: pure, so that time is given.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pulse {
    /// Since when it has been heard without a gap.
    since: Option<Instant>,
    last: Option<Instant>,
    distrusted_until: Option<Instant>,
}

impl Pulse {
    pub(crate) fn beat(&mut self, now: Instant) {
        let goes_on = self.last.is_some_and(|last| now.duration_since(last) < SILENCE);
        self.since = if goes_on { self.since } else { Some(now) };
        self.last = Some(now);
    }

    pub(crate) fn distrust(&mut self, now: Instant) {
        self.distrusted_until = Some(now + DISTRUST);
    }

    /// Whether notices are to be relied on now, and when that may change by time alone.
    pub(crate) fn is_steady(&self, now: Instant) -> (bool, Option<Instant>) {
        let (Some(since), Some(last)) = (self.since, self.last) else { return (false, None) };
        let over = last + SILENCE;
        if now >= over {
            return (false, None);
        }
        let from = (since + STEADY).max(self.distrusted_until.unwrap_or(since));
        if now < from { (false, Some(from.min(over))) } else { (true, Some(over)) }
    }
}

/// What is heard, for all in this process who follow something.
#[derive(Debug)]
pub struct Hearing {
    relied_on: watch::Sender<bool>,
    /// What was told of each topic that somebody here follows.
    told: broadcast::Sender<(Arc<str>, u64)>,
    distrusts: watch::Sender<u64>,
}

impl Hearing {
    /// Hears of these topics until `stop`, as the future that comes with it is run.
    pub fn start(
        carrier: Arc<dyn Carrier>,
        subjects: &Subjects,
        topics: &[Topic],
        stop: CancellationToken,
    ) -> (Arc<Hearing>, impl Future<Output = ()> + Send + use<>) {
        let hearing = Arc::new(Hearing {
            relied_on: watch::Sender::new(false),
            told: broadcast::channel(BACKLOG).0,
            distrusts: watch::Sender::new(0),
        });
        let beats = carrier.subscribe(vec![subjects.beat()]);
        let changes = carrier.subscribe(topics.iter().map(|topic| subjects.of(topic)).collect());
        let topics: Vec<Arc<str>> = topics.iter().map(|topic| topic.to_string().into()).collect();
        let heard = Arc::clone(&hearing);
        // The connection lives as long as somebody hears.
        let run = async move {
            let _carrier = carrier;
            let beats = beats.map(|bytes| (true, bytes));
            let changes = changes.map(|bytes| (false, bytes));
            heard.run(&topics, futures_util::stream::select(beats, changes), stop).await;
        };
        (hearing, run)
    }

    async fn run(
        &self,
        topics: &[Arc<str>],
        messages: impl futures_util::Stream<Item = (bool, bytes::Bytes)> + Send,
        stop: CancellationToken,
    ) {
        let mut messages = std::pin::pin!(messages);
        let mut distrusts = self.distrusts.subscribe();
        let mut pulse = Pulse::default();
        let mut is_over = false;
        loop {
            let (steady, next) = pulse.is_steady(Instant::now());
            self.rely(steady);
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Ok(()) = distrusts.changed() => pulse.distrust(Instant::now()),
                message = messages.next(), if !is_over => match message {
                    Some((is_beat, bytes)) => {
                        if let Some(notice) = Notice::decode(&bytes) {
                            if is_beat {
                                pulse.beat(Instant::now());
                            }
                            self.tell(topics, &notice);
                        }
                    }
                    None => is_over = true,
                },
                () = until(next) => {}
            }
        }
    }

    fn tell(&self, topics: &[Arc<str>], notice: &Notice) {
        for topic in topics {
            if let Some(revision) = notice.of(topic) {
                // Nobody may follow it yet.
                let _ = self.told.send((Arc::clone(topic), revision));
            }
        }
    }

    fn rely(&self, steady: bool) {
        self.relied_on.send_if_modified(|relied_on| {
            let changed = *relied_on != steady;
            *relied_on = steady;
            match (changed, steady) {
                (false, _) => {}
                (true, true) => tracing::info!(
                    "control is heard by notices: watches are open only when something changes"
                ),
                (true, false) => tracing::warn!("control is not heard by notices: watches take over"),
            }
            changed
        });
    }

    /// A change was found that no notice had told of.
    pub(crate) fn distrust(&self) {
        let minutes = DISTRUST.as_secs() / 60;
        tracing::warn!("a change was found that no notice told of: watches stay open for {minutes} min");
        self.distrusts.send_modify(|count| *count += 1);
    }

    /// Whether notices are relied on.
    #[must_use]
    pub fn relied_on(&self) -> watch::Receiver<bool> {
        self.relied_on.subscribe()
    }

    pub(crate) fn told(&self) -> broadcast::Receiver<(Arc<str>, u64)> {
        self.told.subscribe()
    }
}

async fn until(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_is_relied_on_when_it_was_heard_for_a_while_and_not_after_a_silence() {
        let start = Instant::now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        let mut pulse = Pulse::default();
        assert_eq!(pulse.is_steady(at(0)), (false, None));
        for second in 0..4 {
            pulse.beat(at(second * 1000));
        }
        assert_eq!(pulse.is_steady(at(2999)), (false, Some(at(3000))));
        assert_eq!(pulse.is_steady(at(3000)), (true, Some(at(5000))));
        assert_eq!(pulse.is_steady(at(5000)), (false, None));
        // One lost beat is none too many; a silence begins anew.
        pulse.beat(at(4900));
        assert!(pulse.is_steady(at(4900)).0);
        pulse.beat(at(7000));
        assert_eq!(pulse.is_steady(at(7000)), (false, Some(at(9000))));
        for second in 8..12 {
            pulse.beat(at(second * 1000));
        }
        assert!(pulse.is_steady(at(11_000)).0);
        pulse.distrust(at(11_000));
        assert_eq!(pulse.is_steady(at(11_500)), (false, Some(at(13_000))));
        pulse.beat(at(311_000));
        for second in 312..316 {
            pulse.beat(at(second * 1000));
        }
        assert!(pulse.is_steady(at(315_000)).0);
    }
}
