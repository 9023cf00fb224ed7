//! The slow lane: guests that compute for longer than a tick take turns on all threads but one, so that whatever is short
//! finds a thread free however many of them there are.
//!
//! A guest has its place only while it is polled. One that waits, or that nobody polls because its client does not read,
//! holds none, and those that wait for a place are all woken when one is free: a place that was handed to a guest that is
//! never polled again would be lost.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::sync::Notify;

/// The places of one driver.
#[derive(Debug)]
pub(crate) struct Lane {
    places: usize,
    taken: AtomicUsize,
    freed: Notify,
}

/// A place in the lane.
#[derive(Debug)]
pub(crate) struct Place(Arc<Lane>);

impl Lane {
    /// The lane of a host with so many threads: at least one place, since otherwise nothing long could ever end.
    pub(crate) fn beside(threads: usize) -> Arc<Lane> {
        let places = threads.saturating_sub(1).max(1);
        Arc::new(Lane { places, taken: AtomicUsize::new(0), freed: Notify::new() })
    }

    fn take(self: &Arc<Self>) -> Option<Place> {
        let more = |taken| (taken < self.places).then_some(taken + 1);
        self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(Place(Arc::clone(self)))
    }

    /// Gives way to everybody else, and waits for a place.
    pub(crate) async fn turn(self: Arc<Self>) -> Place {
        tokio::task::yield_now().await;
        loop {
            let mut freed = pin!(self.freed.notified());
            // From here on no place becomes free unnoticed.
            freed.as_mut().enable();
            if let Some(place) = self.take() {
                return place;
            }
            freed.await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::AcqRel);
        self.0.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[tokio::test]
    async fn as_many_compute_at_once_as_leave_one_thread() {
        for (threads, places) in [(1, 1), (2, 1), (4, 3)] {
            let lane = Lane::beside(threads);
            let held: Vec<Place> = (0..places).filter_map(|_| lane.take()).collect();
            assert_eq!(held.len(), places);
            assert!(lane.take().is_none());
            drop(held);
            assert!(lane.take().is_some());
        }
    }

    #[tokio::test]
    async fn one_that_is_never_polled_again_keeps_no_place_from_others() {
        let lane = Lane::beside(2);
        let place = Arc::clone(&lane).turn().await;
        let mut forgotten = Box::pin(Arc::clone(&lane).turn());
        let mut waiting = Box::pin(Arc::clone(&lane).turn());
        for _ in 0..3 {
            assert!(forgotten.as_mut().now_or_never().is_none());
            assert!(waiting.as_mut().now_or_never().is_none());
            tokio::task::yield_now().await;
        }
        drop(place);
        // Both were woken, and only one is polled.
        let _place = waiting.await;
        drop(forgotten);
    }
}
