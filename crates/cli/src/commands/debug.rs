//! `tutti debug`: what to look at when the cloud itself is not well.

use super::{Session, bundle};
use crate::{
    args::DebugCommand,
    exit::Failed,
    table::{Table, toned},
    text::{self, since},
    ui::{Tone, Ui},
};
use tutti_api::debug::{ReconcilerLoop, Reconcilers};
use tutti_model::{Millis, Timestamp};

/// A run that takes longer than this is shown as one that may hang: each does a bounded number of short transactions.
const LONG_RUN: Millis = Millis::seconds(10);

pub(super) async fn debug(session: &Session<'_>, command: &DebugCommand) -> Result<(), Failed> {
    match command {
        DebugCommand::Reconcilers => {
            let reconcilers = session.client.reconcilers().await?;
            session.ui.result(&reconcilers, || picture(&reconcilers, session.ui))
        }
        DebugCommand::Bundle { file } => bundle::bundle(session, file.as_deref()).await,
    }
}

fn picture(reconcilers: &Reconcilers, ui: &Ui) -> String {
    let now = reconcilers.now;
    let mut out = leading(reconcilers, ui) + "\n\n";
    let titles = ["LOOP", "LAST RUN", "TOOK", "LONGEST", "RUNS", "DUE", "LATER", "ERRORS"];
    let mut table = Table::new(&titles, "no loop has run here yet");
    for one in &reconcilers.loops {
        let errors = if one.errors > 0 { Tone::Busy } else { Tone::Plain };
        table.row([
            one.name.as_str().into(),
            last_run(one, now),
            one.took.to_string().into(),
            one.longest.to_string().into(),
            one.runs.to_string().into(),
            one.due.to_string().into(),
            one.later.to_string().into(),
            toned(one.errors.to_string(), errors),
        ]);
    }
    out.push_str(&table.show(ui));
    let errors: Vec<String> = reconcilers
        .loops
        .iter()
        .filter_map(|one| {
            let error = one.last_error.as_ref()?;
            let text =
                format!("{}, {} ago: {}: {}", one.name, since(error.at, now), error.object, error.text);
            Some(format!("{} {}\n", ui.paint(Tone::Bad, "!"), ui.wrap(&text::harmless(&text), 2)))
        })
        .collect();
    if !errors.is_empty() {
        out.push_str("\nlast errors, each tried again:\n");
        out.extend(errors);
    }
    out
}

/// Whether the control that answers leads, and where to ask if it does not.
fn leading(reconcilers: &Reconcilers, ui: &Ui) -> String {
    let control = &reconcilers.control;
    match (reconcilers.leads_since, &reconcilers.leader) {
        (Some(begun), _) => format!("control {control} leads since {}", since(begun, reconcilers.now)),
        (None, Some(leader)) if leader != control => {
            let address = reconcilers.leader_address.as_ref();
            let ask =
                address.map_or_else(String::new, |address| format!(": ask it with --api https://{address}"));
            format!("control {control} does not lead, and its loops rest; {leader} leads{ask}")
        }
        (None, _) => ui.paint(Tone::Bad, &format!("control {control} does not lead, nor is known who does")),
    }
}

fn last_run(one: &ReconcilerLoop, now: Timestamp) -> crate::table::Cell {
    match (one.running_since, one.last_run) {
        (Some(begun), _) if now.since(begun) >= LONG_RUN => {
            toned(format!("runs for {}", since(begun, now)), Tone::Bad)
        }
        (_, Some(last)) => format!("{} ago", since(last, now)).into(),
        (_, None) => "never".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Format;
    use tutti_api::debug::LoopError;

    fn reconcilers() -> Reconcilers {
        let now = Timestamp(1_000_000);
        let zone = ReconcilerLoop {
            name: "zone".into(),
            running_since: Some(Timestamp(now.0 - 60_000)),
            last_run: Some(Timestamp(now.0 - 61_000)),
            took: Millis(7),
            longest: Millis(1500),
            runs: 42,
            errors: 1,
            last_error: Some(LoopError {
                at: Timestamp(now.0 - 5000),
                object: "example.com:web".into(),
                text: "unavailable: the store does not answer".into(),
            }),
            due: 3,
            later: 4,
        };
        let global = ReconcilerLoop { name: "global".into(), ..ReconcilerLoop::default() };
        Reconcilers {
            control: "c1".parse().unwrap(),
            now,
            leads_since: Some(Timestamp(0)),
            leader: Some("c1".parse().unwrap()),
            leader_address: None,
            loops: vec![global, zone],
        }
    }

    #[test]
    fn a_loop_that_hangs_and_its_errors_are_seen_at_a_glance() {
        let ui = Ui::of_process(Format::Table);
        let shown = picture(&reconcilers(), &ui);
        for part in [
            "control c1 leads since 16m",
            "global  never",
            "zone    runs for 60s",
            "! zone, 5s ago: example.com:web: unavailable: the store does not answer",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    }

    #[test]
    fn who_does_not_lead_says_who_does_and_where() {
        let ui = Ui::of_process(Format::Table);
        let mut follows = reconcilers();
        follows.leads_since = None;
        follows.leader = Some("c2".parse().unwrap());
        follows.leader_address = Some("192.0.2.2:7070".into());
        assert!(leading(&follows, &ui).ends_with("c2 leads: ask it with --api https://192.0.2.2:7070"));
        follows.leader = None;
        assert!(leading(&follows, &ui).contains("nor is known who does"));
    }
}
