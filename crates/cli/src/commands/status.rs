//! `tutti status`: what serves, and whether all is well.

use super::{Session, ps::TICK, tables, watch::settle};
use crate::{
    Format,
    exit::Failed,
    live::Live,
    ui::{Tone, Ui},
};
use futures_util::{StreamExt as _, stream};
use tutti_api::{
    WatchEvent,
    client::Filter,
    wire::{ClusterStatus, ServiceSummary},
};
use tutti_model::{
    Problem, deployment::DeploymentSpec, instance::InstanceSpec, resource::Object, service::ServiceSpec,
};

/// Most problems that are told one by one, and most services: together they fit on a screen.
const PROBLEMS: usize = 10;
const SERVICES: usize = 20;

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
    let mut out = format!("tutti {}: {}\n", status.release, verdict(status, ui));
    for problem in status.problems.iter().take(PROBLEMS) {
        let problem = ui.wrap(problem, 2);
        out.push_str(&format!("{} {problem}\n", ui.paint(Tone::Bad, "!")));
    }
    if let Some(more) = status.problems.len().checked_sub(PROBLEMS).filter(|more| *more > 0) {
        out.push_str(&format!("  and {more} more: tutti status -o json\n"));
    }
    for zone in zones {
        out.push_str(&format!("{zone}\n"));
    }
    out.push('\n');
    let shown = worth_a_look(&status.services);
    out.push_str(&tables::services_serving(&shown).show(ui));
    if let Some(more) = status.services.len().checked_sub(SERVICES).filter(|more| *more > 0) {
        out.push_str(&format!(
            "and {more} more, which {}: tutti service list\n",
            if is_well(shown.last()) { "are well" } else { "are not all well" }
        ));
    }
    out
}

/// Whether all is well, in a word.
fn verdict(status: &ClusterStatus, ui: &Ui) -> String {
    match status.problems.len() {
        0 => ui.paint(Tone::Good, "all is well"),
        1 => ui.paint(Tone::Bad, "1 problem"),
        more => ui.paint(Tone::Bad, &format!("{more} problems")),
    }
}

/// As many services as fit on a screen: those first that are not as they should be, else in the order of their names.
fn worth_a_look(services: &[ServiceSummary]) -> Vec<ServiceSummary> {
    let mut shown = services.to_vec();
    shown.sort_by_key(|service| is_well(Some(service)));
    shown.truncate(SERVICES);
    shown
}

fn is_well(service: Option<&ServiceSummary>) -> bool {
    service.is_none_or(|service| matches!(service.state.as_str(), "serving" | "idle"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::fixtures as fix;

    fn shown(status: &ClusterStatus) -> String {
        picture(status, &Ui::of_process(Format::Table))
    }

    #[test]
    fn the_first_line_says_whether_all_is_well_and_the_next_what_is_not() {
        let well = ClusterStatus { problems: Vec::new(), ..fix::status() };
        assert!(shown(&well).lines().next().unwrap().ends_with(": all is well"));
        let ill = ClusterStatus { problems: vec!["node two is silent".into(), "x".into()], ..well };
        let lines = shown(&ill);
        let mut lines = lines.lines();
        assert!(lines.next().unwrap().ends_with(": 2 problems"));
        assert_eq!(lines.next(), Some("! node two is silent"));
    }

    #[test]
    fn it_stays_on_one_screen_and_what_is_not_well_stays_on_it() {
        let of = |number: usize, state: &str| ServiceSummary {
            service: format!("example.com:s{number}").parse().unwrap(),
            state: state.into(),
            ..fix::summary()
        };
        let mut services: Vec<_> = (0..1000).map(|number| of(number, "serving")).collect();
        services.push(of(1000, "degraded"));
        let problems = (0..200).map(|number| format!("problem {number}")).collect();
        let text = shown(&ClusterStatus { services, problems, ..fix::status() });
        assert!(text.lines().count() < 50, "{text}");
        assert!(text.contains("degraded"), "{text}");
        assert!(text.contains("and 981 more, which are well: tutti service list"), "{text}");
        assert!(text.contains("and 190 more: tutti status -o json"), "{text}");
    }
}
