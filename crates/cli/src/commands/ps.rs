//! `tutti ps`: what runs, and how it changes.

use super::{
    Session, now, tables,
    watch::{Mirror, settle},
};
use crate::{Format, args::PsArgs, exit::Failed, live::Live};
use futures_util::StreamExt as _;
use std::time::Duration;
use tutti_api::client::Filter;
use tutti_model::{
    Resource,
    instance::{InstanceSpec, InstanceState},
};

/// How often ages are drawn anew.
pub(super) const TICK: Duration = Duration::from_secs(1);

pub(super) async fn ps(session: &Session<'_>, args: &PsArgs) -> Result<(), Failed> {
    let filter = session.filter(args.service.as_ref()).await?;
    // Also for a watch: what cannot be read at all is told at once, not tried again for ever.
    let instances = running(session.client.list::<InstanceSpec>(&filter).await?);
    if !args.watch {
        return session.ui.result(&instances, || tables::instances(&instances, now()).show(session.ui));
    }
    if session.ui.format != Format::Table {
        return events(session, &filter).await;
    }
    let mut events = session.client.watch::<InstanceSpec>(&filter, None);
    let mut mirror = Mirror::default();
    let mut live = Live::new(session.ui);
    let mut tick = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            event = events.next() => match event {
                None => return Ok(()),
                Some(event) => {
                    if !mirror.apply(event?) {
                        continue;
                    }
                    for event in settle(&mut events).await {
                        mirror.apply(event?);
                    }
                }
            },
            // Ages alone are worth a redraw, but no repetition where nothing can be redrawn.
            _ = tick.tick(), if session.ui.terminal && mirror.is_whole() => {}
        }
        let instances = running(mirror.objects());
        live.draw(&tables::instances(&instances, now()).show(session.ui))?;
    }
}

async fn events(session: &Session<'_>, filter: &Filter) -> Result<(), Failed> {
    let mut events = session.client.watch::<InstanceSpec>(filter, None);
    while let Some(event) = events.next().await {
        session.ui.event(&event?)?;
    }
    Ok(())
}

/// Those that have not ended, by version, the oldest first.
fn running(mut instances: Vec<Resource<InstanceSpec>>) -> Vec<Resource<InstanceSpec>> {
    instances.retain(|instance| instance.status.state != InstanceState::Stopped);
    sort(&mut instances);
    instances
}

/// By version, the oldest first.
pub(super) fn sort(instances: &mut [Resource<InstanceSpec>]) {
    instances.sort_by(|a, b| {
        (&a.spec.version, a.created_at, &a.name).cmp(&(&b.spec.version, b.created_at, &b.name))
    });
}
