//! What control is told: each second, and at once after a table was applied, since drains wait for it.

use crate::Edge;
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use tutti_api::zone::IngressReport;
use tutti_model::{Millis, ingress::IngressSpec};

/// Between two reports.
const PERIOD: Millis = Millis::seconds(1);
/// Longest wait for one report to be taken; the next one says everything that it did.
const PATIENCE: Duration = Duration::from_secs(5);

/// Reports until `ended`.
pub(crate) async fn report(edge: Arc<Edge>, ended: CancellationToken) {
    let mut failing = false;
    let mut reached = edge.reached.subscribe();
    // What was reached before this began has been told to nobody.
    reached.mark_changed();
    loop {
        tokio::select! {
            () = edge.clock.sleep(PERIOD) => {}
            Ok(()) = reached.changed() => {}
            () = ended.cancelled() => return,
        }
        // Before the first table there is nothing to say, and nobody must wait for it.
        if *reached.borrow_and_update() == 0 {
            continue;
        }
        let asked = edge.clock.now();
        let told = tokio::select! {
            told = tokio::time::timeout(PATIENCE, tell(&edge)) => told,
            () = ended.cancelled() => return,
        };
        let fault = match told {
            Ok(Ok(())) => {
                edge.confirmed.heard(asked);
                None
            }
            Ok(Err(problem)) => Some(problem.detail),
            Err(_) => Some("no answer".to_owned()),
        };
        match &fault {
            Some(why) if !failing => tracing::warn!(why, "control was not told what is served; trying on"),
            None if failing => tracing::info!("control is told again what is served"),
            _ => {}
        }
        failing = fault.is_some();
    }
}

async fn tell(edge: &Edge) -> Result<(), tutti_model::Problem> {
    // Read first: figures may be newer than what is said to be reached, never older.
    let reached = *edge.reached.borrow();
    let report = IngressReport {
        ingress: edge.name.clone(),
        spec: IngressSpec {
            http: edge.address.clone(),
            release: env!("CARGO_PKG_VERSION").to_owned(),
            addresses: edge.public.clone(),
        },
        reached,
        stats: edge.tables.stats(),
    };
    edge.zone.report_ingress(report).await
}
