//! What control is told: that this server lives.

use crate::Shared;
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use tutti_api::zone::DnsReport;
use tutti_model::Millis;

/// Between two reports: often enough for what one control tells the others.
const PERIOD: Millis = Millis::seconds(2);
/// Longest wait for one to be taken; the next says the same.
const PATIENCE: Duration = Duration::from_secs(5);

/// Reports until `stopping`.
pub(crate) async fn report(shared: Arc<Shared>, stopping: CancellationToken) {
    tokio::select! {
        () = report_on(&shared) => {}
        () = stopping.cancelled() => {}
    }
}

async fn report_on(shared: &Shared) {
    let report = DnsReport { server: shared.name.clone(), release: env!("CARGO_PKG_VERSION").to_owned() };
    let mut failing = false;
    loop {
        let fault = match tokio::time::timeout(PATIENCE, shared.zone.report_dns(&report)).await {
            Ok(Ok(())) => None,
            Ok(Err(problem)) => Some(problem.detail),
            Err(_) => Some("no answer".to_owned()),
        };
        match &fault {
            Some(why) if !failing => {
                tracing::warn!(why, "control was not told that this DNS server lives; trying on")
            }
            None if failing => tracing::info!("control is told again that this DNS server lives"),
            _ => {}
        }
        failing = fault.is_some();
        shared.clock.sleep(PERIOD).await;
    }
}
