//! The signals that end a role in order.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tutti_base::Tasks;
use tutti_model::Problem;

/// Cancelled by the first SIGINT or SIGTERM.
pub(crate) struct Stop(CancellationToken);

impl Stop {
    /// Listens from now on, so that a signal during the start is not lost.
    ///
    /// # Errors
    /// `internal` if the machine has no room for it.
    pub(crate) fn new() -> Result<Stop, Problem> {
        let token = CancellationToken::new();
        for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
            let mut signal = signal(kind)
                .map_err(|error| Problem::internal(format!("signals cannot be heard: {error}")))?;
            let token = token.clone();
            tokio::spawn(async move {
                signal.recv().await;
                token.cancel();
            });
        }
        Ok(Stop(token))
    }

    /// Returns when a signal has come, or a part has failed.
    pub(crate) async fn asked(&self, tasks: &Tasks) {
        let failed = tasks.stopping();
        tokio::select! {
            () = self.0.cancelled() => {}
            () = failed.cancelled() => {}
        }
    }
}
