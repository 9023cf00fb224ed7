//! How long the pieces of an answer's body may be apart.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Sleep;
use tutti_base::body::BodyError;

/// The time since the last piece of an answer; without a limit it may last for ever.
#[derive(Debug)]
pub(super) struct Silence {
    limit: Option<Duration>,
    /// Made only once a piece is really waited for: most answers come whole.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Silence {
    pub(super) const fn new(limit: Option<Duration>) -> Self {
        Silence { limit, timer: None }
    }

    /// A piece has come.
    pub(super) fn broken(&mut self) {
        self.timer = None;
    }

    /// While there is no piece: ready, with what to tell the reader, once that has lasted too long.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        let Some(limit) = self.limit else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        timer.as_mut().poll(cx).map(|()| "the other side sent nothing for too long".into())
    }
}
