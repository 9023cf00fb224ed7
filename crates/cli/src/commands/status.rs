//! `tutti status`: what serves, and whether all is well.

use super::{Session, ps::TICK, tables, watch::settle};
use crate::{
    Format,
    exit::Failed,
    live::Live,
    ui::{Tone, Ui},
};
use futures_util::{StreamExt as _, stream};
use tutti_api::{WatchEvent, client::Filter, wire::ClusterStatus};
use tutti_model::{
    Problem, deployment::DeploymentSpec, instance::InstanceSpec, resource::Object, service::ServiceSpec,
};

pub(super) async fn status(session: &Session<'_>, watch: bool) -> Result<(), Failed> {
    let status = session.client.status().await?;
    if !watch {
        return session.ui.result(&status, || picture(&status, session.ui));
    }
    // The status is no object of its own; whenever something that it is made of changes, it is asked for anew.
    let mut changes = stream::select_all([
        changed::<ServiceSpec>(session),
        changed::<DeploymentSpec>(session),
        changed::<InstanceSpec>(session),
    ]);
    let mut live = Live::new(session.ui);
    show(session, &mut live, &status)?;
    while let Some(change) = changes.next().await {
        change?;
        for more in settle(&mut changes).await {
            more?;
        }
        match session.client.status().await {
            Ok(status) => show(session, &mut live, &status)?,
            // The watches come back by themselves once control does, and lead here again.
            Err(problem) if passes(&problem) => tokio::time::sleep(TICK).await,
            Err(problem) => return Err(problem.into()),
        }
    }
    Ok(())
}

fn passes(problem: &Problem) -> bool {
    use tutti_model::ErrorCode;
    matches!(problem.code, ErrorCode::Unavailable | ErrorCode::Timeout)
}

fn changed<S: Object>(session: &Session<'_>) -> stream::BoxStream<'static, Result<(), Problem>> {
    let events = session.client.watch::<S>(&Filter::default(), None);
    events
        .filter_map(|event| async {
            match event {
                Err(problem) => Some(Err(problem)),
                Ok(WatchEvent::InitDone { .. }) => Some(Ok(())),
                Ok(WatchEvent::Changes { changes, .. }) if !changes.is_empty() => Some(Ok(())),
                Ok(_) => None,
            }
        })
        .boxed()
}

fn show(session: &Session<'_>, live: &mut Live<'_>, status: &ClusterStatus) -> Result<(), Failed> {
    match session.ui.format {
        Format::Table => Ok(live.draw(&picture(status, session.ui))?),
        Format::Json | Format::Yaml => session.ui.event(status),
    }
}

/// The status for people.
pub(super) fn picture(status: &ClusterStatus, ui: &Ui) -> String {
    let zones: Vec<String> = status
        .zones
        .iter()
        .map(|zone| {
            let ingresses = if zone.ingresses == 1 { "ingress" } else { "ingresses" };
            let places: Vec<String> = zone.http.iter().map(|address| format!("http://{address}")).collect();
            let places = if places.is_empty() { String::new() } else { format!(" at {}", places.join(", ")) };
            let controls = match (&zone.leader, zone.controls) {
                (None, _) => ", no control leads".to_owned(),
                // As in dev: there is but this one, and nothing to tell.
                (Some(_), 0) => String::new(),
                (Some(leader), 1) => format!(", 1 control (leader {leader})"),
                (Some(leader), controls) => format!(", {controls} controls (leader {leader})"),
            };
            format!(
                "{}: {} of {} nodes ready, {} {ingresses}{places}{controls}",
                zone.zone, zone.nodes_ready, zone.nodes, zone.ingresses
            )
        })
        .collect();
    let mut out = format!("tutti {}\n", status.release);
    for zone in zones {
        out.push_str(&format!("{zone}\n"));
    }
    out.push('\n');
    out.push_str(&tables::services_serving(&status.services).show(ui));
    if !status.problems.is_empty() {
        out.push('\n');
        for problem in &status.problems {
            let problem = ui.wrap(problem, 2);
            out.push_str(&format!("{} {problem}\n", ui.paint(Tone::Bad, "!")));
        }
    }
    out
}
